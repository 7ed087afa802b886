"""A step that ends in no number: it is noticed before anything is saved, and left out when the
training goes on from its last checkpoint.

A loss or a gradient that is NaN or infinite has spoilt the weights by the time that it is seen. The
step is written down among those to skip and the training ends; its stage begins again, from the
last checkpoint, and passes over the optimizer's move of that step. Which steps are skipped is on
disk in the work folder, so that a later resume skips the same.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pipeline.artifacts import write_atomic
from pipeline.errors import Diverged, RunFailed
from pipeline.train.job import TrainJob

SKIPPED_FILE = "skipped.json"  # in the work folder: optimizer steps that are passed over
MOST_SKIPPED = 3  # in one stage; ours: more of them are no accident
WATCHED = ("loss", "grad_norm")
ADVICE = "people lower lr, look for odd rows or rewards of that step, or train in dtype: float32"


class HealthGuard(TrainerCallback):
    """Ends a training whose row has no numbers, before its weights are saved."""

    def __init__(self, job: TrainJob) -> None:
        self._job = job
        self._skipped = skipped_steps(job.work)

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        """Leave a skipped step's gradients out: the optimizer moves nothing without."""
        if state.global_step + 1 in self._skipped and model is not None:
            model.zero_grad(set_to_none=True)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Look at a step's row; every rank sees the same one, and ends.

        Raises Diverged where the step is to be skipped, RunFailed where the recipe has it stop.
        """
        step = state.global_step
        if not logs or step in self._skipped:
            return
        odd = [f"{key} {logs[key]}" for key in WATCHED if not math.isfinite(logs.get(key, 0.0))]
        if not odd:
            return
        seen = f"step {step}: {' and '.join(odd)}"
        if self._job.spec.on_divergence == "stop":
            raise RunFailed(f"{seen}; {ADVICE}, and on_divergence: roll_back skips such a step")
        if self._job.sharding != "none":
            raise RunFailed(f"{seen}; a sharded training skips no step: {ADVICE}")
        if len(self._skipped) >= MOST_SKIPPED:
            raise RunFailed(
                f"{seen}, after {MOST_SKIPPED} steps that were skipped for the same: {ADVICE}"
            )
        if args.process_index == 0:
            steps = sorted({*self._skipped, step})
            write_atomic(self._job.work / SKIPPED_FILE, json.dumps(steps))
        raise Diverged(f"{seen}; back to the last checkpoint, and on without that step; {ADVICE}")


def skipped_steps(work: Path) -> frozenset[int]:
    """Optimizer steps (from 1) that are passed over."""
    file = work / SKIPPED_FILE
    return frozenset(json.loads(file.read_text())) if file.is_file() else frozenset()
