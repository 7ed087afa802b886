"""The report's section on depth: accuracy against compute, every method's numbers, the slider."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, PercentFormatter

from pipeline.pareto import pareto_front, upper_hull
from pipeline.watch.curves import COLOURS, INK, svg

NAMES: Mapping[str, str] = {
    "fixed": "fixed depth",
    "fixed_whole": "fixed depth, prompt too",
    "policy": "learned policy",
    "policy_sampled": "learned policy, sampled",
    "permuted": "its depths, permuted",
    "labels": "head from labels alone",
    "warm_start": "warm start",
    "critic": "critic, one depth a request",
    "kl": "KL exit",
    "latent": "latent change exit",
    "entropy": "entropy exit",
    "second_order": "second-order exit",
    "q_exit": "Q-exit gate",
    "oracle": "oracle (cannot be had)",
}
"""What methods are called, in the order of the table."""

UNITS = (("flops_per_answer", "FLOPs per answer"), ("iterations", "core iterations per answer"))
_STYLES = ("-", "--", ":")
Rows = Sequence[Mapping[str, Any]]


def depth_section(stage: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """What the template shows of a depth stage's `depth` document."""
    methods: Mapping[str, Rows] = found.get("methods", {})
    return {
        "stage": stage,
        "headroom": found["headroom"],
        "pictures": [(title, front_svg(methods, key, title)) for key, title in UNITS]
        if methods
        else [],
        "methods": [_method(name, methods[name], found) for name in NAMES if name in methods],
        "savings": _savings(found) if methods else [],
        "slider": _slider(found) if methods else [],
        "energy": sorted({row["energy_source"] for row in methods.get("policy", ())}),
        "seeds": len(found.get("seeds", ())),
        "problems": found.get("problems"),
    }


def front_svg(methods: Mapping[str, Rows], key: str, title: str) -> str:
    """Accuracy against a cost, a line for each method's front, over the hull of fixed depths."""

    def draw(axes: Axes) -> None:
        fixed = [row for name in ("fixed", "fixed_whole") for row in methods.get(name, ())]
        if fixed:
            hull = upper_hull(_points(fixed, key))
            axes.fill_between(hull[:, 0], hull[:, 1], color=INK, alpha=0.06, linewidth=0)
        for index, name in enumerate(n for n in NAMES if n in methods):
            _front(axes, name, [r for r in methods[name] if key in r], key, index)
        axes.set_xlabel(title)
        axes.set_ylabel("accuracy")
        axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, handlelength=2.4)

    return svg(draw, size=(8.4, 3.7), salt=f"fronts {key}")


def _front(axes: Axes, name: str, rows: Rows, key: str, index: int) -> None:
    if not rows:
        return
    points = _points(rows, key)
    if name == "oracle":
        axes.plot(*zip(*points, strict=True), "*", color=COLOURS[4], label=NAMES[name])
        return
    front = pareto_front(points)
    main = name in ("policy", "fixed")
    colour = {"policy": COLOURS[0], "fixed": INK}.get(name, COLOURS[1 + index % (len(COLOURS) - 1)])
    axes.plot(
        front[:, 0],
        front[:, 1],
        _STYLES[0 if main else index % len(_STYLES)],
        color=colour,
        label=NAMES[name],
        linewidth=2.4 if name == "policy" else 1.3 if main else 0.9,
        zorder=3 if main else 2,
    )
    axes.plot(*zip(*points, strict=True), "o", color=colour, markersize=5 if main else 3)


def _method(name: str, rows: Rows, found: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table: the method's numbers, and its most accurate setting."""
    best = max(rows, key=lambda row: row["accuracy"])
    return {
        "name": NAMES[name],
        "hypervolume": found["hypervolume"].get(name),
        "hypervolume_ci": found["hypervolume_ci"].get(name),
        "area": found["hull_area_by_method"].get(name),
        "best": best,
        "settings": len(rows),
        "main": name == "policy",
    }


def _savings(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The headline in a few tiles."""
    area, (low, high) = found["hull_area"], found["hull_area_ci"]
    tiles = [
        (
            f"{100 * area:+.1f} points",
            f"mean accuracy above mixed fixed depths ({100 * low:+.1f} to {100 * high:+.1f})",
        )
    ]
    for key, unit in (("flops_saved", "FLOPs"), ("iterations_saved", "iterations")):
        value = found[key]
        said = "accuracy not reached" if value is None else f"{value:+.0%}"
        tiles.append((said, f"{unit} saved at the best fixed depth\u2019s accuracy, less a point"))
    if found.get("spearman") is not None:
        tiles.append((f"{found['spearman']:.2f}", "rank correlation of depth with needed depth"))
    if found.get("budget_error") is not None:
        tiles.append((f"{found['budget_error']:.1%}", "largest miss of a budget never measured"))
    return tiles


def _slider(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The calibrated budgets with what held-out prompts spent."""
    spent = {row["budget"]: row["spent"] for row in found["budgets"]}
    efforts = {budget: name for name, budget in found["efforts"].items()}
    return [
        {**row, "effort": efforts.get(row["budget"], ""), "spent": spent.get(row["budget"])}
        for row in found["depth_calibration"]
    ]


def _points(rows: Rows, key: str) -> list[tuple[float, float]]:
    return [(row[key], row["accuracy"]) for row in rows]
