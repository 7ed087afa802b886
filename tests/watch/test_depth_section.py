"""The report's section on depth."""

import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from pipeline.depth.compare.depth_report import DepthReport
from pipeline.depth.compare.methods import LABELS
from pipeline.watch.depth_pictures import (
    LOOKS,
    PANELS,
    RULES,
    front_svg,
    gain_svg,
    slider_svg,
    stated_gains_svg,
)
from pipeline.watch.depth_section import depth_section
from pipeline.watch.report import write_report

FIXED = (0.31, 0.52, 0.66, 0.74, 0.775, 0.79, 0.795, 0.79)  # accuracy at depths 1 to 8
PROBLEMS = 500


def row(accuracy: float, depth: float, *, check: float = 0.0, **more: Any) -> dict[str, Any]:
    iterations = 30 * depth
    flops = 1e6 * (40 + (1 + check) * iterations)
    return {
        "accuracy": accuracy,
        "mean_depth": depth,
        "iterations": iterations,
        "tokens": 30.0,
        "flops_per_answer": flops,
        "joules_per_answer": 3e-11 * flops,
        "energy_source": "analytic",
        **more,
    }


def curve(gain: float, **options: Any) -> list[dict[str, Any]]:
    """Five settings of a method that is `gain` better than the fixed depths where they differ."""
    rows = []
    for index, depth in enumerate((1.4, 2.1, 3.2, 4.6, 6.3)):
        low, high = FIXED[int(depth) - 1], FIXED[int(depth)]
        there = low + (high - low) * (depth - int(depth))
        slack = 4 * (there - 0.31) * (0.8 - there) / 0.49**2
        setting = {key: 10.0**-index for key in options if key == "threshold"}
        check = options.get("check", 0.0)
        rows.append(row(there + gain * slack, depth, check=check, log_price=1.0 - index) | setting)
        if setting:
            del rows[-1]["log_price"]
    return rows


DEEPER: dict[str, Any] = {
    "hull_area": 0.042,
    "hull_area_ci": [0.021, 0.066],
    "hull_area_by_method": {},
    "hypervolume": {},
    "hypervolume_ci": {},
    "hypervolume_difference": {},
    "reference": {"iterations": 180.0, "flops": 190e6, "accuracy": 0.61},
    "best_fixed": {"iterations": 240.0, "flops": 250e6, "accuracy": 0.617},
    "flops_saved": None,
    "iterations_saved": 0.437,
    "iterations_saved_ci": [0.392, 0.471],
    "spearman": None,
    "problems": 400,
    "left_out": 2,
    "methods": {},
}
"""The policy on other prompts."""


def document() -> dict[str, Any]:
    """What a depth stage leaves in its manifest."""
    gains = {
        "policy": 0.06, "joint": 0.075, "policy_sampled": 0.05, "permuted": -0.05, "labels": 0.035,
        "own_labels": -0.03, "warm_start": 0.02, "critic": 0.012,
        "request_depth": 0.008, "static": -0.02,
        "random": -0.06, "right": 0.015, "kl": 0.022, "latent": 0.01,
        "entropy": 0.03, "second_order": -0.01, "q_exit": 0.028,
    }  # fmt: skip
    checks = {"kl": 0.5, "entropy": 0.5}
    methods = {"fixed": [row(a, d) | {"depth": d} for d, a in enumerate(FIXED, start=1)]}
    methods["fixed_whole"] = [row(a - 0.02, d) | {"depth": d} for d, a in enumerate(FIXED, start=1)]
    for name, gain in gains.items():
        threshold = {"threshold": 1.0} if name in RULES else {}
        methods[name] = curve(gain, check=checks.get(name, 0.0), **threshold)
    for number, gain in ((1, 0.045), (2, 0.07)):
        methods[f"policy, seed {number}"] = curve(gain)
    methods["slider"] = [row(0.6, 2.4, log_price=0.2)]
    methods["oracle"] = [
        {"setting": kind, "accuracy": a, "flops_per_answer": f}
        for kind, a, f in (("cheapest right depth", 0.86, 92e6), ("largest gain", 0.81, 84e6))
    ]
    return {
        "headroom": {"verdict": "go", "reason": "go: an oracle gains 7.0 points."},
        "methods": methods,
        "hull_area": 0.061,
        "hull_area_ci": [0.04, 0.08],
        "hull_area_by_method": {n: [g, g - 0.013, g + 0.012] for n, g in gains.items()},
        "hypervolume": {n: 0.41 + g for n, g in {"fixed": 0.0, **gains}.items()},
        "hypervolume_ci": {n: [0.39 + g, 0.43 + g] for n, g in {"fixed": 0.0, **gains}.items()},
        "hypervolume_difference": {
            n: [0.06 - g, 0.04 - g, 0.08 - g]
            for n, g in {"fixed": 0.0, **gains}.items()
            if n != "policy"
        },
        "gain_at": {
            depth: {
                n: {
                    "gain": (0.06 - g) * scale,
                    "ci_low": (0.045 - g) * scale,
                    "ci_high": (0.075 - g) * scale,
                    "by_seed": [0.05, 0.07, 0.06],
                    "p_seeds": None,
                }
                for n, g in {"fixed": -0.06, **gains}.items()
                if n != "policy"
            }
            for depth, scale in (("1.25", 0.6), ("1.5", 1.0), ("2", 0.8))
        },
        "accuracy_at": {"1.5": {n: [0.6 + g, 0.58 + g, 0.62 + g] for n, g in gains.items()}},
        "flops_at": {"1.25": 78e6, "1.5": 85e6, "2": 100e6},
        "max_saving": 0.49,
        "flops_saved": 0.31,
        "flops_saved_ci": [0.24, 0.35],
        "flops_saved_accuracy": [-0.006, -0.021, 0.008],
        "iterations_saved": None,
        "reference": {"iterations": 180.0, "flops": 220e6, "accuracy": 0.79},
        "best_fixed": {"iterations": 210.0, "flops": 250e6, "accuracy": 0.795},
        "oracle": {"verdict": "go", "reason": "go.", "points": 9.0, "points_ci": [7.0, 11.0]},
        "depth_policy": {"depth": 8, "prompt_depth": 1},
        "spearman": 0.72,
        "spearman_ceiling": 0.93,
        "spearman_all": 0.64,
        "waste": 0.182,
        "shortfall": 0.034,
        "depth_asked": 3.62,
        "depth_idle": 1.31,
        "budget_error": 0.041,
        "cheapest_depth": 1.1,
        "monotone": True,
        "budgets": [
            {"budget": b, "spent": s}
            for b, s in ((0.3, 0.312), (0.4, 0.384), (0.5, 0.488), (0.625, 0.64), (0.75, 0.744))
        ],
        "efforts": {"low": 0.3, "medium": 0.5, "high": 0.75},
        "depth_calibration": [
            {"budget": b, "log_price": p, "mean_depth": 8 * b, "accuracy": a, "flops": f}
            for b, p, a, f in (
                (0.21, 1.7, 0.55, 92e6),
                (0.3, 0.8, 0.64, 113e6),
                (0.5, -0.4, 0.78, 161e6),
                (0.75, -2.2, 0.8, 222e6),
            )
        ],
        "seeds": [0, 1, 2],
        "problems": PROBLEMS,
        "transfer": {"deeper": DEEPER},
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
    assert page.count("<figcaption>Accuracy against") == 2 * len(PANELS)
    assert page.count("<figcaption>Gain at equal FLOPs") == len(PANELS)
    for text in (
        "+12.0 points</b><span>over mixed fixed depths at the FLOPs of mean depth 1.5",
        "+6.1 points",
        "of a full-depth answer 49% at most",
        "needed steps (an oracle&#39;s: 0.93)",
        "<td>fixed depths, mixed</td>",
        "(+4.0 to +8.0)",
        "+31%",
        "FLOPs saved (+24% to +35%), at -0.6 points (-2.1 to +0.8) from the best fixed depth",
        "of the iterations saved: never within a point",
        "0.72",
        "4.1%",
        "Q-exit gate",
        "18.2% of the policy",
        "Mean depth 3.62 where",
        "500 held-out problems, 3 seeds",
        "Joules: analytic, estimated",
        "low</td>",
    ):
        assert text in page
    assert page.count("<td>learned policy</td>") == 5  # the long table; the short one has it bold
    assert "<td>learned policy, seed 2</td>" in page
    assert "threshold 0.0001" in page
    assert "ln(price) +1.00" in page
    assert "<td>medium</td>" in page
    for text in ("<td>deeper</td>", "61.7%", "never within a point", "43.7%", "39.2% to 47.1%"):
        assert text in page


def test_a_document_is_read_and_written_back_whole() -> None:
    found = document()
    again = DepthReport.read(found).document()
    defaults = {
        "by_depth", "left_out", "iterations_saved_ci", "iterations_saved_accuracy", "oracle_points",
        "iterations_by_steps",
    }  # fmt: skip
    assert again.keys() - found.keys() <= defaults
    flat = found.keys() - {"headroom", "oracle", "transfer"}
    assert {key: again[key] for key in flat} == {key: found[key] for key in flat}
    assert DepthReport.read(json.loads(json.dumps(again))).document() == again


def test_a_run_from_before_intervals_of_savings_is_still_shown() -> None:
    found = document()
    for key in ("flops_saved_ci", "flops_saved_accuracy", "best_fixed", "gain_at", "max_saving"):
        del found[key]
    section = depth_section("depth", found)
    assert ("+31%", "FLOPs saved within a point of the best fixed depth") in section["savings"]


def test_a_panel_without_methods_of_its_own_is_left_out() -> None:
    found = document()
    few = {name: found["methods"][name] for name in ("fixed", "policy")}
    for methods in (few, few | {"labels": found["methods"]["labels"]}):
        pictures = depth_section("depth", found | {"methods": methods})["pictures"]
        assert [len(row) for row in pictures] == [1, 1, 1]
        assert pictures[0][0][0].endswith("what learns")


def test_a_no_go_is_a_sentence(run_folder: Path) -> None:
    reason = "no go: even an oracle gains less than 1 point."
    page = with_stage(run_folder, {"headroom": {"verdict": "no go", "reason": reason}})
    assert reason in page
    assert "Accuracy against" not in page


def test_every_method_is_drawn_and_named() -> None:
    methods = document()["methods"]
    pages = [
        front_svg(methods, "flops_per_answer", "FLOPs per answer", panel=panel, problems=PROBLEMS)
        for panel in PANELS
    ]
    assert LOOKS.keys() == LABELS.keys()
    for name, label in LABELS.items():
        assert [label in svg for svg in pages] == [name in some for some in PANELS.values()]
    assert all("currentColor" in svg for svg in pages)


def test_no_two_methods_of_a_panel_look_alike() -> None:
    for names in PANELS.values():
        looks = {(LOOKS[name].colour, LOOKS[name].line) for name in names}
        assert len(looks) == len(names)
        assert len({(LOOKS[name].colour, LOOKS[name].marker) for name in names}) == len(names)


def test_a_picture_without_the_number_of_problems_has_no_bars() -> None:
    methods = document()["methods"]
    given = {"panel": "exit rules", "key": "iterations", "unit": "iterations"}
    bars, bare = (front_svg(methods, **given, problems=n) for n in (PROBLEMS, None))
    assert bars.count("<path") == bare.count("<path") + len(FIXED) + len(methods["policy"])


def test_gains_are_over_mixed_fixed_depths_within_their_range() -> None:
    fixed = [row(0.2, 1), row(0.6, 5)]
    mixed = row(0.4, 3)  # half of either
    methods = {"fixed": fixed, "kl": [mixed, row(0.45, 3), row(0.9, 9)]}
    svg = gain_svg(methods, "iterations", "iterations", panel="exit rules")
    assert "KL exit" in svg
    assert "fixed depth<" not in svg
    lines = []

    def remember(draw: Any, **_: Any) -> str:
        axes = Figure().add_subplot()
        draw(axes)
        lines.extend(axes.get_lines())
        return ""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.watch.depth_pictures.svg", remember)
        gain_svg(methods, "iterations", "iterations", panel="exit rules")
    _, points, front = lines
    assert points.get_ydata() == pytest.approx([0, 5])  # 9 iterations a token are out of range
    assert front.get_ydata() == pytest.approx([0, 5, 0])  # from depth 1 to the full depth


def test_gains_at_stated_costs_have_a_row_and_a_line_for_every_rival() -> None:
    gain_at = document()["gain_at"]
    svg = stated_gains_svg(gain_at)
    for text in ("mean depth 1.25", "mean depth 2", "warm start", "Q-exit gate"):
        assert text in svg
    gains = depth_section("depth", document())["gains"]
    assert [column["depth"] for column in gains["columns"]] == ["1.25", "1.5", "2"]
    assert [row["name"] for row in gains["rows"]][:2] == [
        "fixed depths, mixed",
        LABELS["joint"],
    ]
    assert all(len(row["cells"]) == 3 for row in gains["rows"])
    assert not gains["exact"]


def test_the_slider_shows_where_the_efforts_lie() -> None:
    found = document()
    svg = slider_svg(found["budgets"], found["efforts"])
    for text in ("low", "medium", "high", "asked for"):
        assert text in svg
    same = {"low": 0.3, "medium": 0.3, "high": 0.3}
    assert "low, medium, high" in slider_svg(found["budgets"][:1], same)
    assert "high" in slider_svg([], found["efforts"])


def test_the_section_names_the_policy_first_among_equals() -> None:
    section = depth_section("depth", document())
    assert [m["name"] for m in section["methods"]] == [LABELS[name] for name in LOOKS]
    assert [m["main"] for m in section["methods"]].count(True) == 1
    budgets = [row["budget"] for row in section["slider"]]
    assert budgets == sorted(budgets)
    assert [row["effort"] for row in section["slider"] if row["effort"]] == [
        "low",
        "medium",
        "high",
    ]
    assert len(section["settings"]) == sum(len(rows) for rows in document()["methods"].values())
    low, high = section["settings"][0]["interval"]
    assert low < FIXED[0] < high


def test_nothing_is_said_of_need_where_none_is_known() -> None:
    unknown = dict.fromkeys(("spearman", "spearman_all", "waste", "shortfall"))
    section = depth_section("depth", document() | unknown)
    assert section["need"] is None
    assert not any("needed steps" in meaning for _, meaning in section["savings"])
