"""Keys and values by token: an entry for every (position, iteration) that really ran.

Prelude and coda layers hold one entry per position. A table says which entry a row's position
shows at each iteration; a token that left the core early shows its last entry at deeper ones, so
memory and writes follow depth. Where iterations have layers of their own, each of these projects
the state that the token left with: then every token has an entry for every iteration. Entry 0 is
never written: padding points at it.
"""

import numpy as np
import torch
from torch import Tensor

from pipeline.recurrent.config import RecurrentConfig

Entries = np.ndarray
"""Entry numbers, int32."""

GIB = 2**30


class Store:
    """Entries of some layers that share one numbering, and the promises made to rows."""

    def __init__(
        self, config: RecurrentConfig, *, layers: int, entries: int, dtype: torch.dtype, device: str
    ) -> None:
        kv_heads, head_dim = config.num_key_value_heads, config.head_dim
        assert kv_heads is not None
        assert head_dim is not None
        shape = (2 * kv_heads, entries + 1, head_dim)
        self.layers = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(layers)]
        self.entries = entries
        self.free = entries
        self.promised = 0  # entries that running rows may still take
        self._stack = np.arange(entries, 0, -1, dtype=np.int32)

    def fits(self, count: int) -> bool:
        """Whether `count` more entries can be promised."""
        return self.free - self.promised >= count

    def take(self, count: int) -> Entries:
        """Entries to write to. The caller made sure that they are there."""
        self.free -= count
        return self._stack[self.free : self.free + count].copy()

    def give(self, entries: Entries) -> None:
        """Take entries back."""
        self._stack[self.free : self.free + len(entries)] = entries
        self.free += len(entries)


class KvPool:
    """The stores of the core and of the layers around it, and where rows find their entries."""

    def __init__(
        self,
        config: RecurrentConfig,
        *,
        rows: int,
        positions: int,
        gib: float,
        dtype: torch.dtype,
        device: str,
    ) -> None:
        """Raises ValueError when `gib` holds no position at all."""
        self.planes, self.positions = config.max_iterations, positions
        self.tied = config.tie_iterations
        dense_layers = config.prelude_layers + config.coda_layers
        core_entries, dense_entries = _sizes(
            config, tokens=rows * positions, gib=gib, item_bytes=dtype.itemsize
        )
        kind = {"dtype": dtype, "device": device}
        self.core = Store(config, layers=config.core_layers, entries=core_entries, **kind)
        self.dense = Store(config, layers=dense_layers, entries=dense_entries, **kind)
        self.core_table = torch.zeros(
            (rows * self.planes, positions), dtype=torch.int32, device=device
        )
        self.dense_table = torch.zeros((rows, positions), dtype=torch.int32, device=device)

    def entries_of(self, depth: int) -> int:
        """Entries of the core that a token takes in the end which leaves after `depth`."""
        return depth if self.tied else self.planes

    def write_core(
        self, rows: np.ndarray, planes: np.ndarray, positions: np.ndarray, entries: Entries
    ) -> None:
        """Note the entry of each (row, plane, position); all [N]."""
        where = (rows * self.planes + planes) * self.positions + positions
        _write(self.core_table, where, entries)

    def write_dense(self, rows: np.ndarray, positions: np.ndarray, entries: Entries) -> None:
        """Note the entry of each (row, position); all [N]."""
        _write(self.dense_table, rows * self.positions + positions, entries)

    def fill_deeper(
        self, rows: np.ndarray, depths: np.ndarray, positions: np.ndarray, entries: Entries
    ) -> None:
        """Show the entry that a token left with at every iteration deeper than it ran, where
        iterations are tied."""
        row, plane = np.nonzero(np.arange(self.planes)[None] >= depths[:, None])
        if len(row):
            self.write_core(rows[row], plane, positions[row], entries[row])

    def show_prompt(self, row: int, core: Tensor, dense: Tensor) -> None:
        """Point a row at a prompt's entries: `core` [entries, _P - 1], `dense` [_P - 1]."""
        held, length = core.shape
        first = row * self.planes
        self.core_table[first : first + held, :length] = core
        self.core_table[first + held : first + self.planes, :length] = core[-1:]
        self.dense_table[row, :length] = dense

    def release(self, row: int, *, start: int, held: np.ndarray) -> None:
        """Take back the entries of a row's positions from `start`, `held` [N] of the core each."""
        first, end = row * self.planes, start + len(held)
        core = self.core_table[first : first + self.planes, start:end].cpu().numpy()
        self.core.give(core[np.arange(self.planes)[:, None] < held[None]])
        self.dense.give(self.dense_table[row, start:end].cpu().numpy())


def _write(table: Tensor, where: np.ndarray, entries: Entries) -> None:
    device = table.device
    index = torch.from_numpy(where).to(device)
    table.view(-1).index_copy_(0, index, torch.from_numpy(entries).to(device))


def _sizes(config: RecurrentConfig, *, tokens: int, gib: float, item_bytes: int) -> tuple[int, int]:
    """Entries of the core and of the dense layers: as many as `tokens` positions can ever need,
    or what `gib` holds when positions run the configured number of iterations. Positions whose
    iterations are not tied need the same at any depth."""
    assert config.num_key_value_heads is not None
    assert config.head_dim is not None
    layer_bytes = 2 * config.num_key_value_heads * config.head_dim * item_bytes
    core_bytes = config.core_layers * layer_bytes
    dense_bytes = (config.prelude_layers + config.coda_layers) * layer_bytes
    budget = int(gib * GIB)
    usual = config.num_iterations if config.tie_iterations else config.max_iterations
    position_bytes = dense_bytes + usual * core_bytes
    dense = min(tokens, budget // position_bytes)
    if dense < 1:
        raise ValueError(
            f"kv_cache_gib={gib} holds no position of this model "
            f"({position_bytes} bytes each): raise it"
        )
    core = min(tokens * config.max_iterations, (budget - dense * dense_bytes) // core_bytes)
    return core, dense
