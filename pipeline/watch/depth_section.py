"""The report's section on depth: accuracy against compute, every method's numbers, the slider."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from pipeline.measure.accuracy import wilson
from pipeline.watch.depth_pictures import (
    METHODS,
    PANELS,
    SEED,
    SHARED,
    Rows,
    front_svg,
    gain_svg,
    slider_svg,
)

UNITS = (("flops_per_answer", "FLOPs per answer"), ("iterations", "core iterations per answer"))

ENERGY: Mapping[str, str] = {
    "analytic": "estimated: FLOPs times an assumed constant, so they say nothing that FLOPs do not",
    "rapl": "measured by the CPU's counters",
    "nvml": "measured by the GPU's counters",
}
"""What the sources of joules are worth."""


def depth_section(stage: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """What the template shows of a depth stage's `depth` document. Pictures are SVG."""
    methods: Mapping[str, Rows] = found.get("methods", {})
    section = {"stage": stage, "headroom": found["headroom"], "savings": []}
    if not methods:
        return section
    problems = found.get("problems")
    return section | {
        "pictures": _pictures(methods, problems),
        "methods": [_method(name, methods[name], found) for name in METHODS if name in methods],
        "settings": [
            row
            for name, rows in methods.items()
            for row in _settings(name, rows, problems=problems)
        ],
        "savings": _savings(found),
        "need": _need(found),
        "slider": _slider(found),
        "transfer": [{"entry": entry, **some} for entry, some in found.get("transfer", {}).items()],
        "slider_picture": Markup(slider_svg(found["budgets"], found["efforts"])),
        "energy": [f"{source}, {ENERGY[source]}" for source in _sources(methods)],
        "seeds": len(found.get("seeds", ())),
        "problems": problems,
    }


def _pictures(methods: Mapping[str, Rows], problems: int | None) -> list[list[tuple[str, Markup]]]:
    """(title, SVG) of each panel that has a method of its own, in rows."""
    panels = [p for p, names in PANELS.items() if methods.keys() & set(names) - set(SHARED)]
    panels = panels or list(PANELS)[:1]

    def fronts(key: str, unit: str) -> list[tuple[str, Markup]]:
        return [
            (
                f"Accuracy against {unit}: {panel}",
                Markup(front_svg(methods, key, unit, panel=panel, problems=problems)),
            )
            for panel in panels
        ]

    (key, unit), other = UNITS
    gains = [
        (f"Gain at equal FLOPs: {panel}", Markup(gain_svg(methods, key, unit, panel=panel)))
        for panel in panels
    ]
    return [fronts(key, unit), gains, fronts(*other)]


def _method(name: str, rows: Rows, found: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table: the method's numbers, and its most accurate setting."""
    best = max(rows, key=lambda row: row["accuracy"])
    return {
        "name": METHODS[name].name,
        "hypervolume": found["hypervolume"].get(name),
        "hypervolume_ci": found["hypervolume_ci"].get(name),
        "ahead": found["hypervolume_ahead"].get(name),
        "area": found["hull_area_by_method"].get(name),
        "best": best,
        "settings": len(rows),
        "main": name == "policy",
    }


def _settings(name: str, rows: Rows, *, problems: int | None) -> list[dict[str, Any]]:
    """Every setting of a method, as the long table has it."""
    if name in METHODS:
        name = METHODS[name].name
    elif name.startswith(SEED):
        name = f"{METHODS['policy'].name}, seed {name.removeprefix(SEED)}"
    return [
        {
            "name": name,
            "setting": _setting(row),
            "interval": wilson(row["accuracy"], problems) if problems else None,
            "measured": row,
        }
        for row in rows
    ]


def _setting(row: Mapping[str, Any]) -> str:
    if "log_price" in row:
        return f"ln(price) {row['log_price']:+.2f}"
    if "threshold" in row:
        return f"threshold {row['threshold']:.3g}"
    return f"depth {row['depth']}" if "depth" in row else row.get("setting", "")


def _savings(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The headline in a few tiles."""
    area, (low, high) = found["hull_area"], found["hull_area_ci"]
    span = f"{100 * low:+.1f} to {100 * high:+.1f}"
    tiles = [(f"{100 * area:+.1f} points", f"over mixed fixed depths on average ({span})")]
    for key, unit in (("flops_saved", "FLOPs"), ("iterations_saved", "iterations")):
        value = found[key]
        if value is None:
            tiles.append(("none", f"of the {unit} saved: never within a point of the best"))
        else:
            tiles.append((f"{value:+.0%}", f"{unit} saved within a point of the best fixed depth"))
    if found.get("spearman") is not None:
        tiles.append((f"{found['spearman']:.2f}", "rank correlation of depth with needed steps"))
    if found.get("budget_error") is not None:
        tiles.append(
            (
                f"{found['budget_error']:.1%}",
                "largest miss of a budget never measured, of their range",
            )
        )
    return tiles


def _need(found: Mapping[str, Any]) -> str | None:
    """How depth followed need, in a sentence; None where no need is known."""
    if found.get("spearman_all") is None or found.get("waste") is None:
        return None
    said = (
        f"Where the needed steps are known, {found['waste']:.1%} of the policy's iterations were "
        f"beyond need and {found['shortfall']:.1%} of the needed ones were missing; the rank "
        f"correlation over all positions is {found['spearman_all']:.2f}."
    )
    asked, idle = found.get("depth_asked"), found.get("depth_idle")
    if asked is None or idle is None:
        return said
    return f"{said} Mean depth {asked:.2f} where the answer depends on it, {idle:.2f} elsewhere."


def _slider(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The calibrated budgets, and between them the efforts."""
    rows = [{**row, "effort": ""} for row in found["depth_calibration"]]
    efforts = [{"budget": budget, "effort": name} for name, budget in found["efforts"].items()]
    return sorted([*rows, *efforts], key=lambda row: row["budget"])


def _sources(methods: Mapping[str, Rows]) -> Sequence[str]:
    """Where the joules come from, by all rows."""
    rows = [row for some in methods.values() for row in some]
    return sorted({row["energy_source"] for row in rows if "energy_source" in row})
