"""Exit rules at work on rows of one tick: who leaves the core before its cap."""

import numpy as np
from torch import Tensor

from pipeline.generate.native.forward import RowModel
from pipeline.generate.native.row_table import Rows
from pipeline.recurrent.exits import decide
from pipeline.recurrent.observer import Observer, Terms
from pipeline.recurrent.request import RULES


class RowExits:
    """The rules of all rows, each row at its own iteration. A rows of a tick, N of one kind."""

    def __init__(self, model: RowModel, rows: Rows) -> None:
        self.model, self.rows = model, rows
        self.observer = Observer(len(rows.phase), gate=model.backbone.exit_gate)

    def stops(self, active: np.ndarray, *, old: Tensor, new: Tensor) -> np.ndarray:
        """Which of the active rows [A] leave after an iteration that took their states from `old`
        to `new` [A, h]: bool [A]. Rows at their cap make no decision."""
        rows = self.rows
        stops = np.zeros(len(active), dtype=bool)
        by_rule = rows.by_rule[active]
        if not by_rule.any():
            return stops
        free = np.flatnonzero(by_rule & (rows.iteration[active] < rows.cap[active]))
        kinds = 2 * rows.rule[active[free]] + rows.sampled[active[free]]
        for kind in np.unique(kinds):
            members = free[kinds == kind]
            states = _at(self.model, members, old, new)
            stops[members] = self._stops(
                RULES[kind // 2], active[members], *states, sampled=bool(kind % 2)
            )
        return stops

    def _stops(
        self, rule: str, members: np.ndarray, old: Tensor, new: Tensor, *, sampled: bool
    ) -> np.ndarray:
        """Which rows [N] of one rule leave; notes the log-probabilities of their decisions."""
        rows, to = self.rows, self.model.to
        observation = self.observer.look(
            rule,
            to(members),
            iteration=to(rows.iteration[members]),
            state=new,
            previous=old,
            terms=Terms(
                threshold=to(rows.threshold[members]),
                log_price=to(rows.log_price[members]),
                seed=to(rows.seed[members]),
                position=to(rows.position[members]),
            ),
            sampled=sampled,
            readout=lambda state: self._readout(members, state),
        )
        goes_on, logprob = decide(rule, observation, self.model.backbone.halting)
        may_stop = rows.iteration[members] >= rows.min_depth[members]
        rows.depth_logprobs[members, rows.generated[members]] += np.where(
            may_stop, logprob.cpu().numpy(), 0.0
        )
        return may_stop & ~goes_on.cpu().numpy()

    def _readout(self, members: np.ndarray, state: Tensor) -> Tensor:
        """Logits [N, V] if the rows left now."""
        rows = self.rows
        view = self.model.dense_view(members, rows.position[members], rows.dense_entry[members])
        return self.model.readout(state, view)


def _at(model: RowModel, members: np.ndarray, old: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    if len(members) == len(new):
        return old, new
    at = model.to(members)
    return old[at], new[at]
