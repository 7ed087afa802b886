"""A picture as inline SVG, with what it says to whoever points at it or sees nothing."""

import io
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = ("#3b82f6", "#e8890c", "#12a37c", "#b45cf0", "#e5484d", "#8b8d98")
"""Mid-tones that can be read on white and on near-black."""

INK = "#010203"  # stands for the page's text colour in an SVG
SETTINGS: dict[Any, Any] = {
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

HOVERED = 300
"""Points of a line whose values a reader can see; of longer ones every so many."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """A line, for whoever points at it."""

    label: str
    colour: str
    steps: Sequence[float]
    values: Sequence[float]
    stands: bool = True  # at its values; an area stands on others


def svg(
    draw: Callable[[Axes], None],
    *,
    size: tuple[float, float],
    salt: str,
    lines: Sequence[Series] = (),
    title: str = "",
) -> str:
    """Inline SVG of what `draw` puts on its axes, `size` in inches. `INK` is the page's text
    colour; `salt` tells the ids of a page's pictures apart. `lines` are what a reader who points at
    a step sees (`hover.js.j2` reads them), and their ends are said to readers who see nothing."""
    stream = io.StringIO()
    with matplotlib.rc_context({**SETTINGS, "svg.hashsalt": salt}):
        figure = Figure(figsize=size, layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        draw(axes)
        metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(stream, format="svg", metadata=metadata)
        hover = _hover(axes, lines) if lines else ""
    text = stream.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", text)  # the same in every picture of the page
    label = f' role="img" aria-label="{escape(_spoken(title, lines))}"' if title else ""
    return text.replace("<svg", f"<svg{label}{hover}", 1)


def _hover(axes: Axes, lines: Sequence[Series]) -> str:
    """Where the lines' points are in the picture, as an attribute of it: `x` turns a step into a
    place by offset and factor, `box` is the axes' left, top, right and bottom, `lines` have
    [step, value, height]."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    scale, height = 72 / figure.dpi, 72 * figure.get_figheight()

    def place(step: float, value: float) -> tuple[float, float]:
        x, y = axes.transData.transform((step, value))
        return float(x) * scale, height - float(y) * scale

    bottom, top = axes.get_ylim()
    origin, one = place(0, top)[0], place(1, top)[0]
    left, right = axes.get_xlim()
    box = [place(left, top)[0], place(left, top)[1], place(right, top)[0], place(left, bottom)[1]]
    content = {
        "x": [round(origin, 3), round(one - origin, 6)],
        "box": [round(edge, 1) for edge in box],
        "lines": [
            {
                "label": line.label,
                "colour": line.colour,
                "points": [
                    [step, _short(value), round(place(step, value)[1], 1) if line.stands else None]
                    for step, value in _thinned(line)
                ],
            }
            for line in lines
        ],
    }
    return f' data-hover="{escape(json.dumps(content, separators=(",", ":")))}"'


def _thinned(line: Series) -> list[tuple[float, float]]:
    """At most `HOVERED` of the points that have a value, the last among them."""
    pairs = zip(line.steps, line.values, strict=True)
    points = [(step, value) for step, value in pairs if math.isfinite(value)]
    stride = max(1, -(-len(points) // HOVERED))
    return points[::-1][::stride][::-1]


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _spoken(title: str, lines: Sequence[Series]) -> str:
    parts = []
    for line in lines:
        points = _thinned(line)
        if points:
            (first, begin), (last, end) = points[0], points[-1]
            name = f"{line.label} " if len(lines) > 1 else ""
            parts.append(f"{name}{begin:.4g} at step {first:g}, {end:.4g} at step {last:g}")
    return f"{title}: {'; '.join(parts)}" if parts else title
