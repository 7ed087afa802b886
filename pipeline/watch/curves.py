"""Pictures of a stage's metrics: inline SVG for the report, PNG for a README."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from pipeline.measure.ledger import PHASES, PREFIX
from pipeline.watch.svg_picture import COLOURS, INK, SETTINGS, Series, svg

Row = Mapping[str, float]

AREAS = (*COLOURS[:-1], "#0ea5c6", COLOURS[-1])
"""Of the phases that areas show, the last for what is idle."""

SMOOTH_FROM = 30
"""Rows from which a moving average is drawn over the raw line."""

SMOOTH_SHARE = 12
"""The moving average's window is the number of rows divided by this."""

_LEGEND: dict[str, Any] = {"fontsize": 8, "handlelength": 1.2}

SIZE = (3.9, 2.25)
"""Of a picture, in inches."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One small picture: what it shows and of which metrics."""

    title: str
    unit: str  # beside the vertical axis
    keys: Callable[[Sequence[str]], Sequence[str]]  # from the keys that the rows have
    scale: str = "linear"  # linear, share, log, or stacked: areas one above the other


@dataclass(frozen=True, kw_only=True)
class Marker:
    """A step at which a stage changed, such as by a reward that joined."""

    step: float
    label: str


def _only(*keys: str) -> Callable[[Sequence[str]], Sequence[str]]:
    return lambda present: [key for key in keys if key in present]


def several(keys: Iterable[str]) -> list[str]:
    """The keys, where there is more than one: one alone says what another panel says."""
    listed = list(keys)
    return listed if len(listed) > 1 else []


HELD_OUT = "Held-out accuracy"
STACKED = ("training", "generation", *(p for p in PHASES if p not in ("training", "generation")))
"""Phases from the lowest area up: the long ones first, idle last."""
PANELS = (
    Panel(title="Reward", unit="reward", keys=_only("reward")),
    Panel(
        title="Reward components",
        unit="reward",
        keys=lambda present: [key for key in present if key.startswith("reward/")],
    ),
    Panel(title=HELD_OUT, unit="accuracy", keys=_only("held_out_accuracy"), scale="share"),
    Panel(
        title="Held-out rewards",
        unit="reward",
        keys=lambda present: several(k for k in present if k.startswith("held_out_reward/")),
    ),
    Panel(
        title="Loss",
        unit="loss",
        keys=lambda present: [] if "reward" in present else _only("loss")(present),
    ),
    Panel(
        title="Where a step's seconds go",
        unit="seconds",
        keys=_only(*(PREFIX + phase for phase in STACKED)),
        scale="stacked",
    ),
    Panel(title="Speed of training", unit="GFLOP/s", keys=_only("training_gflops_per_s")),
    Panel(
        title="Training over matrix products' speed",
        unit="share",
        keys=_only("matmul_share"),
        scale="share",
    ),
    Panel(title="Completion length", unit="tokens", keys=_only("completion_tokens")),
    Panel(
        title="Groups without variance",
        unit="share of groups",
        keys=_only("zero_variance_share"),
        scale="share",
    ),
    Panel(title="Log-probability gap", unit="nats", keys=_only("logprob_gap"), scale="log"),
    Panel(title="KL from the sampling weights", unit="nats a token", keys=_only("stale_kl")),
    Panel(
        title="Cut-off completions",
        unit="share",
        keys=_only("truncated_share"),
        scale="share",
    ),
    Panel(title="KL to the reference", unit="nats a token", keys=_only("kl")),
    Panel(title="Entropy", unit="nats a token", keys=_only("entropy")),
    Panel(title="Depth", unit="iterations a token", keys=_only("depth_mean")),
    Panel(
        title="Spread of depth over tokens and prompts",
        unit="iterations",
        keys=_only("depth_std", "depth_prompt_std"),
    ),
)


def pictures(rows: Sequence[Row], *, markers: Sequence[Marker] = ()) -> list[tuple[str, str]]:
    """(title, SVG) of every panel that the rows can fill. Colours follow the page's text."""
    present = list(dict.fromkeys(key for row in rows for key in row))
    filled = [(panel, panel.keys(present)) for panel in PANELS]
    return [(panel.title, _svg(panel, rows, keys, markers)) for panel, keys in filled if keys]


def overlays(
    rows_a: Sequence[Row], rows_b: Sequence[Row], *, names: tuple[str, str]
) -> list[tuple[str, str]]:
    """(title, SVG) of every metric that both rows have and a panel shows: two lines each."""
    present = [list(dict.fromkeys(k for row in rows for k in row)) for rows in (rows_a, rows_b)]
    pairs = []
    for panel in PANELS:
        if panel.scale == "stacked":
            continue
        for key in panel.keys([key for key in present[0] if key in present[1]]):
            _, _, part = key.partition("/")
            title = f"{panel.title}: {part}" if part else panel.title
            pairs.append((title, _overlay(panel, key, (rows_a, rows_b), names, title=title)))
    return pairs


def _overlay(
    panel: Panel,
    key: str,
    sides: tuple[Sequence[Row], Sequence[Row]],
    names: tuple[str, str],
    *,
    title: str,
) -> str:
    lines = [
        _series(rows, key, label=name, colour=colour)
        for rows, name, colour in zip(sides, names, COLOURS, strict=False)
    ]

    def draw(axes: Axes) -> None:
        for line in lines:
            _line(axes, line)
        _frame(axes, panel, last=max(max(line.steps, default=0.0) for line in lines))
        positive = any(value > 0 for line in lines for value in line.values)
        _scale(axes, panel, positive=positive)
        axes.legend(loc="best", **_LEGEND)

    return svg(draw, size=SIZE, salt=title, lines=lines, title=title)


def curve_png(rows: Sequence[Row], out: Path, *, title: str) -> Path:
    """Reward and held-out accuracy by step, side by side, on white."""
    shown = [panel for panel in PANELS if panel.title in ("Reward", HELD_OUT)]
    present = list(dict.fromkeys(key for row in rows for key in row))
    filled = [panel for panel in shown if panel.keys(present)]
    with matplotlib.rc_context({**SETTINGS, "font.size": 10}):
        figure = Figure(figsize=(4.6 * len(filled), 3.1), layout="constrained", facecolor="white")
        figure.suptitle(title, fontsize=12, fontweight="bold")
        for index, panel in enumerate(filled, start=1):
            axes = figure.add_subplot(1, len(filled), index)
            _draw(axes, panel, rows, panel.keys(present), colour=COLOURS[index - 1])
            axes.set_title(panel.title, fontsize=10, loc="left")
            axes.set_xlabel("step")
        figure.savefig(out, format="png", dpi=160)
    return out


def _svg(panel: Panel, rows: Sequence[Row], keys: Sequence[str], markers: Sequence[Marker]) -> str:
    return svg(
        lambda axes: _draw(axes, panel, rows, keys, colour=COLOURS[0], markers=markers),
        size=SIZE,
        salt=panel.title,
        lines=_lines(panel, rows, keys, colour=COLOURS[0]),
        title=panel.title,
    )


def _draw(
    axes: Axes,
    panel: Panel,
    rows: Sequence[Row],
    keys: Sequence[str],
    *,
    colour: str,
    markers: Sequence[Marker] = (),
) -> None:
    if panel.scale == "stacked":
        keys = _areas(axes, rows, keys)
    else:
        for line in _lines(panel, rows, keys, colour=colour):
            _line(axes, line)
    _frame(axes, panel, last=max(row["step"] for row in rows))
    _scale(axes, panel, positive=any((row.get(key) or 0) > 0 for row in rows for key in keys))
    for marker in markers:
        axes.axvline(marker.step, color=INK, linewidth=0.8, linestyle=(0, (3, 2)), alpha=0.6)
        axes.annotate(
            marker.label,
            (marker.step, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(-3, -2),
            textcoords="offset points",
            rotation=90,
            ha="right",
            va="top",
            fontsize=7,
        )
    if panel.scale == "stacked" and keys:  # beside areas that fill the picture, in their order
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), reverse=True, **_LEGEND)
    elif len(keys) > 1:
        axes.legend(loc="best", **_LEGEND)


def _frame(axes: Axes, panel: Panel, *, last: float) -> None:
    """Steps below, to the last one, and the unit at the side."""
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 2.5, 5, 10]))
    axes.set_xlim(0, last * 1.02)
    axes.set_xlabel("step", fontsize=8, labelpad=1)
    axes.set_ylabel(panel.unit, fontsize=8, labelpad=2)


def _scale(axes: Axes, panel: Panel, *, positive: bool) -> None:
    if panel.scale == "log" and positive:
        axes.set_yscale("log", nonpositive="mask")
    elif panel.scale == "share":
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
        axes.set_ylim(bottom=0)
    else:
        axes.yaxis.set_major_locator(MaxNLocator(4))


def _lines(panel: Panel, rows: Sequence[Row], keys: Sequence[str], *, colour: str) -> list[Series]:
    """A line a key, each of its own colour; of areas those that are drawn, as they are coloured."""
    if panel.scale == "stacked":
        return [
            _series(rows, key, label=_named(key), colour=_shades()[key], stands=False)
            for key in _standing(rows, keys)
        ]
    colours = (colour, *(c for c in COLOURS if c != colour))
    return [
        _series(rows, key, label=_named(key), colour=shade)
        for key, shade in zip(keys, colours * len(keys), strict=False)
    ]


def _named(key: str) -> str:
    return key.partition("/")[2] or key.replace("_", " ")


def _shades() -> dict[str, str]:
    return {f"{PREFIX}{phase}": shade for phase, shade in zip(STACKED, AREAS, strict=True)}


def _standing(rows: Sequence[Row], keys: Sequence[str]) -> list[str]:
    """The keys that are not zero throughout."""
    return [key for key in keys if any((row.get(key) or 0.0) > 0 for row in rows)]


def _series(
    rows: Sequence[Row], key: str, *, label: str, colour: str, stands: bool = True
) -> Series:
    """The rows that have the metric."""
    having = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
    return Series(
        label=label,
        colour=colour,
        steps=[step for step, _ in having],
        values=[float(value) for _, value in having],
        stands=stands,
    )


def _areas(axes: Axes, rows: Sequence[Row], keys: Sequence[str]) -> list[str]:
    """One area a key on top of the other, each with the same colour in every picture; the keys that
    are not zero throughout, which alone are drawn."""
    drawn = _standing(rows, keys)
    steps = [row["step"] for row in rows]
    heights = [[row.get(key) or 0.0 for row in rows] for key in drawn]
    if drawn:
        axes.stackplot(
            steps,
            heights,
            labels=[_named(key) for key in drawn],
            colors=[_shades()[key] for key in drawn],
            linewidth=0,
        )
    return drawn


def _line(axes: Axes, line: Series) -> None:
    steps, values = np.array(line.steps, dtype=float), np.array(line.values, dtype=float)
    if len(steps) < SMOOTH_FROM:
        marker = "o" if len(steps) < 15 else ""
        axes.plot(steps, values, color=line.colour, label=line.label, marker=marker, markersize=3.5)
        return
    axes.plot(steps, values, color=line.colour, alpha=0.4, linewidth=0.8)
    axes.plot(steps, _smoothed(values), color=line.colour, label=line.label, linewidth=1.8)


def _smoothed(values: np.ndarray) -> np.ndarray:
    """A centred moving average whose window shrinks to nothing at both ends."""
    half, last = max(len(values) // SMOOTH_SHARE // 2, 1), len(values) - 1
    reach = [min(half, i, last - i) for i in range(len(values))]
    return np.array([values[i - r : i + r + 1].mean() for i, r in enumerate(reach)])
