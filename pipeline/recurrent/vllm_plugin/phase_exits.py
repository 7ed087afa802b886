"""Exit rules at work on one phase of a batch: who goes on after an iteration.

Shapes: n rows of the phase, A of them active, N of one kind; h hidden size, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..exits import decide
from ..observer import Observer, Terms
from .row_depths import Rows

PhaseReadout = Callable[[Tensor, np.ndarray], Tensor]
"""States [N, h] of rows [N] of the phase to logits [N, V]."""


@dataclass(frozen=True)
class _Kind:
    """Rows that one rule decides."""

    rule: str
    sampled: bool
    member: np.ndarray  # [n] bool


class PhaseExits:
    """The rules of a phase's rows, all at the same iteration."""

    def __init__(
        self,
        rows: Rows,
        members: np.ndarray,
        *,
        halting: nn.Module | None,
        gate: nn.Module | None,
        readout: PhaseReadout,
        device: torch.device,
    ) -> None:
        self._halting, self._readout, self._device = halting, readout, device
        self._cap = rows.cap[members]
        self.logprob = np.zeros(len(members), dtype=np.float32)  # [n] of the decisions so far
        self._kinds = _kinds(rows, members)
        if not self._kinds:
            return
        self._observer = Observer(len(members), gate=gate)
        requests = [rows.requests[i] for i in rows.owner[members].tolist()]
        self._min_depth = np.array([t.request.min_depth for t in requests])
        self._terms = Terms(
            threshold=torch.tensor([t.request.threshold or 0.0 for t in requests]).to(device),
            log_price=torch.tensor([t.request.log_price for t in requests]).to(device),
            seed=torch.tensor([t.seed for t in requests], device=device),
            position=torch.from_numpy(rows.position[members]).to(device),
        )

    def after(
        self, iteration: int, active: np.ndarray, *, state: Tensor, previous: Tensor
    ) -> np.ndarray:
        """Which of the active rows go on after an iteration from `previous` to `state` [A, h]:
        bool [A]."""
        goes_on = self._cap[active] > iteration
        for kind in self._kinds:
            candidates = np.flatnonzero(kind.member[active] & goes_on)
            if not len(candidates):
                continue
            states = state, previous
            if len(candidates) != len(state):
                at = torch.from_numpy(candidates).to(self._device)
                states = state[at], previous[at]
            goes_on[candidates] = self._go_on(kind, iteration, active[candidates], *states)
        return goes_on

    def _go_on(
        self, kind: _Kind, iteration: int, rows: np.ndarray, state: Tensor, previous: Tensor
    ) -> np.ndarray:
        """Which rows [N] of one kind go on, bool [N]."""
        at = torch.from_numpy(rows).to(self._device)
        observation = self._observer.look(
            kind.rule,
            at,
            iteration=torch.full((len(rows),), iteration, device=self._device),
            state=state,
            previous=previous,
            terms=self._terms[at],
            sampled=kind.sampled,
            readout=lambda state: self._readout(state, rows),
        )
        may_stop = self._min_depth[rows] <= iteration
        if not may_stop.any():
            return ~may_stop
        goes_on, logprob = decide(kind.rule, observation, self._halting)
        self.logprob[rows] += np.where(may_stop, logprob.float().cpu().numpy(), 0)
        return goes_on.cpu().numpy() | ~may_stop


def _kinds(rows: Rows, members: np.ndarray) -> list[_Kind]:
    by_rule = rows.by_rule[members]
    if not by_rule.any():
        return []
    by_request = [(t.request.rule, t.request.sampled) for t in rows.requests]
    by_row = [by_request[i] for i in rows.owner[members].tolist()]
    present = {kind for kind, d in zip(by_row, by_rule.tolist(), strict=True) if d}
    return [
        _Kind(rule, sampled, by_rule & np.array([kind == (rule, sampled) for kind in by_row]))
        for rule, sampled in sorted(present)
    ]
