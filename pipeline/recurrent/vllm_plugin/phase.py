"""The rules at work on one phase of a batch: who goes on after an iteration.

Shapes: n rows of the phase, A of them active, h hidden size, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..counter import DEPTH, uniform
from ..exits import Observation, decide
from ..request import READOUT_RULES
from .row_depths import Rows

Readout = Callable[[Tensor, np.ndarray], Tensor]
"""States [A, h] of rows [A] of the phase to log-probabilities [A, V] of the next token."""


@dataclass(frozen=True)
class States:
    """The active rows' states after the iteration that just ended, and the two before it."""

    now: Tensor  # [A, h]
    previous: Tensor
    before: Tensor

    def then(self, new: Tensor) -> "States":
        """After one more iteration."""
        return States(new, self.now, self.previous)

    def __getitem__(self, keep: Tensor) -> "States":
        return States(self.now[keep], self.previous[keep], self.before[keep])


@dataclass(frozen=True)
class _Group:
    """Rows that one rule decides."""

    rule: str
    sampled: bool
    member: np.ndarray  # [n] bool


class Deciding:
    """Depths of a phase's rows as they come to be decided."""

    def __init__(
        self,
        rows: Rows,
        chosen: np.ndarray,
        *,
        halting: nn.Module | None,
        exit_gate: nn.Module | None,
        readout: Readout,
        device: torch.device,
    ) -> None:
        self._halting, self._gate, self._readout = halting, exit_gate, readout
        self._device = device
        self._cap = rows.cap[chosen]
        self.logprob = np.zeros(len(chosen), dtype=np.float32)
        self._groups = _groups(rows, chosen)
        if not self._groups:
            return
        requests = [rows.tracked[i] for i in rows.owner[chosen].tolist()]
        self._least = np.array([t.request.min_depth for t in requests])
        threshold = torch.tensor([t.request.threshold or 0.0 for t in requests])
        self._threshold = threshold.to(device)
        self._log_price = torch.tensor([t.request.log_price for t in requests]).to(device)
        self._seed = torch.tensor([t.seed for t in requests], device=device)
        self._position = torch.from_numpy(rows.position[chosen]).to(device)
        self._survival = torch.ones(len(chosen), device=device)
        self._predicted: Tensor | None = None  # [n, V] an iteration ago

    @property
    def looks(self) -> bool:
        """Whether any row is decided by more than its cap."""
        return bool(self._groups)

    def after(self, iteration: int, active: np.ndarray, states: States | None) -> np.ndarray:
        """Which of the active rows go on, [A] bool; `states` are needed where a rule `looks`."""
        goes_on = self._cap[active] > iteration
        for group in self._groups:
            picked = np.flatnonzero(group.member[active] & goes_on)
            if len(picked) and states is not None:
                stays = self._decided(group, iteration, active[picked], states, picked)
                goes_on[picked] = stays
        return goes_on

    def _decided(
        self, group: _Group, iteration: int, rows: np.ndarray, states: States, picked: np.ndarray
    ) -> np.ndarray:
        at = torch.from_numpy(rows).to(self._device)
        if len(picked) != len(states.now):
            states = states[torch.from_numpy(picked).to(self._device)]
        seen = self._observe(group, iteration, rows, at, states)
        may = self._least[rows] <= iteration
        if not may.any():
            return ~may
        goes_on, logprob = decide(group.rule, seen, self._halting)
        self.logprob[rows] += np.where(may, logprob.float().cpu().numpy(), 0)
        return goes_on.cpu().numpy() | ~may

    def _observe(
        self, group: _Group, iteration: int, rows: np.ndarray, at: Tensor, states: States
    ) -> Observation:
        predicted = previous = survival = drawn = None
        if group.rule in READOUT_RULES:
            predicted = self._readout(states.now, rows)
            if self._predicted is None:
                self._predicted = predicted.new_zeros(len(self._cap), predicted.shape[-1])
            previous = self._predicted[at] if iteration > 1 else None
            self._predicted[at] = predicted
        elif group.rule == "q_exit" and self._gate is not None:
            stay = torch.sigmoid(-self._gate(states.now).float())[:, 0]
            survival = self._survival[at] * stay
            self._survival[at] = survival
        if group.sampled:
            drawn = uniform(self._seed[at], self._position[at], iteration, stream=DEPTH)
        return Observation(
            iteration=torch.full((len(rows),), iteration, device=self._device),
            state=states.now,
            previous=states.previous,
            before=states.before,
            threshold=self._threshold[at],
            log_price=self._log_price[at],
            logprobs=predicted,
            previous_logprobs=previous,
            survival=survival,
            uniform=drawn,
        )


def _groups(rows: Rows, chosen: np.ndarray) -> list[_Group]:
    deciding = rows.deciding[chosen]
    if not deciding.any():
        return []
    kinds = [(t.request.rule, t.request.sampled) for t in rows.tracked]
    of_row = [kinds[i] for i in rows.owner[chosen].tolist()]
    found = {kind for kind, d in zip(of_row, deciding.tolist(), strict=True) if d}
    return [
        _Group(rule, sampled, deciding & np.array([kind == (rule, sampled) for kind in of_row]))
        for rule, sampled in sorted(found)
    ]
