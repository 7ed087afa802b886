"""What the host knows of every row: where its sequence stands and what it has generated.

A row is one running sequence. Arrays are indexed by row number, so that a tick handles all rows
by array operations. Its states stay on the device, in `session`.
"""

import numpy as np

from pipeline.records import Request, Rollout, StopReason
from pipeline.recurrent.explore import exploration_flops
from pipeline.recurrent.request import RULES, DepthRequest
from pipeline.recurrent.shape import RecurrentShape, rollout_flops

IDLE, ENTERING, RUNNING, LEAVING = range(4)
"""Phases: no sequence; a token to put through the prelude; in the core; done with the core."""

DECIDES = np.array([rule not in ("fixed", "schedule") for rule in RULES])
"""By index in RULES: whether the rule may stop a token before its cap."""


class Rows:
    """R rows of at most S positions."""

    def __init__(self, rows: int, *, positions: int, planes: int | None = None) -> None:
        """`planes`: the entries of the core that every token takes whatever its depth; None: one
        for each iteration that it runs."""
        self.planes = planes
        self.requests: list[Request | None] = [None] * rows
        self.phase = np.full(rows, IDLE)
        self.seed = np.zeros(rows, dtype=np.int64)
        self.greedy = np.zeros(rows, dtype=bool)
        self.temperature = np.ones(rows, dtype=np.float32)
        self.top_p = np.ones(rows, dtype=np.float32)
        self.max_tokens = np.zeros(rows, dtype=np.int64)
        self.prompt_tokens = np.zeros(rows, dtype=np.int64)

        self.rule = np.zeros(rows, dtype=np.int64)  # index in RULES
        self.sampled = np.zeros(rows, dtype=bool)
        self.min_depth = np.ones(rows, dtype=np.int64)
        self.threshold = np.zeros(rows, dtype=np.float32)
        self.log_price = np.zeros(rows, dtype=np.float32)
        self.segment = np.ones(rows, dtype=np.int64)
        self.plan = np.zeros((rows, positions), dtype=np.int64)  # caps by generated token
        self.entries = np.zeros_like(self.plan)  # of the core that a token will have taken

        self.paths = np.ones(rows, dtype=np.int64)
        self.noise = np.zeros(rows, dtype=np.float32)
        self.spare = np.zeros(rows, dtype=np.int64)  # core entries that paths may still take

        self.token = np.zeros(rows, dtype=np.int64)  # the input that runs
        self.position = np.zeros(rows, dtype=np.int64)  # of that input in its sequence
        self.generated = np.zeros(rows, dtype=np.int64)
        self.iteration = np.zeros(rows, dtype=np.int64)  # iterations that the input ran
        self.cap = np.zeros(rows, dtype=np.int64)
        self.by_rule = np.zeros(rows, dtype=bool)  # a rule may stop the input before its cap
        self.dense_entry = np.zeros(rows, dtype=np.int32)
        self.core_entry = np.zeros(rows, dtype=np.int32)  # of the iteration that ran last
        self.held = np.zeros(rows, dtype=np.int64)  # entries of the core that the input has taken

        self.tokens = np.zeros((rows, positions), dtype=np.int64)
        self.logprobs = np.zeros((rows, positions))
        self.depths = np.zeros((rows, positions), dtype=np.int64)
        self.depth_logprobs = np.zeros((rows, positions))

    def in_phase(self, phase: int) -> np.ndarray:
        """Row numbers."""
        return np.flatnonzero(self.phase == phase)

    def begin(self, row: int, request: Request, depth: DepthRequest) -> None:
        """Give an idle row a sequence whose prompt but the last token is in the pool."""
        self.requests[row] = request
        self.phase[row] = ENTERING
        self.seed[row] = request.seed
        # vLLM reports a greedy token's log-probability at temperature 1 without top-p; so do we
        greedy = request.temperature == 0
        self.greedy[row] = greedy
        self.temperature[row] = 1.0 if greedy else request.temperature
        self.top_p[row] = 1.0 if greedy else request.top_p
        self.max_tokens[row] = request.max_tokens
        self.prompt_tokens[row] = len(request.prompt_tokens)
        self.rule[row], self.sampled[row] = RULES.index(depth.rule), depth.sampled
        self.min_depth[row] = depth.min_depth
        self.threshold[row] = 0.0 if depth.threshold is None else depth.threshold
        self.log_price[row] = depth.log_price
        self.segment[row] = depth.segment if depth.rule == "policy" else 1
        self.plan[row, : request.max_tokens] = depth.plan(request.max_tokens)
        self.entries[row] = self.plan[row] if self.planes is None else self.planes
        explore = request.explore
        self.paths[row] = 1 if explore is None else explore.paths
        self.noise[row] = 0.0 if explore is None else explore.noise
        self.spare[row] = spare_entries(request, depth)
        first = len(request.prompt_tokens) - 1
        self.token[row], self.position[row] = request.prompt_tokens[-1], first
        self.generated[row] = self.held[row] = 0

    def enter(self, rows: np.ndarray) -> None:
        """Rows whose token goes into the core."""
        index = self.generated[rows]
        start = index - index % self.segment[rows]
        follows = start < index
        self.iteration[rows] = self.held[rows] = 0
        self.cap[rows] = np.where(follows, self.depths[rows, start], self.plan[rows, index])
        self.by_rule[rows] = ~follows & DECIDES[self.rule[rows]]
        self.depth_logprobs[rows, index] = 0.0
        self.phase[rows] = RUNNING

    def emit(self, rows: np.ndarray, tokens: np.ndarray, logprobs: np.ndarray) -> None:
        """Record tokens [N] drawn after the rows' inputs ran, and make them the next inputs."""
        index = self.generated[rows]
        self.tokens[rows, index] = tokens
        self.logprobs[rows, index] = logprobs
        self.depths[rows, index] = self.iteration[rows]
        self.token[rows] = tokens
        self.position[rows] += 1
        self.generated[rows] += 1
        self.held[rows] = 0
        self.phase[rows] = ENTERING

    def leave(self, rows: np.ndarray) -> int:
        """Rows done with the core. Returns the core entries that they were promised in vain."""
        self.phase[rows] = LEAVING
        if self.planes is not None:
            return 0
        index, held = self.generated[rows], self.held[rows]
        vain = int((self.entries[rows, index] - held).sum())
        self.entries[rows, index] = held
        return vain

    def promised(self, row: int) -> int:
        """Core entries that the row may still take."""
        index, end = self.generated[row], self.max_tokens[row]
        return int(self.entries[row, index:end].sum() - self.held[row] + self.spare[row])

    def others_alive(self, rows: np.ndarray, iterations: np.ndarray) -> np.ndarray:
        """Paths beside path 0 that rows run iterations with, all [N]."""
        alive = np.ones(len(rows), dtype=np.int64)
        for number, (row, iteration) in enumerate(zip(rows, iterations, strict=True)):
            request = self.requests[row]
            if request is not None and request.explore is not None:
                alive[number] = request.explore.alive(int(iteration))
        return alive - 1

    def entries_held(self, row: int) -> np.ndarray:
        """Core entries that each position took, from the last prompt position on."""
        index = self.generated[row]
        before = self.entries[row, :index]
        if self.phase[row] in (RUNNING, LEAVING):
            return np.append(before, self.held[row])
        return before

    def clear(self, row: int) -> None:
        """Make the row idle."""
        self.requests[row] = None
        self.phase[row] = IDLE

    def rollout(
        self,
        row: int,
        *,
        stop: StopReason,
        version: int,
        shape: RecurrentShape,
        judge_width: int | None,
    ) -> Rollout:
        """What the row generated. `judge_width`: hidden units of the head that judges paths; None:
        the readout does."""
        request, count = self.requests[row], int(self.generated[row])
        assert request is not None
        depth = depth_of(request, shape.num_iterations)
        depths = self.depths[row, :count].tolist()
        chances = tuple(self.depth_logprobs[row, :count].tolist())
        length = len(request.prompt_tokens)
        flops = rollout_flops(shape, prompt_tokens=length, depths=depths, request=depth)
        if request.explore is not None:
            flops += exploration_flops(
                shape,
                request.explore,
                prompt_tokens=length,
                depths=depths,
                head_width=judge_width,
            )
        return Rollout(
            prompt_id=request.prompt_id,
            repeat=request.repeat,
            sample=request.sample,
            seed=request.seed,
            prompt_tokens=request.prompt_tokens,
            tokens=tuple(self.tokens[row, :count].tolist()),
            logprobs=tuple(self.logprobs[row, :count].tolist()),
            stop=stop,
            weight_version=version,
            depths=tuple(depths),
            prompt_depth=depth.prefill_depth,
            depth_logprobs=chances if depth.rule == "policy" and depth.sampled else None,
            flops=flops,
        )


def depth_of(request: Request, num_iterations: int) -> DepthRequest:
    """The request's depth; without one, the model's own number of iterations."""
    return request.depth or DepthRequest(depth=num_iterations)


def spare_entries(request: Request, depth: DepthRequest) -> int:
    """Core entries that the request's paths hold at most beyond those of one path: one token at a
    time explores."""
    if request.explore is None:
        return 0
    return request.explore.spare_entries(max((depth.depth, *depth.schedule)))
