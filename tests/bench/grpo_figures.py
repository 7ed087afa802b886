"""The figures of `tests.bench.grpo`, of what its sides measured. Pure."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

SIDES = ("ours", "ours_equal", "trl_generate", "trl_vllm")
CLOCKS = {"s": "begin", "from_start_s": "start", "from_first_step_s": "0"}
"""Where each clock begins, by events of a side's log."""

Measured = dict[str, Any]
"""Of a side: times (seconds by event or number of updates), accuracies (by number of updates), rows
(seconds by part, of each step)."""


def reached(side: Measured, target: float) -> int | None:
    """Updates of the first weights at the target.

    >>> reached({"accuracies": {0: 0.5, 2: 0.9, 4: 0.98}}, 0.9)
    2
    """
    return next((step for step, value in side["accuracies"].items() if value >= target), None)


def seconds(side: Measured, target: float, *, since: str) -> float | None:
    """From an event to the first weights at the target; None where none reach it.

    >>> side = {"accuracies": {0: 0.5, 2: 0.9}, "times": {"begin": 1.0, "0": 3.0, "2": 8.0}}
    >>> seconds(side, 0.9, since="begin"), seconds(side, 0.95, since="begin")
    (7.0, None)
    """
    step = reached(side, target)
    return None if step is None else side["times"][str(step)] - side["times"][since]


def step_seconds(side: Measured) -> float:
    """Median of the steps after the first, of which the clock knows both ends.

    >>> step_seconds({"times": {"begin": 0.0, "0": 5.0, "1": 9.0, "2": 11.0, "3": 14.0}})
    2.5
    """
    ends = sorted((int(name), at) for name, at in side["times"].items() if name.isdigit())
    lengths = [after[1] - before[1] for before, after in zip(ends, ends[1:], strict=False)]
    return statistics.median(lengths[1:] or lengths)


def ledger(side: Measured) -> dict[str, float]:
    """Median seconds of each part over the steps after the first.

    >>> ledger({"rows": [{"seconds/training": 9.0}, {"seconds/training": 2.0, "loss": 1.0}]})
    {'training': 2.0}
    """
    rows = side["rows"][1:] or side["rows"]
    parts = dict.fromkeys(name for row in rows for name in row if name.startswith("seconds/"))
    return {
        part.removeprefix("seconds/"): statistics.median(row.get(part, 0.0) for row in rows)
        for part in parts
    }


SPEEDS = {"training_gflops_per_s": "training_gflops_per_s", "mfu": "matmul_share"}


def speed(side: Measured) -> dict[str, float]:
    """GFLOP/s of the training part and its share of matrix products' speed, medians over the steps
    after the first, as the run's own metrics have them.

    >>> speed({"rows": [{"matmul_share": 0.1}, {"matmul_share": 0.5}, {"matmul_share": 0.7}]})
    {'mfu': 0.6}
    """
    rows = side["rows"][1:] or side["rows"]
    known = {name: [row[key] for row in rows if key in row] for name, key in SPEEDS.items()}
    return {name: statistics.median(values) for name, values in known.items() if values}


def middle(values: Sequence[float | None]) -> float | None:
    """The median, None standing above every number; None where it is not a number.

    >>> middle([3.0, 1.0, 2.0]), middle([1.0, None, 2.0]), middle([1.0, None])
    (2.0, 2.0, None)
    """
    median = statistics.median(math.inf if value is None else value for value in values)
    return None if math.isinf(median) else median


def summary(rounds: Sequence[Mapping[str, Measured]], *, target: float) -> Measured:
    """One thread count's figures, of the rounds' sides by name."""
    names = [name for name in SIDES if name in rounds[0]]
    sides = {name: [measurements[name] for measurements in rounds] for name in names}
    result: Measured = {"accuracies": {}, "breakdown": {}, "updates": {}, "step_s": {}}
    for clock, event in CLOCKS.items():
        result[clock] = {
            name: middle([seconds(side, target, since=event) for side in every])
            for name, every in sides.items()
        }
    for name, every in sides.items():
        result["accuracies"][name] = [side["accuracies"] for side in every]
        result["updates"][name] = [reached(side, target) for side in every]
        result["step_s"][name] = middle([step_seconds(side) for side in every])
        ledgers = [ledger(side) for side in every]
        result["breakdown"][name] = {
            part: middle([row.get(part, 0.0) for row in ledgers]) for part in ledgers[0]
        }
    speeds = [speed(side) for side in sides.get("ours_equal", [])]
    for key in speeds[0] if speeds else ():
        result[key] = middle([row.get(key) for row in speeds])
    result["speedup"] = ratio(fastest(result["s"], "trl"), result["s"].get("ours"))
    result["step_ratio"] = ratio(
        result["step_s"].get("ours_equal"), fastest(result["step_s"], "trl")
    )
    return result


def fastest(times: Mapping[str, float | None], start: str) -> float | None:
    """The least of the times whose names begin so.

    >>> fastest({"ours": 1.0, "trl_generate": 3.0, "trl_vllm": None}, "trl")
    3.0
    """
    known = [value for name, value in times.items() if name.startswith(start) and value is not None]
    return min(known, default=None)


def ratio(over: float | None, under: float | None) -> float | None:
    """None where one of both is not known."""
    return None if over is None or under is None else over / under


def document(by_threads: Mapping[str, Measured], **settings: Any) -> Measured:
    """The whole answer."""
    times = {
        name: {threads: figures["s"].get(name) for threads, figures in by_threads.items()}
        for name in SIDES
    }
    steps = {
        name: {threads: figures["step_s"].get(name) for threads, figures in by_threads.items()}
        for name in SIDES
    }
    plain = ("trl_generate", "trl_vllm")
    best_trl = fastest({f"{n}{t}": s for n in plain for t, s in times[n].items()}, "trl")
    best_trl_step = fastest({f"{n}{t}": s for n in plain for t, s in steps[n].items()}, "trl")
    return {
        "ours_s": times["ours"],
        "trl_generate_s": times["trl_generate"],
        "trl_vllm_s": times["trl_vllm"],
        "speedup": ratio(best_trl, fastest(times["ours"], "")),
        "step_ratio": ratio(fastest(steps["ours_equal"], ""), best_trl_step),
        "breakdown": {threads: figures["breakdown"] for threads, figures in by_threads.items()},
        "mfu": {threads: figures.get("mfu") for threads, figures in by_threads.items()},
        "by_threads": by_threads,
        **settings,
    }
