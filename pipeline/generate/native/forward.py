"""The model's parts on N rows, one position of N sequences, with keys and values in the pool.

Shapes: N rows, h hidden size, K KV heads, G query heads per KV head, D head size, L attended
positions of the longest row, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.generate.native.fused import FusedBlock
from pipeline.generate.native.kv_pool import Entries, KvPool
from pipeline.recurrent.blocks import KeyValue
from pipeline.recurrent.model import RecurrentForCausalLM


@dataclass(frozen=True)
class View:
    """What N rows see, the same for every layer of a store."""

    own: Tensor  # [N] int64 entries of the rows' own position
    index: Tensor  # [N * L] int32 entries, padded to the longest row
    bias: Tensor  # [K * N, 1, L] 0, or minus infinity at padding
    rope: KeyValue  # cosine, and sine as `FusedBlock` wants it, [N, D]


class RowModel:
    """Prelude, one core iteration, and coda for rows at positions and iterations of their own."""

    def __init__(self, model: RecurrentForCausalLM, pool: KvPool) -> None:
        self.backbone, self.head, self.pool = model.model, model.lm_head, pool
        config = model.config
        assert config.num_key_value_heads is not None
        assert config.head_dim is not None
        self.kv_heads, self.head_dim = config.num_key_value_heads, config.head_dim
        self.group = config.num_attention_heads // self.kv_heads
        weight = self.head.weight
        self.device, self.dtype = weight.device, weight.dtype
        self._scratch = torch.empty(0, dtype=self.dtype, device=self.device)
        with torch.inference_mode():
            positions = torch.arange(pool.positions, device=self.device)
            cosine, sine = self.backbone.rotary_emb(weight[:1], positions[None])
        self._cosine, self._sine = cosine[0], sine[0]  # [positions, D]
        half = torch.arange(self.head_dim, device=self.device) < self.head_dim // 2
        self._signed_sine = torch.where(half, -self._sine, self._sine)
        self._columns = positions
        nothing = torch.empty(0, device=self.device)
        self._last = np.empty(0, dtype=np.int64), (nothing, (nothing, nothing))
        self._prelude = [FusedBlock(block) for block in self.backbone.prelude]
        core = [FusedBlock(block) for block in self.backbone.core]
        self._core = [core[config.blocks_of(i + 1)] for i in range(config.max_iterations)]
        self._coda = [FusedBlock(block) for block in self.backbone.coda]

    def to(self, values: np.ndarray) -> Tensor:
        """A host array on the model's device."""
        return torch.from_numpy(values).to(self.device)

    def rope(self, positions: Tensor) -> KeyValue:
        """Cosine and sine of positions [...], each [..., D]."""
        return self._cosine[positions], self._sine[positions]

    def prelude(self, tokens: Tensor, view: View, positions: Tensor) -> tuple[Tensor, Tensor]:
        """The prelude's output and s_0, [N, h] each, of tokens [N] at positions [N]."""
        hidden = self.backbone.embed_tokens(tokens) * self.backbone.config.embedding_scale
        layers = self.pool.dense.layers[: len(self._prelude)]
        hidden = self._through(self._prelude, layers, hidden, view)
        return hidden, self.backbone.first_state(hidden, positions)

    def together(self, rows: np.ndarray, planes: np.ndarray) -> list[np.ndarray]:
        """Rows [N] by who can run an iteration together, those that run the same blocks."""
        if self.backbone.config.tie_iterations:
            return [rows]
        return [rows[planes == plane] for plane in np.unique(planes)]

    def iterate(self, state: Tensor, embedded: Tensor, view: View, planes: np.ndarray) -> Tensor:
        """States [N, h] after one more iteration, each row's own: `planes` [N] counts from 0."""
        injection, config = self.backbone.injection, self.backbone.config
        inner = injection.read(state, embedded, first=False)
        gated, first = injection.kind == "gated", self.to(planes == 0)
        if gated:
            inner = torch.where(first[:, None], embedded, inner)
        out = self._through(self._core[planes[0]], self.pool.core.layers, inner, view)
        new = injection.write(state, out, first=False)
        if gated:
            new = torch.where(first[:, None], out, new)
        return self.backbone.core_norm(new) if config.iteration_norm else new

    def left_with(self, state: Tensor, embedded: Tensor) -> Tensor:
        """What blocks project of states [N, h] that left the core before them."""
        return self.backbone.injection.read(state, embedded, first=False)

    def show(self, inner: Tensor, plane: int, positions: np.ndarray, own: Entries) -> None:
        """Put the keys and values of an iteration's blocks into the pool for rows `inner` [N, h]
        that left the core before it."""
        at, entries = self.to(positions), self.to(own).long()
        rope = self._cosine[at], self._signed_sine[at]
        for block, store in zip(self._core[plane], self.pool.core.layers, strict=True):
            store.index_copy_(1, entries, block.keys_values(inner, rope))

    def readout(self, state: Tensor, view: View) -> Tensor:
        """Logits [N, V] of states [N, h] through the coda and the head."""
        layers = self.pool.dense.layers[len(self._prelude) :]
        hidden = self._through(self._coda, layers, self.backbone.leave(state), view)
        return self.head(self.backbone.norm(hidden))

    def core_view(
        self, rows: np.ndarray, planes: np.ndarray, positions: np.ndarray, own: Entries
    ) -> View:
        """What rows see at the iterations of `planes`. All [N]."""
        return self._view(self.pool.core_table, rows * self.pool.planes + planes, positions, own)

    def path_view(
        self, rows: np.ndarray, planes: np.ndarray, positions: np.ndarray, own: Entries
    ) -> View:
        """The same of states beside the rows' own, which see themselves at their own position."""
        view = self.core_view(rows, planes, positions, own)
        index = view.index.view(len(rows), -1)
        index[torch.arange(len(rows), device=self.device), self.to(positions)] = self.to(own)
        return view

    def dense_view(self, rows: np.ndarray, positions: np.ndarray, own: Entries) -> View:
        """What rows see in the prelude and the coda. All [N]."""
        return self._view(self.pool.dense_table, rows, positions, own)

    def _view(self, table: Tensor, lines: np.ndarray, positions: np.ndarray, own: Entries) -> View:
        length = int(positions.max()) + 1
        index = table[:, :length].index_select(0, self.to(lines))
        bias, rope = self._at(positions, length)
        return View(self.to(own).long(), index.view(-1), bias, rope)

    def _at(self, positions: np.ndarray, length: int) -> tuple[Tensor, KeyValue]:
        """Bias and rope of a view. The iterations of a token ask for the same ones."""
        if not np.array_equal(positions, self._last[0]):
            at = self.to(positions)
            hidden = self._columns[:length] > at.repeat(self.kv_heads)[:, None, None]
            bias = torch.zeros((), dtype=self.dtype, device=self.device)
            bias = torch.where(hidden, -torch.inf, bias)
            rope = self._cosine.index_select(0, at), self._signed_sine.index_select(0, at)
            self._last = positions, (bias, rope)
        return self._last[1]

    def _through(
        self, blocks: Sequence[FusedBlock], stores: Sequence[Tensor], hidden: Tensor, view: View
    ) -> Tensor:
        """Blocks over [N, h], each with its store."""
        for block, store in zip(blocks, stores, strict=True):
            q, kv = block.project(hidden, view.rope)
            store.index_copy_(1, view.own, kv)
            hidden = block.finish(hidden, self._attend(q, store, view))
        return hidden

    def _attend(self, q: Tensor, store: Tensor, view: View) -> Tensor:
        """Attention of q [K * G, N, D] over each row's own entries of a store: [N, K * G * D].

        Plain products: for single queries on CPU they take half the time of the fused kernel.
        """
        heads, rows, width = self.kv_heads, q.shape[1], self.head_dim
        length = view.bias.shape[-1]
        buffer = self._buffer(2 * heads * rows * length * width)
        buffer = buffer.view(2 * heads, rows * length, width)
        torch.index_select(store, 1, view.index, out=buffer)
        k = buffer[:heads].view(heads * rows, length, width)
        v = buffer[heads:].view(heads * rows, length, width)
        q = q.unflatten(0, (heads, self.group)).transpose(1, 2)
        q = q.reshape(heads * rows, self.group, width)
        scores = torch.baddbmm(view.bias, q, k.transpose(1, 2), alpha=width**-0.5)
        out = torch.bmm(scores.softmax(-1), v).view(heads, rows, self.group, width)
        return out.transpose(0, 1).reshape(rows, -1)

    def _buffer(self, size: int) -> Tensor:
        if self._scratch.numel() < size:
            self._scratch = torch.empty(size * 3 // 2, dtype=self.dtype, device=self.device)
        return self._scratch[:size]
