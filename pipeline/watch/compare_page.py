"""A comparison of two runs as one HTML file that needs no network."""

from pathlib import Path
from typing import Any

from markupsafe import Markup

from pipeline.artifacts import write_atomic
from pipeline.watch.compare import Comparison, Result, p_text, points
from pipeline.watch.curves import overlays
from pipeline.watch.page import page_environment


def write_page(comparison: Comparison, out: Path) -> Path:
    """Write the page; returns its path."""
    environment = page_environment()
    environment.filters |= {"percent": "{:.1%}".format, "points": points, "p": p_text}
    page = environment.get_template("compare.html.j2").render(
        a=comparison.a,
        b=comparison.b,
        notes=comparison.notes,
        recipe=comparison.recipe,
        results=[
            {"row": result.document(), "place": _place(result)} for result in comparison.results
        ],
        reach=_reach(comparison),
        flips=[_flips(result) for result in comparison.results if result.flips],
        curves=[
            {"stage": stage, "pictures": [(title, Markup(picture)) for title, picture in drawn]}
            for stage, (rows_a, rows_b) in comparison.curves.items()
            if (drawn := overlays(rows_a, rows_b, names=_names(comparison)))
        ],
    )
    write_atomic(out, page)
    return out


def _names(comparison: Comparison) -> tuple[str, str]:
    return f"A {comparison.a}", f"B {comparison.b}"


def _reach(comparison: Comparison) -> float:
    """What the scale of differences goes to, in accuracy: the furthest end of an interval, upwards
    to five points."""
    ends = [abs(e) for r in comparison.results for e in (r.test.ci_low, r.test.ci_high)]
    return max(0.05, -(-max(ends, default=0.0) // 0.05) * 0.05)


def _place(result: Result) -> dict[str, float]:
    test = result.test
    return {"low": test.ci_low, "high": test.ci_high, "delta": test.delta}


def _flips(result: Result) -> dict[str, Any]:
    sides = {
        side: [flip for flip in result.flips if flip.right == side and flip.answer_a is not None]
        for side in "ab"
    }
    return {
        "model": result.model,
        "prompts": result.prompts,
        "shown": sides,
        "counts": {side: sum(f.right == side for f in result.flips) for side in "ab"},
    }
