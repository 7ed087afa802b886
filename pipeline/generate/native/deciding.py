"""Exit rules at work on rows of one tick: who leaves the core before its cap."""

import numpy as np
import torch
from torch import Tensor

from pipeline.generate.native.forward import RowModel
from pipeline.generate.native.row_table import Rows
from pipeline.recurrent.counter import DEPTH, uniform
from pipeline.recurrent.exits import Observation, decide
from pipeline.recurrent.request import READOUT_RULES, RULES

Q_EXIT, SECOND_ORDER = RULES.index("q_exit"), RULES.index("second_order")


class Deciding:
    """What rules remember of each row between iterations. R rows, N of them at a time."""

    def __init__(self, model: RowModel, rows: Rows) -> None:
        self.model, self.rows = model, rows
        count, width = len(rows.phase), model.backbone.config.hidden_size
        self.survival = torch.ones(count, device=model.device)
        self.older = torch.zeros(count, width, dtype=model.dtype, device=model.device)
        self.logprobs: Tensor | None = None  # [R, V] of the last readout, made when first needed

    def stopped(self, active: np.ndarray, *, old: Tensor, new: Tensor) -> np.ndarray:
        """Which of the active rows [N] leave after an iteration that took their states from `old`
        to `new` [N, h]: bool [N]. Rows at their cap are not asked."""
        rows = self.rows
        stops = np.zeros(len(active), dtype=bool)
        asked = np.flatnonzero(rows.deciding[active] & (rows.iteration[active] < rows.cap[active]))
        kinds = 2 * rows.rule[active[asked]] + rows.sampled[active[asked]]
        for kind in np.unique(kinds):
            chosen = asked[kinds == kind]
            rule, some = RULES[kind // 2], active[chosen]
            seen = self._observe(rule, some, bool(kind % 2), *_at(self.model, chosen, old, new))
            goes_on, logprob = decide(rule, seen, self.model.backbone.halting)
            free = rows.iteration[some] >= rows.min_depth[some]
            stops[chosen] = free & ~goes_on.cpu().numpy()
            rows.depth_logprobs[some, rows.generated[some]] += np.where(
                free, logprob.cpu().numpy(), 0.0
            )
        return stops

    def _observe(
        self, rule: str, some: np.ndarray, sampled: bool, old: Tensor, new: Tensor
    ) -> Observation:
        rows, to = self.rows, self.model.to
        at, iteration = to(some), to(rows.iteration[some])
        before, logprobs, previous, survival = old, None, None, None
        if rule == "second_order":
            before = torch.where((iteration > 1)[:, None], self.older[at], old)
            self.older[at] = old
        if rule in READOUT_RULES:
            logprobs, previous = self._read(some, at, new)
        if rule == "q_exit":
            survival = self._survive(at, new, first=iteration == 1)
        drawn = None
        if sampled:
            seed, position = to(rows.seed[some]), to(rows.position[some])
            drawn = uniform(seed, position, iteration, stream=DEPTH)
        return Observation(
            iteration=iteration,
            state=new,
            previous=old,
            before=before,
            threshold=to(rows.threshold[some]),
            log_price=to(rows.log_price[some]),
            logprobs=logprobs,
            previous_logprobs=previous,
            survival=survival,
            uniform=drawn,
        )

    def _read(self, some: np.ndarray, at: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Next-token log-probabilities if the rows left now, and those of an iteration ago."""
        rows = self.rows
        seen = self.model.seen_around(some, rows.position[some], rows.dense_entry[some])
        logprobs = self.model.readout(state, seen).float().log_softmax(-1)
        if self.logprobs is None:
            self.logprobs = logprobs.new_zeros(len(rows.phase), logprobs.shape[-1])
        previous = self.logprobs[at]
        self.logprobs[at] = logprobs
        return logprobs, previous

    def _survive(self, at: Tensor, state: Tensor, *, first: Tensor) -> Tensor | None:
        gate = self.model.backbone.exit_gate
        if gate is None:
            return None
        stay = torch.sigmoid(-gate(state).float())[:, 0]
        survival = torch.where(first, stay, self.survival[at] * stay)
        self.survival[at] = survival
        return survival


def _at(model: RowModel, chosen: np.ndarray, old: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    if len(chosen) == len(new):
        return old, new
    at = model.to(chosen)
    return old[at], new[at]
