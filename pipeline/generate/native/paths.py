"""Paths: noisy copies of the states of tokens in the core, beside the rows' own.

A row's own state is its path 0, which the session runs as it runs any row, and which alone decides
how deep the token goes. The paths beside it live here: they hold entries of the pool for their own
keys and values, and give them back as they are left behind. Where one of them wins, its entries and
the row's change places, so that later tokens see the winner's.

Shapes: A rows of a tick, N paths, h hidden size.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from pipeline.generate.native.forward import RowModel
from pipeline.generate.native.row_table import LEAVING, Rows
from pipeline.recurrent.counter import path_noise
from pipeline.recurrent.explore import RIGHT_HEAD
from pipeline.recurrent.policy import HaltingPolicy

MARGIN = 1e-4
"""By how much a path must be better than path 0, in nats: more than float32's rounding, so that a
batch decides nothing."""


class Paths:
    """All paths but the rows' own."""

    def __init__(self, model: RowModel, rows: Rows, judge: HaltingPolicy | None) -> None:
        """`judge`: the head that says whether a state is right already; None: the entropy of the
        next token judges."""
        self.model, self.rows, self.pool, self.judge = model, rows, model.pool, judge
        self.row = np.zeros(0, dtype=np.int64)
        self.path = np.zeros(0, dtype=np.int64)
        self.entries = np.zeros((0, self.pool.planes), dtype=np.int32)
        self.state = torch.zeros(0, model.backbone.config.hidden_size, device=model.device)
        self.own = np.zeros((len(rows.phase), self.pool.planes), dtype=np.int32)  # path 0's entries

    def follow(
        self, active: np.ndarray, *, old: Tensor, new: Tensor, embedded: Tensor, entries: np.ndarray
    ) -> tuple[np.ndarray, Tensor]:
        """Run the paths of the rows of a tick [A], whose own states went from `old` to `new`
        [A, h] with `entries` [A], and leave the unlikelier ones.

        Returns the rows whose token left with a state other than its own, and these states.
        """
        rows = self.rows
        if not (rows.paths[active] > 1).any():
            return active[:0], new[:0]
        self.own[active, rows.iteration[active] - 1] = entries
        self._part(active, old)
        here = np.flatnonzero(np.isin(self.row, active))
        if not len(here):
            return active[:0], new[:0]
        place = np.searchsorted(active, self.row[here])
        before = self._noised(here)
        after = self._iterate(here, before, embedded[self.model.to(place)])
        self.state[self.model.to(here)] = after

        row = self.row[here]
        over = rows.phase[row] == LEAVING
        iteration = rows.iteration[active]
        others = rows.others_alive(active, iteration + 1)[place]
        fewer = others < rows.others_alive(active, iteration)[place]
        judged = np.flatnonzero(over | fewer)
        score = np.full(len(here), -np.inf)
        score[judged] = self._score(row[judged], before, after, judged)
        rank = _ranks(row, score, self.path[here])

        first = np.flatnonzero(over & (rank == 0))
        at = place[first]
        own = self._score(active[at], old, new, at)
        noisy = rows.noise[row[first]] > 0  # others are path 0, whatever rounding makes of them
        won = first[noisy & (score[first] > own + MARGIN)]
        states = after[self.model.to(won)]
        self._change_places(here[won])
        self._leave(here[over | (fewer & (rank >= others))])
        return row[won], states

    def close(self) -> None:
        """Give everything back."""
        self._leave(np.arange(len(self.row)))

    def _part(self, active: np.ndarray, old: Tensor) -> None:
        """Copies of the states of rows whose second iteration this is."""
        rows = self.rows
        parting = np.flatnonzero((rows.iteration[active] == 2) & (rows.paths[active] > 1))
        copies = rows.paths[active[parting]] - 1
        place = np.repeat(parting, copies)
        self.row = np.append(self.row, active[place])
        numbers = [np.arange(1, count + 1) for count in copies.tolist()]
        self.path = np.concatenate([self.path, *numbers])
        fresh = np.zeros((len(place), self.pool.planes), dtype=np.int32)
        self.entries = np.concatenate((self.entries, fresh))
        self.state = torch.cat((self.state.to(old.dtype), old[self.model.to(place)]))

    def _noised(self, here: np.ndarray) -> Tensor:
        """States [N, h] of paths, with the noise of the iteration that they are about to run."""
        rows, to, row = self.rows, self.model.to, self.row[here]
        state = self.state[to(here)]
        noise = path_noise(
            to(rows.seed[row]),
            to(rows.position[row]),
            to(rows.iteration[row]),
            to(self.path[here]),
            width=state.shape[-1],
        )
        length = state.float().pow(2).mean(-1, keepdim=True).sqrt()
        return (state.float() + to(rows.noise[row])[:, None] * length * noise).to(state.dtype)

    def _iterate(self, here: np.ndarray, state: Tensor, embedded: Tensor) -> Tensor:
        """The states after the iteration, their keys and values in entries of their own."""
        rows, pool, row = self.rows, self.pool, self.row[here]
        planes = rows.iteration[row] - 1
        entries = pool.core.take(len(here))
        self._promise(row, -1)
        self.entries[here, planes] = entries
        view = self.model.path_view(row, planes, rows.position[row], entries)
        return self.model.iterate(state, embedded, view, planes)

    def _score(self, row: np.ndarray, before: Tensor, after: Tensor, at: np.ndarray) -> np.ndarray:
        """How likely states are to be right [N], those `at` [N] of before and after an iteration:
        in nats, a logit or minus an entropy."""
        rows, to = self.rows, self.model.to
        state, previous = after[to(at)], before[to(at)]
        if self.judge is not None:
            no_price = torch.zeros(len(at), device=state.device)
            not_yet = self.judge(state.float(), previous.float(), to(rows.iteration[row]), no_price)
            return -not_yet.cpu().numpy()
        score = np.zeros(len(at), dtype=np.float32)
        turn = _ranks(row, score, np.arange(len(row)))
        for number in range(int(turn.max(initial=-1)) + 1):  # a row's readout has one place
            some = np.flatnonzero(turn == number)
            members = row[some]
            view = self.model.dense_view(members, rows.position[members], rows.dense_entry[members])
            logprobs = self.model.readout(state[to(some)], view).float().log_softmax(-1)
            score[some] = (logprobs.exp() * logprobs).sum(-1).cpu().numpy()
        return score

    def _change_places(self, won: np.ndarray) -> None:
        """Later tokens see the keys and values of these paths, not of path 0."""
        rows, pool, row = self.rows, self.pool, self.row[won]
        path, plane = np.nonzero(np.arange(pool.planes) < rows.iteration[row][:, None])
        path, plane = path[plane > 0], plane[plane > 0]  # the first iteration is common
        theirs, own = self.entries[won[path], plane], self.own[row[path], plane]
        pool.write_core(row[path], plane, rows.position[row[path]], theirs)
        self.entries[won[path], plane], self.own[row[path], plane] = own, theirs
        rows.core_entry[row] = self.own[row, rows.iteration[row] - 1]

    def _leave(self, gone: np.ndarray) -> None:
        """Forget paths, and give their entries back."""
        entries = self.entries[gone]
        self.pool.core.give(entries[entries > 0])
        self._promise(np.repeat(self.row[gone], (entries > 0).sum(axis=1)), 1)
        stay = np.ones(len(self.row), dtype=bool)
        stay[gone] = False
        self.row, self.path, self.entries = self.row[stay], self.path[stay], self.entries[stay]
        self.state = self.state[self.model.to(stay)]

    def _promise(self, row: np.ndarray, change: int) -> None:
        """Entries that rows may take for paths: one more or less each time a row is named."""
        np.add.at(self.rows.spare, row, change)
        self.pool.core.promised += change * len(row)


def _ranks(row: np.ndarray, score: np.ndarray, path: np.ndarray) -> np.ndarray:
    """Places [N] among those of equal row, the highest score first; of equals, the first path."""
    order = np.lexsort((path, -score, row))
    ranks = np.empty(len(row), dtype=np.int64)
    ranks[order] = np.arange(len(row)) - np.searchsorted(row[order], row[order])
    return ranks


def judge_of(folder: Path, *, device: str) -> HaltingPolicy | None:
    """The head that a model's folder has for judging paths; None: it has none."""
    file = folder / RIGHT_HEAD
    return HaltingPolicy.of(load_file(file)).eval().to(device) if file.is_file() else None
