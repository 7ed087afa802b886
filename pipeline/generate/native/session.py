"""Continuous batching over sequences and iterations: one call of `generate` at work.

A tick runs one core iteration over every row that is in the core, each at its own iteration.
Rows that leave go through the coda, the head and the next token's prelude, and come back at
iteration 1. So the cost follows the tokens' depths, not the deepest of them.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pipeline.generate.inverse_cdf import sample, token_draws
from pipeline.generate.native.admission import Admission
from pipeline.generate.native.forward import RowModel
from pipeline.generate.native.paths import Paths
from pipeline.generate.native.row_exits import RowExits
from pipeline.generate.native.row_table import ENTERING, IDLE, LEAVING, RUNNING, Rows
from pipeline.records import Request, Rollout
from pipeline.recurrent.policy import HaltingPolicy
from pipeline.recurrent.shape import RecurrentShape

BETWEEN_SHARE = 0.4
"""Share of the running sequences that wait outside the core before the layers around it run:
these cost nearly the same for a few rows as for many."""


class Session:
    """The rows of one call and their ticks. Close it whatever happens."""

    def __init__(
        self,
        requests: Sequence[Request],
        *,
        model: RowModel,
        rows: int,
        ends: np.ndarray,  # [V] bool: tokens that end a sequence
        version: int,
        shape: RecurrentShape,
        judge: HaltingPolicy | None = None,  # of paths; None: the next token's entropy judges
    ) -> None:
        self.model, self.pool = model, model.pool
        self.ends, self.version, self.shape = ends, version, shape
        planes = None if self.pool.tied else self.pool.planes
        self.rows = Rows(rows, positions=self.pool.positions, planes=planes)
        self.admission = Admission(requests, model=model, rows=self.rows)
        self.exits = RowExits(model, self.rows)
        self.paths = Paths(model, self.rows, judge)
        self.judge_width = None if judge is None else judge.state.out_features
        width = model.backbone.config.hidden_size
        self.state = torch.zeros(rows, width, dtype=model.dtype, device=model.device)
        self.embedded = torch.zeros_like(self.state)

    @property
    def busy(self) -> bool:
        """Whether any request is unfinished."""
        return bool(self.admission.waiting) or bool((self.rows.phase != IDLE).any())

    def close(self) -> None:
        """Give everything back to the pool."""
        self.paths.close()
        self.admission.close()

    @torch.inference_mode()
    def tick(self) -> list[Rollout]:
        """One iteration of the rows in the core, and what lies between tokens where it is due."""
        if self.admission.waiting:
            self.admission.admit()
        active = self.rows.in_phase(RUNNING)
        if len(active):
            for rows in self.model.together(active, self.rows.iteration[active]):
                self._iterate(rows)
        inside = int((self.rows.phase == RUNNING).sum())
        running = int((self.rows.phase != IDLE).sum())
        if inside and running - inside < BETWEEN_SHARE * running:
            return []
        rollouts = self._leave(self.rows.in_phase(LEAVING))
        self._enter(self.rows.in_phase(ENTERING))
        return rollouts

    def _iterate(self, active: np.ndarray) -> None:
        rows, pool, at = self.rows, self.pool, self.model.to(active)
        planes, positions = rows.iteration[active], rows.position[active]
        entries = pool.core.take(len(active))
        pool.core.promised -= len(active)
        pool.write_core(active, planes, positions, entries)
        rows.core_entry[active] = entries
        rows.iteration[active] += 1
        rows.held[active] += 1
        view = self.model.core_view(active, planes, positions, entries)
        old, embedded = self.state[at], self.embedded[at]
        new = self.model.iterate(old, embedded, view, planes)
        self.state[at] = new
        stops = self.exits.stops(active, old=old, new=new)
        leaving = active[stops | (rows.iteration[active] >= rows.cap[active])]
        pool.core.promised -= rows.leave(leaving)
        won, states = self.paths.follow(
            active, old=old, new=new, embedded=embedded, entries=entries
        )
        if len(won):
            self.state[self.model.to(won)] = states

    def _leave(self, leaving: np.ndarray) -> list[Rollout]:
        """Rows done with the core: their next tokens, and the rollouts that end with them."""
        if not len(leaving):
            return []
        rows, model, positions = self.rows, self.model, self.rows.position[leaving]
        self._show_deeper(leaving, positions)
        view = model.dense_view(leaving, positions, rows.dense_entry[leaving])
        logits = model.readout(self.state[model.to(leaving)], view)
        tokens, logprobs = (x.cpu().numpy() for x in self._sample(logits, leaving))
        rows.emit(leaving, tokens, logprobs)
        at_end = self.ends[tokens]
        over = at_end | (rows.generated[leaving] >= rows.max_tokens[leaving])
        rollouts = []
        for row, by_eos in zip(leaving[over].tolist(), at_end[over].tolist(), strict=True):
            stop = "eos" if by_eos else "length"
            rollouts.append(
                rows.rollout(
                    row,
                    stop=stop,
                    version=self.version,
                    shape=self.shape,
                    judge_width=self.judge_width,
                )
            )
            self.admission.end(row)
        return rollouts

    def _show_deeper(self, leaving: np.ndarray, positions: np.ndarray) -> None:
        """What the deeper iterations of later tokens will see of the rows' inputs."""
        rows, pool, at = self.rows, self.pool, self.model.to(leaving)
        depths = rows.iteration[leaving]
        if pool.tied:
            pool.fill_deeper(leaving, depths, positions, rows.core_entry[leaving])
            return
        first = int(depths.min())
        if first == pool.planes:
            return
        inner = self.model.left_with(self.state[at], self.embedded[at])
        for plane in range(first, pool.planes):
            skips = np.flatnonzero(depths <= plane)
            entries = pool.core.take(len(skips))
            pool.core.promised -= len(skips)
            some = leaving[skips]
            pool.write_core(some, np.full(len(some), plane), positions[skips], entries)
            rows.held[some] += 1
            self.model.show(inner[self.model.to(skips)], plane, positions[skips], entries)

    def _sample(self, logits: Tensor, leaving: np.ndarray) -> tuple[Tensor, Tensor]:
        rows, to = self.rows, self.model.to
        top_p, greedy = rows.top_p[leaving], rows.greedy[leaving]
        return sample(
            logits,
            temperature=to(rows.temperature[leaving]),
            top_p=to(top_p) if (top_p < 1).any() else None,
            greedy=to(greedy) if greedy.any() else None,
            draws=token_draws(to(rows.seed[leaving]), to(rows.position[leaving])),
        )

    def _enter(self, entering: np.ndarray) -> None:
        """Rows with a new input: through the prelude and into the core."""
        if not len(entering):
            return
        rows, model, pool = self.rows, self.model, self.pool
        positions = rows.position[entering]
        entries = pool.dense.take(len(entering))
        pool.dense.promised -= len(entering)
        pool.write_dense(entering, positions, entries)
        rows.dense_entry[entering] = entries
        view = model.dense_view(entering, positions, entries)
        embedded, state = model.prelude(model.to(rows.token[entering]), view, model.to(positions))
        at = model.to(entering)
        self.embedded[at], self.state[at] = embedded, state
        rows.enter(entering)
