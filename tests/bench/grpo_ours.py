"""Our side of `tests.bench.grpo`: a run of the one GRPO stage, with Ray and an engine."""

import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from pipeline.generate.client import RolloutClient, Slice, Weights
from pipeline.plan.stage_plan import Plan
from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.run import run as run_plan
from pipeline.train import training_calls
from pipeline.train.job import METRICS_FILE, TrainJob, read_metrics
from tests.bench.grpo_task import Log, Side
from tests.train.pushed import joined

RUN = "run"  # the run folder, in a side's
KEPT = (
    "step_seconds",
    "start_seconds",
    "reward",
    "training_gflops_per_s",
    "matmul_share",
)
"""Of a row of metrics, beside its phases."""


class NotedClient:
    """A rollout client that notes when it is given which weights."""

    def __init__(self, client: RolloutClient, log: Log) -> None:
        self._client, self._log = client, log

    def push_weights(self, weights: Weights, *, version: int, rank: int) -> None:
        self._log.note(version, joined(weights))
        self._client.push_weights(weights, version=version, rank=rank)

    def begin(self, step: int) -> None:
        self._client.begin(step)

    def slice(self, step: int, *, rank: int, ranks: int) -> Slice:
        return self._client.slice(step, rank=rank, ranks=ranks)


def train(job: TrainJob, rollouts: RolloutClient, *, log: Log) -> dict[str, Any]:
    """The stage's training as it is, in its process, and a note at its end."""
    from pipeline.train import grpo_trainer

    result = grpo_trainer.train(job, rollouts=NotedClient(rollouts, log))
    assert isinstance(job.spec, GrpoStage)
    log.note(job.spec.steps, load_file(job.out / "model.safetensors"))
    return result


class StageConsole:
    """Notes when the stage begins, and writes lines to standard error."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def start(self, plan: Plan, run_dir: Path) -> None: ...

    def stage(self, name: str, state: str, *, seconds: float = 0.0, note: str = "") -> None:
        if state == "running":
            self._log.mark("begin")

    def metrics(self, name: str, row: Mapping[str, float]) -> None:
        print(f"{name}: step {row['step']}, reward {row.get('reward', 0.0):.3f}", file=sys.stderr)

    def log(self, message: str) -> None:
        print(message, file=sys.stderr)

    def finish(self, results: Sequence[Mapping[str, Any]]) -> None: ...


def run(side: Side, *, started: float) -> dict[str, Any]:
    """Seconds by phase of each step, as the run's ledger has them."""
    folder = Path(side.work)
    log = Log(folder, side.every)
    log.mark("start", began=started)
    training_calls.grpo = partial(train, log=log)
    plan = side.plan()
    run_plan(plan, run_dir=folder / RUN, from_stage=None, to_stage=None, console=StageConsole(log))
    (stage,) = plan.stages
    rows = read_metrics(folder / RUN / "work" / stage.name / METRICS_FILE)
    return {
        "ended_s": time.monotonic() - started,
        "rows": [
            {key: value for key, value in row.items() if key.startswith("seconds/") or key in KEPT}
            for row in rows
        ],
    }
