"""What the benchmark of exploration says of answers: accuracies, costs, and what is beside what."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.measure.accuracy import interval
from pipeline.measure.paired import paired_test

TIES = 840
"""Votes of up to eight answers that are tied count in so many parts."""


def figures(
    right: Sequence[float], flops: Sequence[float], before: Sequence[float], **more: Any
) -> dict[str, Any]:
    """Accuracy with its interval, MFLOPs an answer, and points over one path with theirs."""
    mean, low, high = interval(right)
    sides = ([(round(TIES * value), TIES) for value in side] for side in (before, right))
    pair = paired_test(*sides)
    return {
        **more,
        "accuracy": mean,
        "ci": [low, high],
        "mflops": statistics.fmean(flops) / 1e6,
        "points_over_one_path": [100 * pair.delta, 100 * pair.ci_low, 100 * pair.ci_high],
    }


def chosen_noise(rights: Mapping[float, Sequence[bool]]) -> float:
    """The noise with the most right answers, the least of equals.

    >>> chosen_noise({0.1: [True, False], 0.2: [True, True], 0.4: [True, True]})
    0.2
    """
    return min(rights, key=lambda noise: (-sum(rights[noise]), noise))


def nearest(votes: Mapping[str, Mapping[str, Any]], mflops: float) -> str:
    """The vote whose cost is nearest to one.

    >>> nearest({"vote of 2": {"mflops": 60.0}, "vote of 3": {"mflops": 90.0}}, 80.0)
    'vote of 3'
    """
    return min(votes, key=lambda name: abs(votes[name]["mflops"] - mflops))


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """A line a method."""
    lines = []
    for task, methods in found.items():
        for name, row in methods.items():
            low, high = row["ci"]
            delta, least, most = row["points_over_one_path"]
            lines.append(
                f"{task:10} {name:34} {row['accuracy']:6.1%} ({low:.1%} to {high:.1%})  "
                f"{delta:+5.1f} ({least:+.1f} to {most:+.1f})  {row['mflops']:7.1f} MFLOPs"
                f"{_noises(row)}"
                f"{'  beside ' + row['nearest_vote'] if 'nearest_vote' in row else ''}"
            )
    return "\n".join(lines)


def _noises(row: Mapping[str, Any]) -> str:
    """The noise of a row, and how others did where it was chosen."""
    tried = [f"{noise:g}: {share:.1%}" for noise, share in row.get("tried", {}).items()]
    return f"  noise {row['noise']} ({', '.join(tried)})" if tried else ""
