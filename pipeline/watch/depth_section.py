"""The report's section on depth: accuracy against compute, every method's numbers, the slider."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from pipeline.depth.compare.depth_report import (
    Calibration,
    DepthReport,
    Estimate,
    Fronts,
    Need,
    PromptsReport,
    Rows,
    Slider,
    Span,
)
from pipeline.depth.compare.methods import LABELS, POLICY
from pipeline.measure.accuracy import wilson
from pipeline.watch.depth_pictures import (
    LOOKS,
    PANELS,
    SHARED,
    front_svg,
    gain_svg,
    rival_label,
    slider_svg,
    stated_gains_svg,
)

UNITS = (("flops_per_answer", "FLOPs per answer"), ("iterations", "core iterations per answer"))

ENERGY: Mapping[str, str] = {
    "analytic": "estimated: FLOPs times an assumed constant, so they say nothing that FLOPs do not",
    "rapl": "measured by the CPU's counters",
    "nvml": "measured by the GPU's counters",
}
"""What the sources of joules are worth."""


def depth_section(stage: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """What the template shows of a depth stage's `depth` document. Pictures are SVG."""
    report = DepthReport.read(document)
    section = {"stage": stage, "headroom": report.headroom, "savings": []}
    compared, calibration = report.comparison, report.calibration
    if compared is None or calibration is None:
        return section
    here = compared.held_out
    gains = _gains(here.fronts)
    return section | {
        "pictures": _pictures(here.methods, here.problems),
        "gains": gains,
        "gains_picture": Markup(stated_gains_svg(here.fronts.gain_at) if gains["rows"] else ""),
        "methods": [
            _method(name, here.methods[name], here.fronts) for name in LOOKS if name in here.methods
        ],
        "settings": [
            row
            for name, rows in here.methods.items()
            for row in _settings(name, rows, problems=here.problems)
        ],
        "savings": [*_savings(here), *_followed(here.need, compared.slider)],
        "need": _need(here.need),
        "slider": _slider(calibration),
        "transfer": [
            {
                "entry": entry,
                "problems": there.problems,
                "fronts": there.fronts,
                "best": there.fronts.best_fixed or there.fronts.reference,
                "spearman": there.need.spearman,
            }
            for entry, there in compared.transfer.items()
        ],
        "slider_picture": Markup(slider_svg(compared.slider.budgets, calibration.efforts)),
        "energy": [f"{source}, {ENERGY[source]}" for source in _sources(here.methods)],
        "seeds": len(compared.seeds),
        "problems": here.problems,
        "left_out": here.left_out,
    }


def _pictures(methods: Mapping[str, Rows], problems: int) -> list[list[tuple[str, Markup]]]:
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


def _gains(fronts: Fronts) -> dict[str, Any]:
    """The table of gains at stated costs: a column for each, a row for each other method."""
    names = [name for name in LOOKS if any(name in gains for gains in fronts.gain_at.values())]
    return {
        "columns": [
            {"depth": depth, "flops": fronts.flops_at.get(depth)} for depth in fronts.gain_at
        ],
        "rows": [
            {
                "name": rival_label(name),
                "cells": [gains.get(name) for gains in fronts.gain_at.values()],
            }
            for name in names
        ],
        "exact": any(
            gain["p_seeds"] is not None
            for gains in fronts.gain_at.values()
            for gain in gains.values()
        ),
    }


def _method(name: str, rows: Rows, fronts: Fronts) -> dict[str, Any]:
    """A row of the table: the method's numbers, and its most accurate setting."""
    return {
        "name": LABELS[name],
        "hypervolume": fronts.hypervolume.get(name),
        "hypervolume_ci": fronts.hypervolume_ci.get(name),
        "difference": fronts.hypervolume_difference.get(name),
        "area": fronts.hull_area_by_method.get(name),
        "best": max(rows, key=lambda row: row["accuracy"]),
        "settings": len(rows),
        "main": name == POLICY.name,
    }


def _settings(name: str, rows: Rows, *, problems: int) -> list[dict[str, Any]]:
    """Every setting of a method, as the long table has it."""
    label = LABELS.get(name) or name.replace(POLICY.name, POLICY.label)  # of a further seed
    return [
        {
            "name": label,
            "setting": _setting(row),
            "interval": wilson(row["accuracy"], problems),
            "measured": row,
        }
        for row in rows
    ]


def _setting(row: Mapping[str, Any]) -> str:
    place = f", for depth {row['placed_depth']:.2f}" if "placed_depth" in row else ""
    if "log_price" in row:
        return f"ln(price) {row['log_price']:+.2f}{place}"
    if "threshold" in row:
        return f"threshold {row['threshold']:.3g}{place}"
    return f"depth {row['depth']}" if "depth" in row else row.get("setting", "")


def _savings(here: PromptsReport) -> list[tuple[str, str]]:
    """The headline in a few tiles."""
    fronts = here.fronts
    tiles = list(_stated(fronts))
    low, high = fronts.hull_area_ci
    span = f"{100 * low:+.1f} to {100 * high:+.1f}"
    tiles.append(
        (f"{100 * fronts.hull_area:+.1f} points", f"over mixed fixed depths on average ({span})")
    )
    for unit, saved, span, accuracy in (
        ("FLOPs", fronts.flops_saved, fronts.flops_saved_ci, fronts.flops_saved_accuracy),
        (
            "iterations",
            fronts.iterations_saved,
            fronts.iterations_saved_ci,
            fronts.iterations_saved_accuracy,
        ),
    ):
        if saved is None:
            tiles.append(("none", f"of the {unit} saved: never within a point of the best"))
        else:
            most = unit == "FLOPs" and here.max_saving is not None
            limit = f"; of a full-depth answer {here.max_saving:.0%} at most" if most else ""
            tiles.append((f"{saved:+.0%}", f"{unit} saved {_within(span, accuracy)}{limit}"))
    return tiles


def _stated(fronts: Fronts) -> Iterator[tuple[str, str]]:
    """Gains over mixed fixed depths at the stated costs."""
    for depth, gains in fronts.gain_at.items():
        gain = gains["fixed"]
        span = f"{100 * gain['ci_low']:+.1f} to {100 * gain['ci_high']:+.1f}"
        words = f"over mixed fixed depths at the FLOPs of mean depth {depth} ({span})"
        yield f"{100 * gain['gain']:+.1f} points", words


def _within(span: Span | None, accuracy: Estimate | None) -> str:
    """The interval of a saving, and the accuracy at which it is had."""
    if span is None or accuracy is None:  # of a run before there were any
        return "within a point of the best fixed depth"
    points, low, high = (100 * value for value in accuracy)
    return (
        f"({span[0]:+.0%} to {span[1]:+.0%}), at {points:+.1f} points ({low:+.1f} to {high:+.1f}) "
        "from the best fixed depth"
    )


def _followed(need: Need, slider: Slider) -> list[tuple[str, str]]:
    """Tiles on what depth followed: needed steps, and budgets."""
    tiles = []
    if need.spearman is not None:
        oracle = (
            "" if need.spearman_ceiling is None else f" (an oracle's: {need.spearman_ceiling:.2f})"
        )
        words = f"rank correlation of depth with needed steps{oracle}"
        tiles.append((f"{need.spearman:.2f}", words))
    if slider.budget_error is not None:
        tiles.append(
            (
                f"{slider.budget_error:.1%}",
                "largest miss of a budget never measured, of their range",
            )
        )
    if slider.cheapest_depth is not None:
        tiles.append((f"{slider.cheapest_depth:.2f}", "mean depth that the least budget spends"))
    return tiles


def _need(need: Need) -> str | None:
    """How depth followed need, in a sentence; None where no need is known."""
    if need.spearman_all is None or need.waste is None:
        return None
    said = (
        "At the setting of the largest stated mean depth, where the needed steps are known, "
        f"{need.waste:.1%} of the policy's iterations were "
        f"beyond need and {need.shortfall:.1%} of the needed ones were missing; the rank "
        f"correlation over all positions is {need.spearman_all:.2f}."
    )
    if need.depth_asked is None or need.depth_idle is None:
        return said
    return (
        f"{said} Mean depth {need.depth_asked:.2f} where the answer depends on it, "
        f"{need.depth_idle:.2f} elsewhere."
    )


def _slider(calibration: Calibration) -> list[dict[str, Any]]:
    """The calibrated budgets, and between them the efforts."""
    rows = [{**row, "effort": ""} for row in calibration.depth_calibration]
    efforts = [{"budget": budget, "effort": name} for name, budget in calibration.efforts.items()]
    return sorted([*rows, *efforts], key=lambda row: row["budget"])


def _sources(methods: Mapping[str, Rows]) -> Sequence[str]:
    """Where the joules come from, by all rows."""
    rows = [row for some in methods.values() for row in some]
    return sorted({row["energy_source"] for row in rows if "energy_source" in row})
