"""The cache of `RecurrentForCausalLM`: one entry per dense layer, and per (core layer, plane)."""

from collections.abc import Callable

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from .blocks import KeyValue
from .config import RecurrentConfig


class RecurrentCache(DynamicCache):
    """Keys and values by layer: prelude, coda, then the core's layers of plane 0, 1, ...

    Plane p holds iteration p + 1 of every token, or, of a token that left the core earlier, its
    last. Planes appear as deeper iterations run; where iterations are not tied, all are there from
    the first token on, and hold what each one's layers project from the state it left with. With
    `kv_planes` = k, iteration i lives in plane (i - 1) mod k (Huginn's shared KV, arXiv
    2502.05171, section 6.2).
    """

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        self._dense = config.prelude_layers + config.coda_layers
        self._core = config.core_layers
        self._planes = config.kv_planes
        self._tied = config.tie_iterations
        self.last_state: Tensor | None = None  # [B, 1, h], for a warm start
        self.segment_depths: Tensor | None = None  # [B, 1] that the running segment decided on
        self.generated = 0  # positions that a depth request decided so far

    def plane(self, iteration: int) -> int:
        """The plane of an iteration (from 1)."""
        return (iteration - 1) % self._planes if self._planes else iteration - 1

    @property
    def planes(self) -> int:
        """Planes that hold anything."""
        return (len(self.layers) - self._dense) // self._core

    def dense(self, layer: int, *, length: int) -> KeyValue | None:
        """The first `length` tokens of a prelude or coda layer; None where there are none."""
        return self._read(layer, length)

    def core(self, layer: int, iteration: int, *, length: int) -> KeyValue | None:
        """The first `length` tokens of a core layer as iteration `iteration` sees them."""
        plane = self.plane(iteration)
        if self._tied:
            plane = min(plane, self.planes - 1)
        return self._read(self._index(layer, plane), length) if plane >= 0 else None

    def write_dense(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Replace a prelude or coda layer's whole content, [B, K, S, D]."""
        self._write(layer, keys, values)

    def write_core(self, layer: int, iteration: int, keys: Tensor, values: Tensor) -> None:
        """Replace the whole content of a core layer's plane."""
        self._write(self._index(layer, self.plane(iteration)), keys, values)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Continue with other sequences of the batch, as beam search does."""
        super().reorder_cache(beam_idx)  # pyright: ignore[reportArgumentType]
        self._map_rows(lambda rows: rows.index_select(0, beam_idx.to(rows.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Continue every sequence `repeats` times."""
        super().batch_repeat_interleave(repeats)
        self._map_rows(lambda rows: rows.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Continue with some sequences of the batch."""
        super().batch_select_indices(indices)
        self._map_rows(lambda rows: rows[indices])

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the newest tokens.

        Raises ValueError when the cache holds what depends on the newest token only: its state
        for a warm start, or the count of tokens that a depth request decided.
        """
        if self.last_state is not None or self.generated:
            raise ValueError(
                "a cache that was filled with a warm start or by a depth request cannot forget "
                "tokens: generate without assistance, or at a fixed num_iterations"
            )
        super().crop(tokens_to_remove)

    def reset(self) -> None:
        """Forget everything."""
        self.layers.clear()
        self.last_state = self.segment_depths = None
        self.generated = 0

    def _map_rows(self, change: Callable[[Tensor], Tensor]) -> None:
        if self.last_state is not None:
            self.last_state = change(self.last_state)
        if self.segment_depths is not None:
            self.segment_depths = change(self.segment_depths)

    def _index(self, layer: int, plane: int) -> int:
        return self._dense + plane * self._core + layer

    def _read(self, index: int, length: int) -> KeyValue | None:
        if length == 0:
            return None
        entry = self._entry(index)
        assert entry.keys is not None
        assert entry.values is not None
        return entry.keys[:, :, :length], entry.values[:, :, :length]

    def _write(self, index: int, keys: Tensor, values: Tensor) -> None:
        while len(self.layers) <= index:
            self.layers.append(DynamicLayer())
        entry = self._entry(index)
        if not entry.is_initialized:
            entry.lazy_initialization(keys, values)
        entry.keys, entry.values = keys, values

    def _entry(self, index: int) -> DynamicLayer:
        entry = self.layers[index]
        assert isinstance(entry, DynamicLayer)
        return entry


def cache_for(
    config: RecurrentConfig, cache: object | None, *, fresh: bool
) -> RecurrentCache | None:
    """The cache of a call: the one that came with it, or where it is `fresh`, a new one.

    Raises ValueError for a cache of another kind.
    """
    if cache is None:
        return RecurrentCache(config) if fresh else None
    if not isinstance(cache, RecurrentCache):
        raise ValueError(
            f"past_key_values is a {type(cache).__name__}; this model keeps keys and values by "
            "iteration: pass a RecurrentCache, or None for a fresh one"
        )
    return cache
