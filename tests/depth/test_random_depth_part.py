"""The SFT part: a trainer run in a folder of its own."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.depth import random_depth_part
from pipeline.depth.bench import Bench
from pipeline.errors import Stopped
from pipeline.recipe.depth_stage import DepthStage
from pipeline.stages.context import RunContext
from pipeline.train import training_calls
from pipeline.train.job import CHECKPOINTS, METRICS_FILE, STOP_FILE

SPEC = DepthStage.model_validate(
    {
        "kind": "depth", "prompts": "t", "calibration": "t", "held_out": "t", "max_depth": 4,
        "max_tokens": 9, "rows": "t.worked",
    }
)  # fmt: skip

CALIBRATED = {"depth_policy": {"depth": 4}, "depth_calibration": [], "efforts": {}}


class Cluster:
    """A trainer that logs a step, keeps a checkpoint, and looks at its stop file."""

    def train(self, training: Any, *, poll: Any) -> dict[str, Any]:
        job, rows = training.args
        assert training.func is training_calls.sft
        assert rows.parent == job.work
        self.job = job
        (job.work / CHECKPOINTS / "checkpoint-1").mkdir(parents=True)
        (job.work / METRICS_FILE).write_text(
            json.dumps({"step": 1, "steps": 2, "loss": 3.0}) + "\n"
        )
        poll()
        stopped = (job.work / STOP_FILE).exists()
        return {"status": "stopped" if stopped else "done", "steps": 1, "loss": 3.0}


@pytest.fixture
def shown() -> list[Any]:
    """What the console was told."""
    return []


@pytest.fixture
def context(tmp_path: Path, shown: list[Any], monkeypatch: pytest.MonkeyPatch) -> RunContext:
    monkeypatch.setattr(
        random_depth_part, "write_rows", lambda ctx, *_, **__: ctx.work / "rows.parquet"
    )
    hardware = SimpleNamespace(ranks=1, sharding="none", rank_threads=1)
    recipe = SimpleNamespace(
        name="r",
        hardware=hardware,
        model=SimpleNamespace(dtype="float32"),
        report_to=[],
        stages={},
    )
    plan: Any = SimpleNamespace(recipe=recipe, device="cpu")
    (tmp_path / "work").mkdir()
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text(json.dumps({"num_iterations": 4} | CALIBRATED))
    (tmp_path / "work" / METRICS_FILE).write_text("policy gradients\n")
    console: Any = SimpleNamespace(
        metrics=lambda name, row: shown.append((name, row)),
        log=lambda line: shown.append(line),
    )
    return RunContext(
        plan=plan,
        run_dir=tmp_path,
        work=tmp_path / "work",
        out=tmp_path / "out",
        artifacts={},
        cluster=Cluster(),
        console=console,
        stopping=lambda: (tmp_path / "stop").exists(),
    )


def made(context: RunContext) -> Any:
    plan: Any = SimpleNamespace(name="depth", seed=3, spec=SPEC)
    model = context.run_dir / "base"
    return random_depth_part.make(Bench(plan, context), context.out, model=model)


def test_its_metrics_and_checkpoints_are_its_own(context: RunContext, shown: list[Any]) -> None:
    assert made(context) == {"steps": 1, "loss": 3.0}
    work = context.work / random_depth_part.FOLDER
    assert context.cluster.job.work == work
    assert context.cluster.job.spec.random_depths.high == 4
    assert json.loads((work / METRICS_FILE).read_text())["loss"] == 3.0
    assert (context.work / METRICS_FILE).read_text() == "policy gradients\n"
    said, *rows = shown
    assert "the trained model has no calibration and runs 4 iterations" in said
    assert rows == [("depth", {"step": 1, "steps": 2, "loss": 3.0})]
    assert not (work / CHECKPOINTS).exists()


def test_a_stop_reaches_the_trainer_and_keeps_the_checkpoint(context: RunContext) -> None:
    (context.run_dir / "stop").touch()
    with pytest.raises(Stopped, match="stopped after step 1"):
        made(context)
    assert (context.work / random_depth_part.FOLDER / CHECKPOINTS / "checkpoint-1").is_dir()
