"""The iterations of one batch: who is still in the core, and what they left behind.

Read `Loop.run` first: before each iteration sequences that are done leave (`_let_go`), then the
core runs (`_step`, `_core`), then a rule may stop positions (`position_exits`), and at the end
deeper planes of the cache are filled (`_fill_planes`, `_project_planes`). The rule of attention is
in `_core`: a position that left shows the keys and values that it left with, or, where iterations
have layers of their own, those that these layers project from the state that it left with.

Shapes: B sequences, b of them still iterating, T new tokens, S attended tokens, h hidden size.
"""

import dataclasses
from collections.abc import Callable
from contextlib import nullcontext
from typing import Protocol

import torch
from torch import Tensor, nn

from .blocks import Block, KeyValue
from .cache import RecurrentCache
from .config import RecurrentConfig
from .injection import Injection
from .position_exits import PositionExits
from .shared_prefix import SharedPrefix
from .token_batch import TokenBatch


class Core(Protocol):
    """What the loop uses of a `RecurrentModel`."""

    config: RecurrentConfig
    injection: Injection
    core: nn.ModuleList

    def first_state(self, embedded: Tensor, position_ids: Tensor) -> Tensor: ...

    def iterate(
        self,
        state: Tensor,
        embedded: Tensor,
        iteration: int,
        through_core: Callable[[Tensor], Tensor],
    ) -> Tensor: ...


@dataclasses.dataclass
class _Inside:
    """The sequences that still iterate: b of the batch's B."""

    rows: Tensor | None  # [b] their indices in the batch; None: all
    embedded: Tensor  # [b, T, h]
    rope: KeyValue  # [b, T, D] each
    mask: Tensor | SharedPrefix | None  # [b or 1, 1, T, S]
    caps: Tensor | int  # [b, T]
    last: list[dict[int, KeyValue]]  # each token's last keys and values, by layer and slot

    def only(self, stay: Tensor) -> "_Inside":
        """Those of the sequences whose indices `stay` [c] are given."""
        assert isinstance(self.caps, Tensor)
        each = isinstance(self.mask, Tensor) and self.mask.shape[0] > 1
        return _Inside(
            rows=stay if self.rows is None else self.rows[stay],
            embedded=self.embedded[stay],
            rope=(self.rope[0][stay], self.rope[1][stay]),
            mask=self.mask[stay] if each and isinstance(self.mask, Tensor) else self.mask,
            caps=self.caps[stay],
            last=[
                {slot: (k[stay], v[stay]) for slot, (k, v) in slots.items()} for slots in self.last
            ],
        )


class Loop:
    """The iterations of one batch."""

    def __init__(
        self,
        model: Core,
        batch: TokenBatch,
        rope: KeyValue,
        *,
        embedded: Tensor,
        caps: Tensor | int,
        exits: PositionExits | None,
        every_state: bool,
    ) -> None:
        """Of the prelude's output [B, T, h]. `exits` decide on a single new position a sequence;
        `every_state` fills `states`."""
        self.model, self.batch, self.embedded, self.caps = model, batch, embedded, caps
        self.exits, self.every_state = exits, every_state
        self.blocks, self.tied = list(model.core), model.config.tie_iterations
        last: list[dict[int, KeyValue]] = [{} for _ in range(model.config.core_layers)]
        self.inside = _Inside(None, embedded, rope, batch.mask, caps, last)
        # per sequence, on the host, where sequences can leave early; a cache wants all of them
        self.lasts = (
            None if isinstance(caps, int) or batch.cache is not None else caps.amax(dim=1).cpu()
        )
        self.iteration = 0
        self.states: list[Tensor] = []  # s_0, s_1, ... [B, T, h]

    def run(self) -> Tensor:
        """The state [B, T, h] of every position as it left the core."""
        state = self._start()
        self._note(state)
        deepest = self.caps if isinstance(self.caps, int) else int(self.caps.max())
        for iteration in range(1, deepest + 1):
            self.iteration = iteration
            self._let_go()
            previous, state = state, self._step(state)
            self._note(state)
            if self.exits is not None and iteration < deepest:
                self.exits.after(iteration, state=state[:, 0], previous=previous[:, 0])
                if not bool(self.exits.inside.any()):
                    break
        if self.batch.cache is not None:
            if self.tied:
                self._fill_planes(self.batch.cache)
            else:
                self._project_planes(self.batch.cache, state)
        return state

    def depths(self) -> Tensor:
        """Iterations that every position ran, int64 [B, T]."""
        if self.exits is not None:
            return self.exits.depth[:, None]
        if isinstance(self.caps, int):
            shape = (self.batch.rows, self.batch.new)
            return torch.full(shape, self.caps, device=self.embedded.device)
        return self.caps

    def _start(self) -> Tensor:
        state = self.model.first_state(self.embedded, self.batch.position_ids)
        return self.batch.warm(state) if self.model.config.warm_start else state

    def _note(self, state: Tensor) -> None:
        if self.every_state:
            self.states.append(state)

    def _let_go(self) -> None:
        """Leave out the sequences of which no token iterates further: they cost nothing more."""
        if self.lasts is None:
            return
        stay = self.lasts >= self.iteration
        if not bool(stay.all()):
            self.lasts = self.lasts[stay]
            self.inside = self.inside.only(stay.nonzero()[:, 0].to(self.embedded.device))

    def _step(self, state: Tensor) -> Tensor:
        """The states [B, T, h] after one more iteration."""
        rows = self.inside.rows
        before = state if rows is None else state[rows]
        active, live = self._active(), self._live()
        cut = live is not None and not bool(live.any())
        with torch.no_grad() if cut else nullcontext():
            through = lambda hidden: self._core(hidden, active, None if cut else live)  # noqa: E731
            after = self.model.iterate(before, self.inside.embedded, self.iteration, through)
            if live is not None and not cut:
                after = torch.where(live[..., None], after, after.detach())
            if active is not None:
                after = torch.where(active[..., None], after, before)
        return after if rows is None else state.index_copy(0, rows, after)

    def _core(self, hidden: Tensor, active: Tensor | None, live: Tensor | None) -> Tensor:
        cache, inside, left_with = self.batch.cache, self.inside, hidden
        length, slot = self.batch.offset, self._slot(self.iteration)
        for layer, block in enumerate(self._blocks_of(self.iteration)):
            past = None if cache is None else cache.core(layer, self.iteration, length=length)
            slots = inside.last[layer]
            last = slots.get(slot, slots.get(self._slot(self.iteration - 1)))
            if not self.tied and active is not None:
                hidden = torch.where(active[..., None], hidden, left_with)
            hidden, keys, values = block(hidden, inside.rope, inside.mask, past, active, last, live)
            if self.tied:
                slots[slot] = keys[:, :, length:], values[:, :, length:]
            if cache is not None:
                cache.write_core(layer, self.iteration, keys, values)
        return hidden

    def _blocks_of(self, iteration: int) -> list[nn.Module]:
        return self.blocks[self.model.config.blocks_of(iteration)]

    def _slot(self, iteration: int) -> int:
        """Where last keys and values are held: with shared KV, a token that left holds those of
        every plane, not its last alone."""
        cache = self.batch.cache
        shared = cache is not None and self.model.config.kv_planes is not None
        return cache.plane(iteration) if cache is not None and shared else 0

    def _active(self) -> Tensor | None:
        """[b, T] positions that run this iteration; None: all."""
        if self.exits is not None:
            return self.exits.inside[:, None] if self.iteration > 1 else None
        if isinstance(self.inside.caps, int):
            return None
        active = self.inside.caps >= self.iteration
        return None if bool(active.all()) else active

    def _live(self) -> Tensor | None:
        """[b, T] positions whose gradient passes this iteration; None: all.

        Tokens that left count as live: what they left behind still carries their gradient.
        """
        last = self.model.config.backprop_iterations
        if last is None or not torch.is_grad_enabled():
            return None
        caps = torch.as_tensor(self.inside.caps, device=self.embedded.device)
        live = (caps - last < self.iteration).expand(self.inside.embedded.shape[:2])
        return None if bool(live.all()) else live

    def _fill_planes(self, cache: RecurrentCache) -> None:
        """Deeper planes hold a token's last keys and values."""
        length = self.batch.offset
        slot = self._slot(self.iteration)
        for iteration in range(self.iteration + 1, cache.planes + 1):
            for layer, slots in enumerate(self.inside.last):
                past, last = cache.core(layer, iteration, length=length), slots[slot]
                if past is not None:
                    keys, values = (torch.cat(pair, dim=2) for pair in zip(past, last, strict=True))
                    cache.write_core(layer, iteration, keys, values)

    def _project_planes(self, cache: RecurrentCache, state: Tensor) -> None:
        """Deeper planes, up to the last, hold what each iteration's layers project from the states
        [B, T, h] that tokens left with: a later token may go deeper."""
        length, deepest = self.batch.offset, self.model.config.max_iterations
        hidden = self.model.injection.read(state, self.embedded, first=False)
        for iteration in range(self.iteration + 1, deepest + 1):
            for layer, block in enumerate(self._blocks_of(iteration)):
                assert isinstance(block, Block)
                keys, values = block.keys_values(hidden, self.inside.rope)
                past = cache.core(layer, iteration, length=length)
                if past is not None:
                    keys = torch.cat((past[0], keys), dim=2)
                    values = torch.cat((past[1], values), dim=2)
                cache.write_core(layer, iteration, keys, values)
