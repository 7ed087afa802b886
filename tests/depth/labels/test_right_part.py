"""Candidates of the "right already?" head: measured on calibration prompts, and the best stays."""

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.depth import depth_calls
from pipeline.depth.labels import right_part
from pipeline.depth.trainer_jobs import HeadJob, RightLabels
from pipeline.recipe.depth_stage import RIGHT_CANDIDATES, RIGHT_THRESHOLDS, DepthStage
from pipeline.recurrent.request import DepthRequest

ACCURACY = {"candidate-0": 0.5, "candidate-1": 0.6, "candidate-2": 0.8, "candidate-3": 0.7}


class Bench:
    """Trainers and engines that write down what they are asked."""

    def __init__(self, spec: DepthStage, folder: Path) -> None:
        self.spec = spec
        self.plan = SimpleNamespace(seed=3, spec=spec)
        recipe = SimpleNamespace(
            hardware=SimpleNamespace(rank_threads=1), model=SimpleNamespace(dtype="float32")
        )
        cluster = SimpleNamespace(call=self.call)
        self.ctx = SimpleNamespace(
            plan=SimpleNamespace(recipe=recipe, device="cpu"), cluster=cluster, work=folder
        )
        self.trained: list[tuple[RightLabels, float]] = []
        self.measured: list[tuple[str, str, float | None]] = []
        self.judges: list[tuple[Any, ...]] = []
        self.forgotten = False

    def call(self, function: Any, job: HeadJob, *rest: Any, lr: float, **keywords: Any) -> Any:
        inspect.signature(function).bind(job, *rest, lr=lr, **keywords)
        if function is depth_calls.train_judge:
            self.judges.append((job.out, *rest, lr))
            return None
        labels = keywords["labels"]
        job.out.mkdir()
        (job.out / "weights").write_text(job.out.name)
        self.trained.append((labels, lr))
        return {"loss": 0.5}

    def prompts(self, entry: str, size: int) -> list[str]:
        assert entry == "calibrate-on"
        return ["p"] * size

    def measure(self, model: Path, _: Any, request: DepthRequest, *, area: str, **__: Any) -> Any:
        self.measured.append((area, request.rule, request.threshold))
        answers = SimpleNamespace(flops=np.array([1e6]), accuracy=ACCURACY[model.name])
        return SimpleNamespace(answers=answers)

    def forget(self) -> None:
        self.forgotten = True


@pytest.mark.parametrize(("labels", "candidates", "best"), [("later", 4, 2), ("best", 2, 1)])
def test_the_best_candidate_becomes_the_parts_model(
    labels: str, candidates: int, best: int, tmp_path: Path
) -> None:
    spec = DepthStage.model_validate(
        {
            "kind": "depth", "prompts": "t", "calibration": "calibrate-on", "held_out": "t",
            "max_depth": 4, "max_tokens": 9, "warm_start": {"labels": labels},
        }
    )  # fmt: skip
    bench: Any = Bench(spec, tmp_path)
    out = tmp_path / "part"
    out.mkdir()
    info = right_part.make(
        bench, out, model=tmp_path / "base", labels=tmp_path / "3", room=tmp_path / "2"
    )
    assert info["best"] == best
    assert (out / "model" / "weights").read_text() == f"candidate-{best}"
    assert [p.name for p in out.iterdir()] == ["model"]
    assert len(bench.trained) == len(info["candidates"]) == candidates <= RIGHT_CANDIDATES
    assert len(set(bench.measured)) == candidates * RIGHT_THRESHOLDS
    assert {rule for _, rule, _ in bench.measured} == {"right"}
    assert bench.forgotten
    rollouts, lr = tmp_path / "2" / "rollouts.parquet", bench.trained[best][1]
    assert bench.judges == [(out / "model", rollouts, lr)]
    assert bench.trained[0][0] == RightLabels(rollouts=tmp_path / "2" / "rollouts.parquet")
