"""All positions of prompts but the last, in parallel, at one depth per prompt."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.generate.native.forward import RowModel
from pipeline.generate.native.kv_pool import Entries
from pipeline.recurrent.blocks import Block, KeyValue, attend

CHUNK_TOKENS = 8192  # padded positions that run at once: bounds activations


@dataclass(kw_only=True)
class PrefilledPrompt:
    """A prompt in the pool, shared by the rows that continue it."""

    tokens: tuple[int, ...]  # [_P - 1]
    depth: int  # iterations that its positions run
    core: Entries  # [depth, _P - 1]; not tied: [planes, _P - 1]
    dense: Entries  # [_P - 1]
    users: int = 0


def prefill(rows: RowModel, prompts: Sequence[PrefilledPrompt]) -> None:
    """Run prompts and write their keys and values to the entries that they hold."""
    for chunk in _chunks([prompt for prompt in prompts if prompt.tokens]):
        _Chunk(rows, chunk).run(chunk[0].depth)


def _chunks(prompts: list[PrefilledPrompt]) -> Iterator[list[PrefilledPrompt]]:
    """Prompts of one depth and similar lengths."""
    chunk: list[PrefilledPrompt] = []
    for prompt in sorted(prompts, key=lambda p: (p.depth, len(p.tokens))):
        full = (len(chunk) + 1) * len(prompt.tokens) > CHUNK_TOKENS
        if chunk and (full or prompt.depth != chunk[0].depth):
            yield chunk
            chunk = []
        chunk.append(prompt)
    if chunk:
        yield chunk


class _Chunk:
    """B prompts padded on the right to T positions: causal attention never sees the padding."""

    def __init__(self, rows: RowModel, prompts: Sequence[PrefilledPrompt]) -> None:
        self.rows, self.prompts = rows, prompts
        length = max(len(prompt.tokens) for prompt in prompts)
        tokens = np.zeros((len(prompts), length), dtype=np.int64)
        for line, prompt in zip(tokens, prompts, strict=True):
            line[: len(prompt.tokens)] = prompt.tokens
        lengths = np.array([len(prompt.tokens) for prompt in prompts])
        self.real = rows.to(np.flatnonzero(np.arange(length) < lengths[:, None]))
        self.tokens = rows.to(tokens)
        self.positions = torch.arange(length, device=rows.device)[None].expand_as(self.tokens)

    def run(self, depth: int) -> None:
        backbone, pool = self.rows.backbone, self.rows.pool
        rope = self.rows.rope(self.positions)
        dense = self._entries([prompt.dense for prompt in self.prompts])
        hidden = backbone.embed_tokens(self.tokens) * backbone.config.embedding_scale
        for block, store in zip(backbone.prelude, pool.dense.layers, strict=False):
            hidden = self._block(block, hidden, rope, store, dense)
        embedded, state = hidden, backbone.first_state(hidden, self.positions)
        for iteration in range(1, depth + 1):
            core = self._entries([prompt.core[iteration - 1] for prompt in self.prompts])
            blocks = backbone.core[backbone.config.blocks_of(iteration)]

            def through_core(
                hidden: Tensor, core: Tensor = core, blocks: Iterable[nn.Module] = blocks
            ) -> Tensor:
                for block, store in zip(blocks, pool.core.layers, strict=True):
                    hidden = self._block(block, hidden, rope, store, core)
                return hidden

            state = backbone.iterate(state, embedded, iteration, through_core)
        if len(self.prompts[0].core) > depth:
            self._show_deeper(self.rows.left_with(state, embedded), rope, depth)
        hidden = backbone.leave(state)
        coda = zip(backbone.coda, pool.dense.layers[len(backbone.prelude) :], strict=True)
        for layer, (block, store) in enumerate(coda, start=1):
            if layer == len(backbone.coda):  # nobody reads what comes out of the last one
                self._write(block, hidden, rope, store, dense)
            else:
                hidden = self._block(block, hidden, rope, store, dense)

    def _show_deeper(self, inner: Tensor, rope: KeyValue, depth: int) -> None:
        """Keys and values of the iterations after `depth`, from what left the core [B, T, h]."""
        backbone, pool = self.rows.backbone, self.rows.pool
        for plane in range(depth, pool.planes):
            core = self._entries([prompt.core[plane] for prompt in self.prompts])
            blocks = backbone.core[backbone.config.blocks_of(plane + 1)]
            for block, store in zip(blocks, pool.core.layers, strict=True):
                assert isinstance(block, Block)
                self._put(block.keys_values(inner, rope), store, core)

    def _entries(self, by_prompt: list[Entries]) -> Tensor:
        return self.rows.to(np.concatenate(by_prompt)).long()

    def _block(
        self,
        block: nn.Module,
        hidden: Tensor,
        rope: KeyValue,
        store: Tensor,
        entries: Tensor,
    ) -> Tensor:
        assert isinstance(block, Block)
        q, k, v = self._write(block, hidden, rope, store, entries)
        return block.finish(hidden, attend(q, k, v, None))

    def _write(
        self,
        block: nn.Module,
        hidden: Tensor,
        rope: KeyValue,
        store: Tensor,
        entries: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of a block's input, the latter two put into the pool."""
        assert isinstance(block, Block)
        q, k, v = block.project(hidden, rope)
        self._put((k, v), store, entries)
        return q, k, v

    def _put(self, keys_values: KeyValue, store: Tensor, entries: Tensor) -> None:
        both = torch.cat(keys_values, dim=1).transpose(0, 1).flatten(1, 2)  # [2 K, B * T, D]
        store.index_copy_(1, entries, both.index_select(1, self.real))
