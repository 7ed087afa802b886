"""How busy the cores are in the training part of a step: replays of a run's journal.

One process trains on a run's first steps again and is timed, another does the same and counts the
FLOPs of every operator, which takes time of its own. Prompt tokens are once in both, completions
without advantage are not: FLOPs are those that were done, not those that a padded batch would be.
"""

import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from pipeline.generate.client import Slice, slice_of
from pipeline.generate.journal import Journal
from pipeline.measure.ledger import PREFIX
from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.train import grpo_trainer
from pipeline.train.grpo_step import GrpoStepTrainer
from pipeline.train.job import METRICS_FILE, TrainJob, read_metrics
from tests.bench.grpo_task import Side

MATMUL_SIZE, MATMUL_ROUNDS = 2048, 9


class Replayed:
    """A rollout client that reads a journal."""

    def __init__(self, journal: Path) -> None:
        self._journal = Journal(journal)

    def push_weights(self, weights: Mapping[str, Any], *, version: int) -> None: ...

    def begin(self, step: int) -> None: ...

    def slice(self, step: int, *, rank: int, ranks: int) -> Slice:
        rollouts = self._journal.read(step)
        assert rollouts is not None
        return slice_of(rollouts, rank=rank, ranks=ranks)


def matmul_flops(threads: int) -> float:
    """FLOP/s of a large square product in float32."""
    torch.set_num_threads(threads)
    left, right = torch.rand(2, MATMUL_SIZE, MATMUL_SIZE)
    seconds = []
    for _ in range(MATMUL_ROUNDS):
        began = time.monotonic()
        torch.mm(left, right)
        seconds.append(time.monotonic() - began)
    return 2 * MATMUL_SIZE**3 / statistics.median(seconds[1:])


def run(side: Side, journal: Path, *, count: bool) -> dict[str, Any]:
    """FLOPs of each step's passes, or its seconds of training and the cores' FLOP/s."""
    flops: list[float] = []
    if count:
        whole = GrpoStepTrainer.training_step

        def counted(self: Any, *arguments: Any, **options: Any) -> Any:
            with FlopCounterMode(display=False) as counter:
                result = whole(self, *arguments, **options)
            flops.append(float(counter.get_total_flops()))
            return result

        GrpoStepTrainer.training_step = counted
    plan = side.plan()
    (stage,) = plan.stages
    assert isinstance(stage.spec, GrpoStage)
    work = Path(side.work)
    job = TrainJob(
        spec=stage.spec,
        model=side.model,
        out=work / "out",
        work=work,
        seed=stage.seed,
        device="cpu",
        ranks=1,
        sharding="none",
        threads=side.threads,
    )
    before = matmul_flops(side.threads)
    grpo_trainer.train(job, rollouts=Replayed(journal))
    after = matmul_flops(side.threads)
    seconds = [row[f"{PREFIX}training"] for row in read_metrics(work / METRICS_FILE)]
    return {"flops": flops, "seconds": seconds, "matmul_flops": max(before, after)}
