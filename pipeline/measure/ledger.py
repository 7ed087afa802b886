"""A training step's ledger: every second of its wall time belongs to one phase. Pure but for the
clock that it is given."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, get_args

Phase = Literal[
    "evaluation", "generation", "verification", "training", "sync", "checkpoint", "idle"
]
PHASES: tuple[Phase, ...] = get_args(Phase)
PREFIX = "seconds/"  # of a phase in a row of metrics


class PhaseClock:
    """Seconds by phase since they were last taken: in one phase at any time, so that they add up
    to the wall time."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self._phase: Phase = "idle"
        self._seconds: dict[Phase, float] = dict.fromkeys(PHASES, 0.0)

    def enter(self, phase: Phase) -> None:
        """From now on time is this phase's."""
        now = self._clock()
        self._seconds[self._phase] += now - self._since
        self._since, self._phase = now, phase

    @contextmanager
    def during(self, phase: Phase) -> Iterator[None]:
        """Surroundings whose time is a phase's; then what was before goes on."""
        before = self._phase
        self.enter(phase)
        try:
            yield
        finally:
            self.enter(before)

    def divide(self, phase: Phase, parts: dict[Phase, float]) -> None:
        """Give a phase's seconds so far to others, as `divided` does."""
        self.enter(self._phase)
        seconds, self._seconds[phase] = self._seconds[phase], 0.0
        for name, share in divided(seconds, parts).items():
            self._seconds[name] += share

    def take(self) -> dict[str, float]:
        """Seconds by `seconds/PHASE` since the last take, and their sum as step_seconds."""
        self.enter(self._phase)
        row = {PREFIX + phase: seconds for phase, seconds in self._seconds.items()}
        self._seconds = dict.fromkeys(PHASES, 0.0)
        return {"step_seconds": sum(row.values()), **row}


def divided(seconds: float, parts: dict[Phase, float]) -> dict[Phase, float]:
    """A wait by what was done elsewhere meanwhile, `parts` in their order: what was done last was
    waited for first, as some of it may have been done before the wait. What nothing explains is
    idle. The values add up to `seconds`.

    >>> divided(5.0, {"generation": 9.0, "verification": 1.0})
    {'verification': 1.0, 'generation': 4.0, 'idle': 0.0}
    """
    shares: dict[Phase, float] = {}
    left = seconds
    for phase, spent in reversed(list(parts.items())):
        shares[phase] = min(spent, left)
        left -= shares[phase]
    shares["idle"] = left
    return shares


def phase_totals(rows: Iterable[Mapping[str, float]], *, seconds: float) -> dict[str, float]:
    """A stage's seconds by phase over its rows. What no row explains, such as its start, is idle:
    the values add up to `seconds`. Nothing of a stage without rows.

    >>> phase_totals([{"seconds/training": 2.0, "seconds/idle": 0.5}], seconds=4.0)
    {'training': 2.0, 'idle': 2.0}
    """
    spent: dict[Phase, float] = {}
    for row in rows:
        for phase in PHASES:
            if value := row.get(PREFIX + phase, 0.0):
                spent[phase] = spent.get(phase, 0.0) + value
    if not spent:
        return {}
    unexplained = max(seconds - sum(spent.values()), 0.0)
    spent["idle"] = spent.get("idle", 0.0) + unexplained
    return {phase: round(value, 3) for phase, value in spent.items()}


def speed_text(row: Mapping[str, float]) -> str:
    """How fast a row's training was, and its share of matrix products' speed where that is known;
    empty where nothing was counted.

    >>> speed_text({"training_gflops_per_s": 12.34, "matmul_share": 0.256})
    '12.3 GFLOP/s, 26% of matmul'
    """
    if "training_gflops_per_s" not in row:
        return ""
    share = f", {row['matmul_share']:.0%} of matmul" if "matmul_share" in row else ""
    return f"{row['training_gflops_per_s']:,.1f} GFLOP/s{share}"


def ledger_line(row: Mapping[str, float]) -> str:
    """A row's step in a few words, largest phase first; empty where it has no ledger."""
    spent: Iterable[tuple[float, str]] = (
        (row[PREFIX + phase], phase) for phase in PHASES if row.get(PREFIX + phase, 0.0) >= 0.05
    )
    return ", ".join(f"{name} {seconds:.1f}" for seconds, name in sorted(spent, reverse=True))
