"""The report's section on depth."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.watch.depths import NAMES, depth_section, front_svg
from pipeline.watch.report import write_report


def row(accuracy: float, depth: float, **more: Any) -> dict[str, Any]:
    iterations = 30 * depth
    return {
        "accuracy": accuracy,
        "mean_depth": depth,
        "iterations": iterations,
        "flops_per_answer": 1e6 * (20 + iterations),
        "joules_per_answer": 2e-3 * depth,
        "energy_source": "analytic",
        **more,
    }


def document() -> dict[str, Any]:
    """What a depth stage leaves in its manifest."""
    shift = {"policy": 0.12, "permuted": -0.1, "labels": 0.06, "kl": -0.05, "critic": 0.03}
    methods = {
        name: [row(min(0.1 * d + shift.get(name, 0.0) + 0.15, 0.9), d) for d in (1, 2, 4, 6, 8)]
        for name in NAMES
        if name != "oracle"
    }
    methods["oracle"] = [
        {"setting": kind, "accuracy": a, "flops_per_answer": f}
        for kind, a, f in (("cheapest right depth", 0.93, 120e6), ("largest gain", 0.9, 90e6))
    ]
    known = [name for name in methods if name not in ("oracle", "fixed_whole")]
    return {
        "headroom": {"verdict": "go", "reason": "go: an oracle gains 7.0 points."},
        "methods": methods,
        "hull_area": 0.061,
        "hull_area_ci": [0.04, 0.08],
        "hull_area_by_method": {n: [shift.get(n, 0), -0.01, 0.02] for n in known if n != "fixed"},
        "hypervolume": dict.fromkeys(known, 0.4),
        "hypervolume_ci": {name: [0.38, 0.42] for name in known},
        "flops_saved": 0.31,
        "iterations_saved": None,
        "spearman": 0.72,
        "budget_error": 0.041,
        "budgets": [{"budget": b, "spent": b + 0.01} for b in (0.3, 0.5)],
        "efforts": {"low": 0.3, "medium": 0.5, "high": 0.5},
        "depth_calibration": [
            {"budget": b, "log_price": -b, "mean_depth": 8 * b, "accuracy": 0.6, "flops": 1.5e8}
            for b in (0.2, 0.3, 0.5)
        ],
        "seeds": [0, 1, 2],
        "problems": 500,
    }


def with_stage(run_folder: Path, found: dict[str, Any]) -> str:
    folder = run_folder / "stages" / "depth"
    folder.mkdir()
    manifest = {"kind": "checkpoint", "stage": "depth", "info": {"depth": found}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return write_report(run_folder).read_text()


def test_the_report_shows_fronts_methods_and_slider(run_folder: Path) -> None:
    page = with_stage(run_folder, document())
    assert "Depth per token: depth" in page
    assert "go: an oracle gains 7.0 points." in page
    assert page.count('<figure class="wide">') == 2
    for text in ("+6.1 points", "+31%", "accuracy not reached", "0.72", "4.1%", "Q-exit gate"):
        assert text in page
    assert "low</td>" in page
    assert "500 held-out problems, 3 seeds" in page


def test_a_no_go_is_a_sentence(run_folder: Path) -> None:
    reason = "no go: even an oracle gains less than 1 point."
    page = with_stage(run_folder, {"headroom": {"verdict": "no go", "reason": reason}})
    assert reason in page
    assert '<figure class="wide">' not in page


def test_every_method_is_drawn_and_named() -> None:
    svg = front_svg(document()["methods"], "flops_per_answer", "FLOPs per answer")
    assert all(name in svg for name in NAMES.values())
    assert "currentColor" in svg


def test_the_section_names_the_policy_first_among_equals() -> None:
    section = depth_section("depth", document())
    assert [m["name"] for m in section["methods"]] == list(NAMES.values())
    assert [m["main"] for m in section["methods"]].count(True) == 1
    assert section["slider"][0]["spent"] is None
    assert section["slider"][1]["spent"] == pytest.approx(0.31)
