"""Pictures of a depth stage: accuracy against compute, and budgets asked for against spent."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, PercentFormatter

from pipeline.depth.compare.depth_report import GainAt, Rows
from pipeline.depth.compare.methods import LABELS, of_seed
from pipeline.measure.accuracy import wilson
from pipeline.measure.pareto import pareto_front, upper_hull
from pipeline.watch.svg_picture import COLOURS, INK, svg

Points = Sequence[tuple[float, float]]

BLUE, ORANGE, GREEN, PURPLE, RED, GREY = COLOURS


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a method is drawn."""

    colour: str = GREY
    line: str = "--"
    marker: str = "o"
    main: bool = False


LOOKS: Mapping[str, Look] = {
    "fixed": Look(colour=INK, line="-", main=True),
    "fixed_whole": Look(colour=INK, line=":", marker="."),
    "policy": Look(colour=BLUE, line="-", main=True),
    "joint": Look(colour=GREEN, line="-", marker="D"),
    "policy_sampled": Look(colour=BLUE, line=":", marker="v"),
    "permuted": Look(colour=GREY, marker="X"),
    "labels": Look(colour=ORANGE, marker="s"),
    "own_labels": Look(colour=GREEN, line=":", marker="<"),
    "warm_start": Look(colour=PURPLE, line="-.", marker="^"),
    "critic": Look(colour=RED, marker="P"),
    "request_depth": Look(colour=RED, line=":", marker="."),
    "static": Look(colour=PURPLE, line=":", marker="<"),
    "random": Look(colour=GREY, line=":", marker="."),
    "right": Look(colour=GREEN, marker="X"),
    "kl": Look(colour=ORANGE, marker="s"),
    "latent": Look(colour=GREEN, line="-.", marker="^"),
    "entropy": Look(colour=PURPLE, marker="D"),
    "second_order": Look(colour=RED, line=":", marker="v"),
    "q_exit": Look(colour=GREY, marker="P"),
    "oracle": Look(colour=INK, line="", marker="*"),
}
"""All methods, in the order of the table; `pipeline.depth.compare.methods` has what they are."""

RULES = ("right", "kl", "latent", "entropy", "second_order", "q_exit")
NO_KNOB = ("fixed", "fixed_whole", "oracle")
SHARED = ("fixed", "fixed_whole", "policy", "oracle")
PANELS: Mapping[str, Sequence[str]] = {
    "what learns": [name for name in LOOKS if name not in RULES],
    "exit rules": [name for name in LOOKS if name in (*SHARED, *RULES)],
}
"""What is drawn together; all at once could not be told apart."""

LABEL_IN, MARGINS_IN = 0.5, 0.8  # of an axis with its label, and around a picture's axes, inches


def front_svg(
    methods: Mapping[str, Rows], key: str, unit: str, *, panel: str, problems: int | None
) -> str:
    """Accuracy against a cost: every setting, a line along each method's front, and what mixing
    fixed depths reaches. With the number of `problems`, bars on the fixed depths and the policy."""

    def draw(axes: Axes) -> None:
        names = [n for n in PANELS[panel] if any(key in row for row in methods.get(n, ()))]
        ends = _ends(methods, key)
        if ends:
            _hull(axes, _points(methods["fixed"], key))
        for name in names:
            rows = [row for row in methods[name] if key in row]
            _front(axes, name, rows, key, problems, ends=[] if name in NO_KNOB else ends)
        for row in methods.get("fixed", ()) if "fixed" in names else ():
            place = (row[key], row["accuracy"])
            depth = f"{row['mean_depth']:.0f}"
            axes.annotate(depth, place, (4, -11), textcoords="offset points", fontsize=7.5)
        for rows in _further_seeds(methods):
            front = pareto_front([*_points(rows, key), *ends])
            axes.plot(front[:, 0], front[:, 1], color=BLUE, linewidth=0.8, alpha=0.6)
        # a model trained on shallow prompts does badly at deep ones, and would set the scale
        rows = [row for n in names if n != "fixed_whole" for row in methods[n] if key in row]
        accuracies, costs = ([row[of] for row in rows] for of in ("accuracy", key))
        span = max(costs) - min(costs)
        axes.set_xlim(min(costs) - 0.04 * span, max(costs) + 0.04 * span)
        room = max((max(accuracies) - min(accuracies)) * 0.12, 0.01)
        axes.set_ylim(min(accuracies) - room, max(accuracies) + room)
        _labelled(axes, unit, "accuracy")
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))

    return svg(draw, size=(5.5, 4.7), salt=f"fronts {key} {panel}")


def gain_svg(methods: Mapping[str, Rows], key: str, unit: str, *, panel: str) -> str:
    """Points over what mixed fixed depths reach at the same cost, from the cheapest to the dearest
    fixed depth that no other dominates."""
    hull = upper_hull(_points(methods["fixed"], key))
    low, high = hull[0, 0], hull[-1, 0]
    ends = [end for end in _ends(methods, key) if end[0] <= high]

    def gain(point: tuple[float, float]) -> tuple[float, float]:
        return point[0], 100 * (point[1] - float(np.interp(point[0], hull[:, 0], hull[:, 1])))

    def draw(axes: Axes) -> None:
        axes.axhline(0, color=INK, linewidth=4, alpha=0.2, label="fixed depths, mixed")
        for name in PANELS[panel]:
            rows = [r for r in methods.get(name, ()) if key in r and low <= r[key] <= high]
            if rows and name not in NO_KNOB:
                _curve(axes, name, *_with_front(_points(rows, key), gain, ends=ends))
        for rows in _further_seeds(methods):
            inside = [r for r in rows if low <= r[key] <= high]
            if inside:
                front = _with_front(_points(inside, key), gain, ends=ends)[1]
                axes.plot(*zip(*front, strict=True), color=BLUE, linewidth=0.8, alpha=0.6)
        _labelled(axes, unit, "points over mixed fixed depths")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:+g}" if value else "0")

    return svg(draw, size=(5.5, 4.4), salt=f"gains {key} {panel}")


def stated_gains_svg(gain_at: Mapping[str, Mapping[str, GainAt]]) -> str:
    """The policy's gain over every other method, in points, at each stated cost, with intervals."""
    names = [name for name in LOOKS if any(name in gains for gains in gain_at.values())]

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=INK, linewidth=4, alpha=0.2)
        looks = zip(gain_at.items(), (ORANGE, BLUE, GREEN), ("s", "o", "^"), strict=False)
        for number, ((depth, gains), colour, marker) in enumerate(looks):
            rows = [row for row, name in enumerate(names) if name in gains]
            cells = [gains[names[row]] for row in rows]
            heights = [row + 0.22 * (number - (len(gain_at) - 1) / 2) for row in rows]
            low, high = ([100 * cell[end] for cell in cells] for end in ("ci_low", "ci_high"))
            axes.hlines(heights, low, high, color=colour, linewidth=1.4, alpha=0.6)
            middles = [100 * cell["gain"] for cell in cells]
            label = f"mean depth {depth}"
            axes.plot(
                middles,
                heights,
                linestyle="",
                marker=marker,
                color=colour,
                markersize=5,
                label=label,
            )
        axes.set_yticks(range(len(names)), [rival_label(name) for name in names])
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlabel("points that the policy is ahead, at the FLOPs of")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:+g}" if value else "0")
        below = -LABEL_IN / (height - MARGINS_IN)  # the axis' label, however many methods there are
        axes.legend(loc="upper right", bbox_to_anchor=(1, below), ncols=3, fontsize=8)

    height = 1.9 + 0.32 * len(names)
    return svg(draw, size=(5.2, height), salt="stated gains")


def rival_label(name: str) -> str:
    """What the policy is ahead of: of fixed depths, what mixing them reaches."""
    return "fixed depths, mixed" if name == "fixed" else LABELS[name]


def slider_svg(budgets: Rows, efforts: Mapping[str, float]) -> str:
    """What held-out prompts spent against the budget that was asked for, none of them measured
    before, and where the efforts lie."""

    def draw(axes: Axes) -> None:
        ends = [v for row in budgets for v in (row["budget"], row["spent"])] + [*efforts.values()]
        margin = 0.12 * (max(ends) - min(ends)) or 0.05
        low, high = max(0.0, min(ends) - margin), min(1.05, max(ends) + margin)
        axes.plot((low, high), (low, high), "--", color=INK, linewidth=0.8, alpha=0.6)
        axes.plot([r["budget"] for r in budgets], [r["spent"] for r in budgets], "o", color=BLUE)
        for budget in sorted(set(efforts.values())):
            words = ", ".join(name for name, value in efforts.items() if value == budget)
            axes.axvline(budget, color=INK, linewidth=0.8, linestyle=":", alpha=0.6)
            axes.annotate(
                words, (budget, low), (4, 6), textcoords="offset points", fontsize=8, rotation=90
            )
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
        axes.set(xlim=(low, high), ylim=(low, high), xlabel="asked for", ylabel="spent")

    return svg(draw, size=(3.9, 3.5), salt="slider")


def _hull(axes: Axes, points: Points) -> None:
    hull = upper_hull(points)
    floor = min(accuracy for _, accuracy in points) - 1.0  # under whatever is shown
    axes.fill_between(hull[:, 0], hull[:, 1], floor, color=INK, alpha=0.06, linewidth=0)
    axes.plot(
        hull[:, 0], hull[:, 1], color=INK, linewidth=4, alpha=0.2, label="fixed depths, mixed"
    )


def _front(
    axes: Axes, name: str, rows: Rows, key: str, problems: int | None, *, ends: Points
) -> None:
    look, points = LOOKS[name], _points(rows, key)
    if not look.line:
        axes.scatter(
            *zip(*points, strict=True), s=70, c=look.colour, marker=look.marker, label=LABELS[name]
        )
        return
    if look.main and problems:
        spans = [wilson(accuracy, problems) for _, accuracy in points]
        axes.vlines(
            [cost for cost, _ in points],
            [low for low, _ in spans],
            [high for _, high in spans],
            color=look.colour,
            linewidth=1.1,
            alpha=0.45,
        )
    _curve(axes, name, *_with_front(points, lambda point: point, ends=ends))


def _curve(axes: Axes, name: str, points: Points, front: Points) -> None:
    """All points, and a line through those of the front."""
    look = LOOKS[name]
    style: dict[str, Any] = {
        "color": look.colour,
        "marker": look.marker,
        "markersize": 5 if look.main else 4,
        "zorder": 3 if look.main else 2,
    }
    width = 2.2 if name == "policy" else 1.3 if look.main else 1
    axes.plot(*zip(*points, strict=True), linestyle="", **style)
    axes.plot(
        *zip(*front, strict=True), linestyle=look.line, linewidth=width, label=LABELS[name], **style
    )


def _further_seeds(methods: Mapping[str, Rows]) -> list[Rows]:
    """The rows of the policy's seeds beside the first."""
    numbers = range(1, len(methods))
    return [methods[of_seed(n)] for n in numbers if of_seed(n) in methods]


def _with_front(
    points: Points, shown: Callable[[tuple[float, float]], tuple[float, float]], *, ends: Points
) -> tuple[Points, Points]:
    """The points, and the front of them and of the ends that every method has, as shown."""
    both = [*points, *ends]
    front = [(float(cost), float(accuracy)) for cost, accuracy in pareto_front(both)]
    return [shown(point) for point in points], [shown(point) for point in front]


def _labelled(axes: Axes, across: str, up: str) -> None:
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.xaxis.set_major_formatter(EngFormatter(sep="\N{NARROW NO-BREAK SPACE}"))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize=8)


def _ends(methods: Mapping[str, Rows], key: str) -> Points:
    """Everything at depth 1, and at full depth: both belong to every method that has a knob."""
    points = _points([row for row in methods.get("fixed", ()) if key in row], key)
    return [points[0], points[-1]] if points else []


def _points(rows: Rows, key: str) -> list[tuple[float, float]]:
    return [(row[key], row["accuracy"]) for row in rows]
