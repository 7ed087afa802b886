"""A trace as one HTML file: readable without a network, in light and dark."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from pipeline.artifacts import write_atomic
from pipeline.watch.page import page_environment
from pipeline.watch.rollout_log import harmless
from pipeline.watch.trace import Token, Trace, Trajectory

BAND = 46
"""Tokens in one row of a heat map."""

MOST_POSITIONS = 400
"""Positions that the page shows; the JSON document holds all."""

CELL = 22  # width in pixels
HEIGHTS = (9, 22)  # of a cell, deep models' and shallow ones'
TALL = 240  # of a band's cells together, in pixels
LEFT = 26  # beside the cells, in pixels
LONGEST = 12  # characters of a label
FLOOR = 1e-6  # smaller values are drawn as this
PANEL = (320, 210)  # of a trajectory, in pixels
MARGIN = 26
APART = 14  # pixels between two labels

KINDS = {
    "fixed point": "it settles",
    "orbit": "it circles",
    "slider": "it keeps going one way",
    "wanderer": "neither settles, circles nor keeps a direction",
    "too short": "under three steps: too few to say",
}


Path2 = Sequence[tuple[float, float]]
"""A path in a plane."""


@dataclass(frozen=True, kw_only=True)
class Word:
    """A token of the text."""

    token: Token
    settled: int | None  # the iteration that settled it; None in the prompt and where not shown
    turned: bool  # another one at the full depth
    shade: float  # 0 to 1
    settled_shade: float


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One value of a heat map."""

    x: float
    y: float
    strength: float  # 0 to 1
    ran: bool  # within the position's depth
    tip: str


@dataclass(frozen=True, kw_only=True)
class Band:
    """Some tokens of a heat map."""

    top: float  # height of the labels
    rows: list[tuple[float, int]]  # y, iteration
    labels: list[tuple[float, str, bool]]  # x, token, written by the model
    cells: list[Cell]
    marks: list[tuple[float, float]]  # x, y under each token's last iteration that ran
    width: float
    height: float


@dataclass(frozen=True, kw_only=True)
class Heat:
    """Tokens by iterations, in bands; `low` and `high` are the values at the ends of its scale."""

    bands: list[Band]
    cell_height: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A trajectory in pixels."""

    trajectory: Trajectory
    token: str
    follows: str
    meaning: str
    line: str  # up to the depth
    beyond: str
    depth: int
    dots: list[tuple[float, float, float, int]]  # x, y, strength, iteration
    labels: list[tuple[float, float, int]]  # x, y, iteration: the depth, the last and the first


@dataclass(frozen=True, kw_only=True)
class Map:
    """All trajectories on one scale."""

    lines: list[tuple[str, bool]]  # of every position, and whether it is labelled
    ends: list[tuple[float, float, int, str]]  # x, y, position, token, of labelled positions


def write_page(trace: Trace, out: Path) -> Path:
    """Write the trace's page. Raises FileNotFoundError where its folder is missing."""
    first = max(0, len(trace.depths) - MOST_POSITIONS)
    begin = max(first, trace.prompt_tokens - 1)
    settled = {n: trace.settled(n) for n in range(begin, len(trace.depths))}
    turned = {n for n in settled if trace.turned(n)}
    iterations = trace.full_depth
    page = _template().render(
        trace=trace,
        first=first,
        iterations=iterations,
        skipped=min(trace.depths[first:]) < iterations,
        words=_words(trace, settled, turned),
        change=_heat(trace, trace.change, first=first, start=1, unit="relative change"),
        kl=_heat(trace, trace.kl, first=first, start=2, unit="nats") if iterations > 1 else None,
        overview=_map(trace, first=first),
        panels=[_panel(trace, trajectory) for trajectory in trace.trajectories],
        rows=[(n, shown(trace.tokens[n].text), trace.predictions[n]) for n in settled],
        next_token={n: shown(trace.tokens[n + 1].text) for n in settled},
        settled=settled,
        turned=turned,
        mean_settled=sum(settled.values()) / len(settled),
        saved=1 - trace.flops / trace.full_flops,
        kinds=KINDS,
    )
    write_atomic(out, page)
    return out


def shown(text: str) -> str:
    """A token's text with its white space visible."""
    return harmless(text.replace("\n", "⏎").replace("\t", "⇥").replace(" ", "␣")) or "∅"


def _template() -> jinja2.Template:
    environment = page_environment()
    environment.filters |= {"percent": "{:.0%}".format, "shown": shown, "short": _short}
    return environment.get_template("trace.html.j2")


def _short(number: float) -> str:
    """A count with its unit prefix: 86.4 M."""
    for scale, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= scale:
            return f"{number / scale:.3g} {prefix}"
    return f"{number:.3g} "


def _words(trace: Trace, settled: dict[int, int], turned: set[int]) -> list[Word]:
    """Every token; shades are shares of the full depth."""
    words = []
    for index, token in enumerate(trace.tokens):
        at = settled.get(index - 1) if token.depth is not None else None
        words.append(
            Word(
                token=token,
                settled=at,
                turned=index - 1 in turned,
                shade=(token.depth or 0) / trace.full_depth,
                settled_shade=(at or 0) / trace.full_depth,
            )
        )
    return words


def _heat(
    trace: Trace, values: Sequence[Sequence[float]], *, first: int, start: int, unit: str
) -> Heat:
    """A heat map of values [N][iterations from `start`], in bands of BAND positions."""
    deepest = len(values[0])
    height = min(max(TALL / deepest, HEIGHTS[0]), HEIGHTS[1])
    logs = [[math.log10(max(v, FLOOR)) for v in row] for row in values]
    low = min(min(row) for row in logs[first:])
    high = max(max(row) for row in logs[first:])
    bands = []
    for begin in range(first, len(values), BAND):
        positions = range(begin, min(begin + BAND, len(values)))
        texts = [_cut(shown(trace.tokens[n].text)) for n in positions]
        top = 16 + 6 * max(map(len, texts))
        cells = [
            Cell(
                x=LEFT + column * CELL,
                y=top + i * height,
                strength=(logs[n][i] - low) / ((high - low) or 1),
                ran=start + i <= trace.depths[n],
                tip=f"{n} {texts[column]} · iteration {start + i} · {values[n][i]:.2g} {unit}"
                + ("" if start + i <= trace.depths[n] else " · did not run"),
            )
            for column, n in enumerate(positions)
            for i in range(deepest)
        ]
        every = max(1, math.ceil(12 / height))
        bands.append(
            Band(
                top=top,
                rows=[(top + (i + 0.5) * height, start + i) for i in range(0, deepest, every)],
                labels=[
                    (LEFT + (column + 0.5) * CELL, texts[column], _written(trace, n))
                    for column, n in enumerate(positions)
                ],
                cells=cells,
                marks=[
                    (LEFT + column * CELL, top + height * max(trace.depths[n] + 1 - start, 0))
                    for column, n in enumerate(positions)
                ],
                width=LEFT + BAND * CELL,
                height=top + deepest * height + 2,
            )
        )
    return Heat(bands=bands, cell_height=height, low=10**low, high=10**high)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _written(trace: Trace, position: int) -> bool:
    return position >= trace.prompt_tokens


def _panel(trace: Trace, trajectory: Trajectory) -> Panel:
    """The trajectory scaled to its own extent."""
    points, depth = _in_pixels([trajectory.points])[0], trace.depths[trajectory.position]
    return Panel(
        trajectory=trajectory,
        token=shown(trace.tokens[trajectory.position].text),
        follows=shown(trace.tokens[trajectory.position + 1].text),
        meaning=KINDS[trajectory.kind],
        line=_line(points[:depth]),
        beyond=_line(points[depth - 1 :]),
        depth=depth,
        dots=[(x, y, (i + 1) / len(points), i + 1) for i, (x, y) in enumerate(points)],
        labels=_apart([(*points[i - 1], i) for i in (depth, len(points), 1)]),
    )


def _apart(labels: Sequence[tuple[float, float, int]]) -> list[tuple[float, float, int]]:
    """The labels that do not lie on an earlier one."""
    clear: list[tuple[float, float, int]] = []
    for x, y, text in labels:
        if all(math.hypot(x - a, y - b) >= APART for a, b, _ in clear):
            clear.append((x, y, text))
    return clear


def _map(trace: Trace, *, first: int) -> Map:
    """Every position's trajectory, the followed ones on top."""
    labelled = {trajectory.position for trajectory in trace.trajectories}
    positions = [n for n in range(first, len(trace.plane)) if n not in labelled]
    positions += sorted(labelled)
    paths = dict(zip(positions, _in_pixels([trace.plane[n] for n in positions]), strict=True))
    return Map(
        lines=[(_line(path), n in labelled) for n, path in paths.items()],
        ends=[(*paths[n][-1], n, shown(trace.tokens[n].text)) for n in positions if n in labelled],
    )


def _in_pixels(paths: Sequence[Path2]) -> list[list[tuple[float, float]]]:
    """Paths in a panel's pixels, at the largest scale that both axes share."""
    xs, ys = zip(*(point for path in paths for point in path), strict=True)
    width, height = PANEL
    spread = max((max(xs) - min(xs)) / (width - 2 * MARGIN), 1e-12)
    scale = 1 / max(spread, (max(ys) - min(ys)) / (height - 2 * MARGIN))
    middle_x, middle_y = (max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2
    return [
        [
            (
                round(width / 2 + (x - middle_x) * scale, 1),
                round(height / 2 - (y - middle_y) * scale, 1),
            )
            for x, y in path
        ]
        for path in paths
    ]


def _line(path: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in path)
