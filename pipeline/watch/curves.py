"""Pictures of a stage's metrics: inline SVG for the report, PNG for a README."""

import io
import re
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

Row = Mapping[str, float]

COLOURS = ("#3b82f6", "#e8890c", "#12a37c", "#b45cf0", "#e5484d", "#8b8d98")
"""Mid-tones that can be read on white and on near-black."""

AREAS = (*COLOURS[:-1], "#0ea5c6", COLOURS[-1])
"""Of the phases that areas show, the last for what is idle."""

SMOOTH_FROM = 30
"""Rows from which a moving average is drawn over the raw line."""

SMOOTH_SHARE = 12
"""The moving average's window is the number of rows divided by this."""

INK = "#010203"  # stands for the page's text colour in an SVG
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}

_LEGEND: dict[str, Any] = {"fontsize": 8, "handlelength": 1.2}


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One small picture: what it shows and of which metrics."""

    title: str
    keys: Callable[[Sequence[str]], Sequence[str]]  # from the keys that the rows have
    scale: str = "linear"  # linear, share, log, or stacked: areas one above the other


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
    Panel(title="Reward", keys=_only("reward")),
    Panel(
        title="Reward components",
        keys=lambda present: [key for key in present if key.startswith("reward/")],
    ),
    Panel(title=HELD_OUT, keys=_only("held_out_accuracy"), scale="share"),
    Panel(
        title="Held-out rewards",
        keys=lambda present: several(k for k in present if k.startswith("held_out_reward/")),
    ),
    Panel(title="Loss", keys=lambda present: [] if "reward" in present else _only("loss")(present)),
    Panel(
        title="Where a step's seconds go",
        keys=_only(*(PREFIX + phase for phase in STACKED)),
        scale="stacked",
    ),
    Panel(title="Training, GFLOP/s", keys=_only("training_gflops_per_s")),
    Panel(title="Training, share of matmul speed", keys=_only("matmul_share"), scale="share"),
    Panel(title="Completion length (tokens)", keys=_only("completion_tokens")),
    Panel(title="Groups without variance", keys=_only("zero_variance_share"), scale="share"),
    Panel(title="Log-probability gap (nats)", keys=_only("logprob_gap"), scale="log"),
    Panel(title="KL from the sampling weights (nats)", keys=_only("stale_kl")),
    Panel(title="Cut-off completions", keys=_only("truncated_share"), scale="share"),
    Panel(title="KL to the reference (nats)", keys=_only("kl")),
    Panel(title="Entropy (nats)", keys=_only("entropy")),
    Panel(title="Depth (iterations per token)", keys=_only("depth_mean")),
    Panel(
        title="Spread of depth over tokens and prompts", keys=_only("depth_std", "depth_prompt_std")
    ),
)


def pictures(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """(title, SVG) of every panel that the rows can fill. Colours follow the page's text."""
    present = list(dict.fromkeys(key for row in rows for key in row))
    filled = [(panel, panel.keys(present)) for panel in PANELS]
    return [(panel.title, _svg(panel, rows, keys)) for panel, keys in filled if keys]


def curve_png(rows: Sequence[Row], out: Path, *, title: str) -> Path:
    """Reward and held-out accuracy by step, side by side, on white."""
    shown = [panel for panel in PANELS if panel.title in ("Reward", HELD_OUT)]
    present = list(dict.fromkeys(key for row in rows for key in row))
    filled = [panel for panel in shown if panel.keys(present)]
    with matplotlib.rc_context({**_SETTINGS, "font.size": 10}):
        figure = Figure(figsize=(4.6 * len(filled), 3.1), layout="constrained", facecolor="white")
        figure.suptitle(title, fontsize=12, fontweight="bold")
        for index, panel in enumerate(filled, start=1):
            axes = figure.add_subplot(1, len(filled), index)
            _draw(axes, panel, rows, panel.keys(present), colour=COLOURS[index - 1])
            axes.set_title(panel.title, fontsize=10, loc="left")
            axes.set_xlabel("step")
        figure.savefig(out, format="png", dpi=160)
    return out


def _svg(panel: Panel, rows: Sequence[Row], keys: Sequence[str]) -> str:
    return svg(
        lambda axes: _draw(axes, panel, rows, keys, colour=COLOURS[0]),
        size=(3.9, 2.1),
        salt=panel.title,
    )


def svg(draw: Callable[[Axes], None], *, size: tuple[float, float], salt: str) -> str:
    """Inline SVG of what `draw` puts on its axes, `size` in inches. `INK` is the page's text
    colour; `salt` tells the ids of a page's pictures apart."""
    stream = io.StringIO()
    with matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": salt}):
        figure = Figure(figsize=size, layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        draw(axes)
        metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(stream, format="svg", metadata=metadata)
    text = stream.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    return re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", text)  # the same in every picture of the page


def _draw(
    axes: Axes, panel: Panel, rows: Sequence[Row], keys: Sequence[str], *, colour: str
) -> None:
    colours = (colour, *(c for c in COLOURS if c != colour))
    if panel.scale == "stacked":
        keys = _areas(axes, rows, keys)
    else:
        for key, shade in zip(keys, colours * len(keys), strict=False):
            _line(axes, *_points(rows, key), label=key.partition("/")[2] or key, colour=shade)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 2.5, 5, 10]))
    axes.set_xlim(0, max(row["step"] for row in rows) * 1.02)
    if panel.scale == "log" and any((row.get(key) or 0) > 0 for row in rows for key in keys):
        axes.set_yscale("log", nonpositive="mask")
    elif panel.scale == "share":
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
        axes.set_ylim(bottom=0)
    else:
        axes.yaxis.set_major_locator(MaxNLocator(4))
    if panel.scale == "stacked" and keys:  # beside areas that fill the picture, in their order
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), reverse=True, **_LEGEND)
    elif len(keys) > 1:
        axes.legend(loc="best", **_LEGEND)


def _areas(axes: Axes, rows: Sequence[Row], keys: Sequence[str]) -> list[str]:
    """One area a key on top of the other, each with the same colour in every picture; the keys that
    are not zero throughout, which alone are drawn."""
    drawn = [key for key in keys if any((row.get(key) or 0.0) > 0 for row in rows)]
    shades = {f"{PREFIX}{phase}": shade for phase, shade in zip(STACKED, AREAS, strict=True)}
    steps = [row["step"] for row in rows]
    heights = [[row.get(key) or 0.0 for row in rows] for key in drawn]
    if drawn:
        axes.stackplot(
            steps,
            heights,
            labels=[key.partition("/")[2] for key in drawn],
            colors=[shades[key] for key in drawn],
            linewidth=0,
        )
    return drawn


def _points(rows: Sequence[Row], key: str) -> tuple[np.ndarray, np.ndarray]:
    """(steps, values) of the rows that have the metric."""
    having = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
    points = np.array(having, dtype=float).reshape(-1, 2)
    return points[:, 0], points[:, 1]


def _line(axes: Axes, steps: np.ndarray, values: np.ndarray, *, label: str, colour: str) -> None:
    if len(steps) < SMOOTH_FROM:
        marker = "o" if len(steps) < 15 else ""
        axes.plot(steps, values, color=colour, label=label, marker=marker, markersize=3.5)
        return
    axes.plot(steps, values, color=colour, alpha=0.4, linewidth=0.8)
    axes.plot(steps, _smoothed(values), color=colour, label=label, linewidth=1.8)


def _smoothed(values: np.ndarray) -> np.ndarray:
    """A centred moving average whose window shrinks to nothing at both ends."""
    half, last = max(len(values) // SMOOTH_SHARE // 2, 1), len(values) - 1
    reach = [min(half, i, last - i) for i in range(len(values))]
    return np.array([values[i - r : i + r + 1].mean() for i, r in enumerate(reach)])
