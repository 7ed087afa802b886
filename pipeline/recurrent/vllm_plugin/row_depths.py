"""Which depth every row of a batch runs at, who decides it, and what was decided.

Shapes: N rows (positions that one forward pass computes), R requests.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..request import READOUT_RULES, DepthRequest
from .asked_depth import KEY, depth_of_terms

MOST_REPORTS = 1024
"""Requests that ended and can still be asked about."""


@dataclass
class TrackedRequest:
    """One request: how its depths are chosen, and those chosen so far.

    The lists outlive a preemption: recomputed positions run at the depths they ran at.
    """

    request: DepthRequest
    seed: int
    prompt_tokens: int
    depths: list[int] = field(default_factory=list)  # from the last prompt position on
    logprobs: list[float] = field(default_factory=list)


class DepthLog:
    """The requests in flight, by vLLM's request id."""

    def __init__(
        self,
        *,
        num_iterations: int,
        max_iterations: int,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        """`config` is the model's, with the calibration that efforts are looked up in."""
        self._config = config or {}
        self._plain = DepthRequest(depth=num_iterations)
        self._max = max_iterations
        self._entries: dict[str, TrackedRequest] = {}
        self._reports: dict[str, list[int]] = {}  # depths of requests that ended

    def __len__(self) -> int:
        return len(self._entries)

    def track(
        self, name: str, extra: Mapping[str, Any] | None, *, seed: int | None, prompt_tokens: int
    ) -> TrackedRequest:
        """The request of that name; a new one from its `SamplingParams.extra_args` and seed.

        Raises ValueError for a depth that the model has no KV plane for, and for an effort of a
        model that was never calibrated.
        """
        entry = self._entries.get(name)
        if entry is None:
            request = self._plain
            if extra and KEY in extra:
                request = depth_of_terms(extra[KEY], self._config)
            if request.deepest > self._max:
                raise ValueError(
                    f"a depth of {request.deepest} was asked of a model with "
                    f"max_iterations={self._max}"
                )
            entry = TrackedRequest(request, seed or 0, prompt_tokens)
            self._entries[name] = entry
        return entry

    def find(self, name: str) -> TrackedRequest:
        """The request of that name; for vLLM's own trial runs, one at the configured depth."""
        return self._entries.get(name) or TrackedRequest(self._plain, 0, 1)

    def take(self, names: Iterable[str]) -> list[tuple[list[int], list[float]]]:
        """Depths and their log-probabilities of requests that ended, which are then forgotten."""
        entries = [self._ended(name) for name in names]
        return [([], []) if e is None else (e.depths, e.logprobs) for e in entries]

    def keep(self, names: Iterable[str]) -> None:
        """Forget all other requests."""
        for name in self._entries.keys() - set(names):
            self._ended(name)

    def report(self, name: str, tokens: int | None) -> tuple[int, int]:
        """Iterations and tokens of the requests, in flight or ended, whose id holds `name`, of
        each at most the first `tokens`: a position after the last token may have run in advance.
        """
        known = [(k, e.depths) for k, e in self._entries.items()]
        depths = [d[:tokens] for k, d in (*self._reports.items(), *known) if name in k]
        return sum(map(sum, depths)), sum(map(len, depths))

    def _ended(self, name: str) -> TrackedRequest | None:
        entry = self._entries.pop(name, None)
        if entry is not None:
            self._reports[name] = entry.depths
            while len(self._reports) > MOST_REPORTS:
                self._reports.pop(next(iter(self._reports)))
        return entry


@dataclass
class Rows:
    """The rows of one forward pass, in vLLM's order: by request, then by position."""

    requests: Sequence[TrackedRequest]  # [R]
    owner: np.ndarray  # [N] index of the row's request
    position: np.ndarray  # [N] absolute
    cap: np.ndarray  # [N] the deepest that the row may run
    token: np.ndarray  # [N] index of the token that the row generates; under 0: prompt
    by_rule: np.ndarray  # [N] bool: a rule may stop the row before its cap

    def phases(self) -> list[np.ndarray]:
        """Row indices in the order of computation: all at once, unless a rule reads predictions.

        Those need the coda of the same request's earlier rows.
        """
        every = np.arange(len(self.cap))
        reads = np.array([t.request.rule in READOUT_RULES for t in self.requests])
        last = self.by_rule & reads[self.owner] if reads.any() else self.by_rule & False
        if last.any() and len(every) > len(self.requests):
            return [every[~last], every[last]]
        return [every]

    def record(self, rows: np.ndarray, depth: np.ndarray, logprob: np.ndarray) -> None:
        """Log the depths [n] at which rows [n] of generated tokens ran; replayed ones are there."""
        for row, ran, chance in zip(rows.tolist(), depth.tolist(), logprob.tolist(), strict=True):
            entry = self.requests[int(self.owner[row])]
            if self.token[row] == len(entry.depths):
                entry.depths.append(ran)
                entry.logprobs.append(chance)


def plan_rows(requests: Sequence[TrackedRequest], starts: np.ndarray, computed: np.ndarray) -> Rows:
    """Rows of a batch of R requests.

    Args:
        requests: [R].
        starts: [R + 1] first row of every request, and the number of rows.
        computed: [R] positions that are in the cache already.
    """
    lengths = np.diff(starts)
    owner = np.repeat(np.arange(len(requests)), lengths)
    position = np.arange(starts[-1]) - (starts[:-1] - computed)[owner]
    prompt = np.array([t.prompt_tokens for t in requests])
    token = position - (prompt[owner] - 1)
    cap = np.array([t.request.prefill_depth for t in requests])[owner]
    by_rule = np.zeros(len(owner), dtype=bool)
    for row in np.flatnonzero(token >= 0).tolist():
        cap[row], by_rule[row] = _choice(requests[int(owner[row])], int(token[row]))
    return Rows(requests, owner, position, cap, token, by_rule)


def _choice(entry: TrackedRequest, token: int) -> tuple[int, bool]:
    """The cap of a generated token's row, and whether a rule decides under it."""
    request, depths = entry.request, entry.depths
    if token < len(depths):
        return depths[token], False
    first = token - token % request.segment
    if request.rule == "policy" and first < min(token, len(depths)):
        return depths[first], False
    return request.planned(token), request.rule not in ("fixed", "schedule")
