"""vLLM's paged attention on some rows of a batch, and the KV planes of the core.

Shapes: N rows of the batch, A selected rows, R requests, K KV heads, D head size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from vllm.model_executor.layers.attention import Attention
from vllm.v1.attention.backend import CommonAttentionMetadata

from .row_depths import Rows


@dataclass(frozen=True)
class View:
    """What attention needs to know of the rows it runs on."""

    metadata: Any  # the backend's own
    slots: Tensor  # [A] int64, where their keys and values go


class Paging:
    """Where a batch's sequences lie in the cache."""

    def __init__(
        self,
        owner: np.ndarray,
        position: np.ndarray,
        *,
        slots: Tensor,
        block_table: Tensor,
        builder: Any,
    ) -> None:
        """Of owners [N] and positions [N], cache slots [N], a block table [R, blocks] int32, and
        the attention backend's metadata builder."""
        self._owner, self._position = owner, position
        self._lengths = (position + 1).astype(np.int32)  # of what every row attends to
        self._slots, self._block_table, self._builder = slots, block_table, builder
        self._decoding = len(owner) == len(block_table)  # one row a request

    def view(self, rows: np.ndarray) -> View:
        """Attention over everything before, by the selected rows [A], in ascending order.

        Neighbouring positions of one request form one query: a kernel takes a query's positions
        as consecutive. Their earlier positions must be in the cache by then.
        """
        device = self._slots.device
        index = torch.from_numpy(rows).to(device)
        if self._decoding:
            starts = np.arange(len(rows) + 1, dtype=np.int32)
            lengths, tables, longest = self._lengths[rows], index, 1
        else:
            starts = self._starts(rows)
            lengths = self._lengths[rows[starts[1:] - 1]]
            tables = torch.from_numpy(self._owner[rows[starts[:-1]]]).to(device)
            longest = int((starts[1:] - starts[:-1]).max())
        starts_cpu, lengths_cpu = torch.from_numpy(starts), torch.from_numpy(lengths)
        slots = self._slots[index]
        common = CommonAttentionMetadata(
            query_start_loc=starts_cpu.to(device),
            query_start_loc_cpu=starts_cpu,
            seq_lens=lengths_cpu.to(device),
            seq_lens_cpu_upper_bound=lengths_cpu,
            num_reqs=len(lengths),
            num_actual_tokens=len(rows),
            max_query_len=longest,
            max_seq_len=int(lengths.max()),
            block_table_tensor=self._block_table[tables],
            slot_mapping=slots,
        )
        return View(self._builder.build(0, common), slots)

    def _starts(self, rows: np.ndarray) -> np.ndarray:
        """Where queries begin among the selected rows, and their number; int32."""
        owner, position = self._owner[rows], self._position[rows]
        begins = np.ones(len(rows) + 1, dtype=bool)
        begins[1:-1] = (owner[1:] != owner[:-1]) | (position[1:] != position[:-1] + 1)
        return np.flatnonzero(begins).astype(np.int32)


def attend(layer: Attention, q: Tensor, k: Tensor, v: Tensor, view: View | None) -> Tensor:
    """Write k and v [A, K * D] to the layer's cache and attend by q [A, H * D]: [A, H * D].

    Without a view (vLLM measures memory before there is a cache) the result is zero.
    """
    out = torch.zeros_like(q) if view is None else torch.empty_like(q)
    if view is not None:
        heads = (len(q), -1, layer.head_size)
        k, v = k.view(heads), v.view(heads)
        _write(layer, k, v, layer.kv_cache, view.slots)
        impl: Any = layer.impl  # its Protocols describe less than vLLM itself calls
        impl.forward(
            layer, q.view(heads), k, v, layer.kv_cache, view.metadata, output=out.view(heads)
        )
    return out


def write(layer: Attention, k: Tensor, v: Tensor, slots: Tensor) -> None:
    """Write k and v [A, K * D] to the layer's cache at slots [A]."""
    heads = (len(k), -1, layer.head_size)
    _write(layer, k.view(heads), v.view(heads), layer.kv_cache, slots)


@dataclass(frozen=True)
class Batch:
    """What the hooks add to a forward pass: whose rows these are, and where their caches lie."""

    rows: Rows
    block_table: Tensor  # [R, blocks] int32
    builder: Any  # of attention metadata


class Planes:
    """The core's caches: `layers[plane][layer]`, each plane one iteration's keys and values."""

    def __init__(self, layers: Sequence[Sequence[Attention]]) -> None:
        self._layers = layers
        self._whole: Tensor | None = None
        self._offsets: Tensor | None = None  # [planes, layers] slots
        self._known: Tensor | None = None  # the cache that the two were worked out for

    def fill(self, plane: int, keys: Tensor, values: Tensor, slots: Tensor) -> None:
        """Write rows' keys and values [layers, A, K, D] to every plane from `plane` on."""
        if plane >= len(self._layers):
            return
        self._look()
        if self._whole is None or self._offsets is None:
            for layers in self._layers[plane:]:
                for layer, k, v in zip(layers, keys, values, strict=True):
                    _write(layer, k, v, layer.kv_cache, slots)
            return
        where = (self._offsets[plane:, :, None] + slots).flatten()
        copies = len(self._layers) - plane
        k, v = _repeated(keys, copies), _repeated(values, copies)
        first = self._layers[0][0]
        _write(first, k, v, self._whole, where)

    def _look(self) -> None:
        """See whether all layers lie in one allocation at whole numbers of blocks, as vLLM places
        them unless a backend asks for another layout: then one write reaches all of them."""
        first = self._layers[0][0].kv_cache
        if self._known is first:
            return
        self._known, self._whole, self._offsets = first, None, None
        caches = [layer.kv_cache for layers in self._layers for layer in layers]
        alike = all(
            cache.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
            and cache.stride() == first.stride()
            and cache.shape == first.shape
            for cache in caches
        )
        places = [int(cache.storage_offset()) for cache in caches]
        start, block = min(places), int(first.stride(0))
        if not alike or any((place - start) % block for place in places):
            return
        blocks = [(place - start) // block for place in places]
        shape = (max(blocks) + first.shape[0], *first.shape[1:])
        self._whole = first.as_strided(shape, first.stride(), start)
        offsets = torch.tensor(blocks, device=first.device) * self._block_tokens(first)
        self._offsets = offsets.view(len(self._layers), -1)

    def _block_tokens(self, cache: Tensor) -> int:
        """Tokens in a block: its elements over those of one token's keys and values."""
        layer = self._layers[0][0]
        return cache[0].numel() // (layer.num_kv_heads * 2 * layer.head_size)


def _write(layer: Attention, k: Tensor, v: Tensor, cache: Tensor, slots: Tensor) -> None:
    impl: Any = layer.impl
    impl.do_kv_cache_update(layer, k, v, cache, slots)


def _repeated(x: Tensor, copies: int) -> Tensor:
    return x.expand(copies, *x.shape).reshape(-1, *x.shape[2:])
