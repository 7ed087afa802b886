"""A GRPO stage's steps in a thread of their own, so that one is made while another trains.

trainer:  take(t) ── push weights t ── begin(t + 1) ── train on t ── take(t + 1) ──
queue:                                 └─ makes t + 1, with weights t ─┘
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from pipeline.generate.journal import StepRollouts


class StepQueue:
    """Steps are made one at a time, in the order in which they were begun."""

    def __init__(self, make: Callable[[int], StepRollouts]) -> None:
        """`make`: a step's rollouts, from the journal or the engines."""
        self._make = make
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="steps")
        self._lock = threading.Lock()
        self._steps: dict[int, Future[StepRollouts]] = {}

    def begin(self, step: int) -> None:
        """Have a step made; returns at once."""
        self._future(step)

    def take(self, step: int) -> StepRollouts:
        """A step's rollouts, once they are there. Raises what making them raised."""
        return self._future(step).result()

    def _future(self, step: int) -> Future[StepRollouts]:
        with self._lock:
            if step not in self._steps:
                recent = {s: f for s, f in self._steps.items() if s == step - 1}
                self._steps = recent | {step: self._thread.submit(self._make, step)}
            return self._steps[step]
