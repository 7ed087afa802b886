"""Which depth every row of a batch runs at, who decides it, and what was decided.

Shapes: N rows (positions that one forward pass computes), R requests.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..effort import request_for
from ..request import READOUT_RULES, DepthRequest

KEY = "depth"
"""Name in `SamplingParams.extra_args` of a `DepthRequest` as a mapping, or of one of effort,
budget and price: `{"depth": {"effort": "low"}}`."""

_BY_CALIBRATION = {"effort", "budget", "price"}


@dataclass
class Tracked:
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
        self._tracked: dict[str, Tracked] = {}

    def __len__(self) -> int:
        return len(self._tracked)

    def tracked(
        self, name: str, extra: Mapping[str, Any] | None, *, seed: int | None, prompt_tokens: int
    ) -> Tracked:
        """The request of that name; a new one from its `SamplingParams.extra_args` and seed.

        Raises ValueError for a depth that the model has no KV plane for, and for an effort of a
        model that was never calibrated.
        """
        found = self._tracked.get(name)
        if found is None:
            request = self._plain
            if extra and KEY in extra:
                request = self._asked(extra[KEY])
            if request.deepest > self._max:
                raise ValueError(
                    f"a depth of {request.deepest} was asked of a model with "
                    f"max_iterations={self._max}"
                )
            found = Tracked(request, seed or 0, prompt_tokens)
            self._tracked[name] = found
        return found

    def _asked(self, asked: Mapping[str, Any]) -> DepthRequest:
        if asked and set(asked) <= _BY_CALIBRATION:
            return request_for(self._config, **asked)
        return DepthRequest(**{**asked, "schedule": tuple(asked.get("schedule", ()))})

    def known(self, name: str) -> Tracked:
        """The request of that name; for vLLM's own trial runs, one at the configured depth."""
        return self._tracked.get(name) or Tracked(self._plain, 0, 1)

    def take(self, names: Iterable[str]) -> list[tuple[list[int], list[float]]]:
        """Depths and their log-probabilities of requests that ended, which are then forgotten."""
        ended = [self._tracked.pop(name, None) for name in names]
        return [([], []) if e is None else (e.depths, e.logprobs) for e in ended]

    def keep(self, names: Iterable[str]) -> None:
        """Forget all other requests."""
        wanted = set(names)
        self._tracked = {k: v for k, v in self._tracked.items() if k in wanted}


@dataclass
class Rows:
    """The rows of one forward pass, in vLLM's order: by request, then by position."""

    tracked: Sequence[Tracked]  # [R]
    owner: np.ndarray  # [N] index of the row's request
    position: np.ndarray  # [N] absolute
    cap: np.ndarray  # [N] the deepest that the row may run
    token: np.ndarray  # [N] index of the token that the row generates; under 0: prompt
    deciding: np.ndarray  # [N] bool: a rule may stop the row before its cap

    def phases(self) -> list[np.ndarray]:
        """Row indices in the order of computation: all at once, unless a rule reads predictions.

        Those need the coda of the same request's earlier rows.
        """
        every = np.arange(len(self.cap))
        reads = np.array([t.request.rule in READOUT_RULES for t in self.tracked])
        last = self.deciding & reads[self.owner] if reads.any() else self.deciding & False
        if last.any() and len(every) > len(self.tracked):
            return [every[~last], every[last]]
        return [every]

    def record(self, rows: np.ndarray, depth: np.ndarray, logprob: np.ndarray) -> None:
        """Log the depths [n] at which rows [n] of generated tokens ran; replayed ones are there."""
        for row, ran, chance in zip(rows.tolist(), depth.tolist(), logprob.tolist(), strict=True):
            tracked = self.tracked[int(self.owner[row])]
            if self.token[row] == len(tracked.depths):
                tracked.depths.append(ran)
                tracked.logprobs.append(chance)


def plan_rows(tracked: Sequence[Tracked], starts: np.ndarray, computed: np.ndarray) -> Rows:
    """Rows of a batch of R requests.

    Args:
        tracked: [R].
        starts: [R + 1] first row of every request, and the number of rows.
        computed: [R] positions that are in the cache already.
    """
    lengths = np.diff(starts)
    owner = np.repeat(np.arange(len(tracked)), lengths)
    position = np.arange(starts[-1]) - (starts[:-1] - computed)[owner]
    prompt = np.array([t.prompt_tokens for t in tracked])
    token = position - (prompt[owner] - 1)
    cap = np.array([t.request.prefill_depth for t in tracked])[owner]
    deciding = np.zeros(len(owner), dtype=bool)
    for row in np.flatnonzero(token >= 0).tolist():
        cap[row], deciding[row] = _choice(tracked[int(owner[row])], int(token[row]))
    return Rows(tracked, owner, position, cap, token, deciding)


def _choice(tracked: Tracked, token: int) -> tuple[int, bool]:
    """The cap of a generated token's row, and whether a rule decides under it."""
    request, known = tracked.request, tracked.depths
    if token < len(known):
        return known[token], False
    decided = token - token % request.segment
    if request.rule == "policy" and decided < min(token, len(known)):
        return known[decided], False
    return request.planned(token), request.rule not in ("fixed", "schedule")
