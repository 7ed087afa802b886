"""What exit rules look back at, for rows of any batch.

The model and both engines keep one `Observer` each. After every iteration they tell it which rows
ran and hand what it returns to `exits.decide`; caps, least depths and the record of decisions are
theirs. Shapes: R rows of the batch, N of them at a time, h hidden size, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .counter import DEPTH, uniform
from .exits import Observation
from .request import READOUT_RULES

Readout = Callable[[Tensor], Tensor]
"""States [N, h] that leave the core to logits [N, V]."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What the requests of N rows say to their rule, and where the rows stand."""

    threshold: Tensor  # [N] float32
    log_price: Tensor  # [N] float32
    seed: Tensor  # [N] int64, the request's
    position: Tensor  # [N] int64, the row's in its sequence

    def __getitem__(self, rows: Tensor) -> "Terms":
        """Those of some rows."""
        return Terms(
            threshold=self.threshold[rows],
            log_price=self.log_price[rows],
            seed=self.seed[rows],
            position=self.position[rows],
        )


class Observer:
    """The rows' memory: the product of the exit gates, the last readout, the state before last.

    What a row left behind counts no longer once it observes iteration 1 again.
    """

    def __init__(self, rows: int, *, gate: nn.Module | None) -> None:
        """`gate` maps states [N, h] to logits [N, 1] of leaving; None for a model without one."""
        self._rows, self._gate = rows, gate
        self._memory: dict[str, Tensor] = {}  # [R, ...] each, made when first needed

    def look(
        self,
        rule: str,
        rows: Tensor,
        *,
        iteration: Tensor,
        state: Tensor,
        previous: Tensor,
        terms: Terms,
        sampled: bool,
        readout: Readout,
    ) -> Observation:
        """What `rule` sees of `rows` [N], indices in the batch, after an iteration.

        A rule must look at a row after each of its iterations from the first on.

        Args:
            iteration: [N] int64, the one that just ended, from 1.
            state: [N, h] after it.
            previous: [N, h] before it.
            terms: of these N rows.
            sampled: draw by (seed, position, iteration), for a policy that decides by chance.
            readout: called for the rules that look at predictions.
        """
        before, survival, logprobs, logprobs_before = previous, None, None, None
        if rule == "second_order":
            older = self._recall("state", rows, previous)
            before = torch.where((iteration > 1)[:, None], older, previous)
            self._memory["state"][rows] = previous
        elif rule in READOUT_RULES:
            logprobs = readout(state).float().log_softmax(-1)
            logprobs_before = self._recall("readout", rows, logprobs)
            self._memory["readout"][rows] = logprobs
        elif rule == "q_exit" and self._gate is not None:
            survival = self._survival(rows, iteration, torch.sigmoid(-self._gate(state).float()))
        draws = uniform(terms.seed, terms.position, iteration, stream=DEPTH) if sampled else None
        return Observation(
            iteration=iteration,
            state=state,
            previous=previous,
            before=before,
            threshold=terms.threshold,
            log_price=terms.log_price,
            logprobs=logprobs,
            previous_logprobs=logprobs_before,
            survival=survival,
            uniform=draws,
        )

    def _survival(self, rows: Tensor, iteration: Tensor, stay: Tensor) -> Tensor:
        """The product [N] of the gates' chances to stay [N, 1] so far."""
        stay = stay[:, 0]
        product = self._recall("survival", rows, stay) * stay
        survival = torch.where(iteration == 1, stay, product)
        self._memory["survival"][rows] = survival
        return survival

    def _recall(self, name: str, rows: Tensor, like: Tensor) -> Tensor:
        """What rows [N] remember under a name, of the shape of `like` [N, ...]."""
        if name not in self._memory:
            self._memory[name] = like.new_zeros((self._rows, *like.shape[1:]))
        return self._memory[name][rows]
