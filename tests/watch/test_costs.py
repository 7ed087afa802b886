import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.measure.energy import DEVICE_CLASSES
from pipeline.watch.costs import costs_of

STAGES: list[dict[str, Any]] = [
    {"name": "reason", "seconds": 7200.0, "phase_seconds": {"training": 3600.0, "idle": 3600.0}},
    {"name": "report", "seconds": 1800.0, "phase_seconds": {}},
    {"name": "export", "seconds": 0.0},
]
RECIPE: dict[str, Any] = {
    "hardware": {"device": "cpu", "ranks": 2, "engines": 1, "gpus_per_engine": 2},
    "stages": {"reason": {"kind": "grpo"}, "report": {"kind": "evaluate"}},
}


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A training at 10 GFLOP/s a rank for 30 seconds, and an evaluation of 100 problems."""
    (tmp_path / "metrics").mkdir()
    row = {"step": 1, "training_gflops_per_s": 10.0, "seconds/training": 30.0}
    lines = [json.dumps(row), json.dumps({"step": 2, "reward": 1.0})]
    (tmp_path / "metrics" / "reason.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "stages" / "report").mkdir(parents=True)
    result = {"problems": 100, "samples_per_prompt": 2, "joules_per_answer": 0.5}
    results = [{**result, "energy_source": "rapl"}, {"problems": 3}]
    (tmp_path / "stages" / "report" / "results.json").write_text(json.dumps(results))
    return tmp_path


def test_a_row_for_each_stage_that_took_time(run_dir: Path) -> None:
    costs = costs_of(run_dir, STAGES, RECIPE)
    reason, report = costs["rows"]
    assert reason["flops"] == pytest.approx(2 * 3e11)
    joules = 6e11 * DEVICE_CLASSES["cpu"].joules_per_flop
    assert (reason["joules"], reason["source"]) == (pytest.approx(joules), "analytic")
    assert [(name, share) for name, _, share, _ in reason["phases"]] == [
        ("training", 0.5),
        ("idle", 0.5),
    ]
    assert (report["joules"], report["source"]) == (pytest.approx(100.0), "rapl")
    assert costs["joules"] == pytest.approx(joules + 100.0)
    assert costs["seconds"] == 9000.0
    assert [phase for phase, _ in costs["legend"]] == ["training", "idle"]


@pytest.mark.parametrize(("device", "dollars"), [("cpu", None), ("cuda", 2.0 * 4 * 2.5)])
def test_gpus_that_have_a_price_cost_money(
    run_dir: Path, device: str, dollars: float | None
) -> None:
    hardware = RECIPE["hardware"] | {"device": device, "dollars_per_gpu_hour": 2.0}
    assert costs_of(run_dir, STAGES, RECIPE | {"hardware": hardware})["dollars"] == dollars


def test_auto_is_what_the_launch_chose(run_dir: Path) -> None:
    launch = {"chosen": {"hardware.device": "cuda"}}
    (run_dir / "launches.json").write_text(json.dumps([launch]))
    hardware = RECIPE["hardware"] | {"device": "auto"}
    row = costs_of(run_dir, STAGES, RECIPE | {"hardware": hardware})["rows"][0]
    assert row["joules"] == pytest.approx(6e11 * DEVICE_CLASSES["h100"].joules_per_flop)


def test_a_run_that_has_only_begun_has_no_costs(tmp_path: Path) -> None:
    costs = costs_of(tmp_path, [{"name": "reason", "seconds": 0.0}], {})
    assert (costs["rows"], costs["joules"], costs["dollars"]) == ([], None, None)
