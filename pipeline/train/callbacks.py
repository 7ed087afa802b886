"""Callbacks that every trainer of ours uses: metrics, a clean stop, complete checkpoints.

Their order matters: whatever belongs into a checkpoint saves before `CompleteCheckpoints`, which is
therefore the last callback that a trainer is given.
"""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pipeline.measure.ledger import PREFIX, PhaseClock
from pipeline.measure.training_flops import speed_row
from pipeline.train.checkpoints import check_room, keep_newest, latest_whole, seal
from pipeline.train.flop_meter import FlopMeter
from pipeline.train.job import CHECKPOINTS, METRICS_FILE, STOP_FILE, TrainJob, cut_metrics
from pipeline.train.matmul_speed import matmul_gflops
from pipeline.train.whole_weights import full_weights, load_weights

REFERENCE_FILE = "reference.safetensors"  # in a checkpoint: GRPO's reference model

Extra = Callable[[], Mapping[str, float]]

_RENAMED = {
    "learning_rate": "lr",
    "mean_token_accuracy": "token_accuracy",
    "completions/mean_length": "completion_tokens",
    "completions/clipped_ratio": "truncated_share",
}
_DROPPED = {"epoch", "num_tokens", "num_input_tokens_seen", "total_flos", "step_time"}


class MetricsWriter(TrainerCallback):
    """Appends one JSON object per logged step to the job's metrics file, on rank 0.

    `extra` is asked for more numbers at every row. A row has the seconds of every phase since the
    row before it, the checkpoint between them included; of a process's first row `start_seconds`
    is what passed before its first step, and `matmul_gflops` how fast the rank multiplies matrices.
    What `meter` counts is this rank's. On resume, rows past the checkpoint go, so that every step
    stands there once; only times differ from those of an uninterrupted run.
    """

    def __init__(
        self,
        job: TrainJob,
        *,
        extra: Extra | None = None,
        phases: PhaseClock | None = None,
        meter: FlopMeter | None = None,
    ) -> None:
        self.job = job
        self.meter = FlopMeter() if meter is None else meter
        self.matmul_gflops = 0.0
        self.file = job.work / METRICS_FILE
        self.extra = extra
        self.phases = PhaseClock() if phases is None else phases
        self._start: dict[str, float] = {}
        self.clock = StepClock()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Cut the file back to the step that training starts from."""
        if args.process_index == 0:
            self.matmul_gflops = matmul_gflops(
                threads=self.job.threads,
                device=self.job.device,
                dtype=torch.bfloat16 if self.job.dtype == "bfloat16" else torch.float32,
            )
        self.meter.take()
        self._start = {
            "start_seconds": self.phases.take()["step_seconds"],
            "matmul_gflops": round(self.matmul_gflops, 1),
        }
        self.clock.start(state.global_step, tokens=state.num_input_tokens_seen)
        if args.process_index == 0:
            cut_metrics(self.file, step=state.global_step)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """What follows is training, but for what the trainer itself names otherwise."""
        self.phases.enter("training")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Append the row of one optimizer step; the trainer's closing summary is no such row."""
        if args.process_index != 0 or not logs or "loss" not in logs:
            return
        row = {"step": state.global_step, "steps": state.max_steps, **renamed(logs)}
        row |= self.phases.take() | self._start
        tokens, flops = self.meter.take()
        row |= speed_row(
            tokens=tokens,
            flops=flops,
            seconds=row[f"{PREFIX}training"],
            gflops=self.matmul_gflops,
        )
        self._start = {}
        self.phases.enter("checkpoint" if control.should_save else "idle")
        row |= self.clock.tick(state.global_step, state.max_steps, tokens=logs.get("num_tokens"))
        if self.extra is not None:
            row |= self.extra()
        with self.file.open("a") as file:
            file.write(json.dumps(row) + "\n")


class StepClock:
    """Tokens per second of the last step, and seconds left at the mean pace of this process."""

    def __init__(self) -> None:
        self.start(0, tokens=0)

    def start(self, step: int, *, tokens: float) -> None:
        """Begin at an optimizer step; `tokens` is where the trainer's count of them starts."""
        self.first_step, self.tokens = step, tokens
        self.begun = self.last = time.monotonic()

    def tick(self, step: int, steps: int, *, tokens: float | None) -> dict[str, float]:
        """Timing of the step that just ended; `tokens` is the trainer's count."""
        now = time.monotonic()
        pace_s = (now - self.begun) / max(step - self.first_step, 1)
        row = {"seconds_left": round(pace_s * (steps - step), 1)}
        if tokens is not None:
            row["tokens_per_s"] = round((tokens - self.tokens) / max(now - self.last, 1e-9), 1)
            self.tokens = tokens
        self.last = now
        return row


class StopOnFile(TrainerCallback):
    """Ends training with a checkpoint when the job's stop file exists.

    Looks at every `every`-th optimizer step, where a rollout batch ends. Rank 0 decides for all.
    `stopped` tells afterwards whether training ended early.
    """

    def __init__(self, job: TrainJob, *, every: int = 1) -> None:
        self.file = job.work / STOP_FILE
        self.every = every
        self.stopped = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Ask for a checkpoint and an end, unless this was the last step anyway."""
        if state.global_step % self.every or state.global_step >= state.max_steps:
            return
        if _from_rank_0(args, lambda: self.file.exists()):
            self.stopped = True
            control.should_save = True
            control.should_training_stop = True


class CompleteCheckpoints(TrainerCallback):
    """Marks a checkpoint complete when all ranks have written theirs, then drops old ones."""

    def __init__(self, job: TrainJob) -> None:
        self.folder = job.work / CHECKPOINTS

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        """Where a checkpoint is due, see that it fits. Raises RunFailed with the sizes."""
        if control.should_save and args.process_index == 0 and model is not None:
            check_room(self.folder, least_bytes=sum(p.nbytes for p in model.parameters()))

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Flush the checkpoint to disk and write its marker last."""
        if args.world_size > 1:
            dist.barrier()
        if args.process_index != 0:
            return
        seal(self.folder / f"checkpoint-{state.global_step}")
        keep_newest(self.folder)


class ReferenceKeeper(TrainerCallback):
    """Makes the policy the reference every `every` optimizer steps, and keeps it across a resume.

    DeepSeek-R1 replaces its reference every 400 steps (arXiv 2501.12948v2); the replacement is
    whole, not a blend. `every=None` never replaces. `resumed` is the checkpoint that training
    starts from, whose reference is loaded here.
    """

    def __init__(
        self, reference: nn.Module, *, every: int | None, resumed: Path | None = None
    ) -> None:
        self.reference = reference
        self.every = every
        if resumed is not None:
            load_weights(reference, load_file(resumed / REFERENCE_FILE))

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        """Replace the reference when its time has come."""
        if self.every is not None and state.global_step % self.every == 0 and model is not None:
            load_weights(self.reference, full_weights(model))

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Store the reference beside the policy, on rank 0."""
        weights = full_weights(self.reference)
        if args.process_index == 0:
            checkpoint = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            save_file(weights, checkpoint / REFERENCE_FILE)


def renamed(logs: Mapping[str, float]) -> dict[str, float]:
    """A trainer's log row under our names; what only it understands is left out.

    >>> renamed({"loss": 1.0, "learning_rate": 0.1, "epoch": 0.5})
    {'loss': 1.0, 'lr': 0.1}
    """
    return {
        _RENAMED.get(key, key): value
        for key, value in logs.items()
        if key in _RENAMED or not (key in _DROPPED or "/" in key)
    }


def find_resume(job: TrainJob) -> Path | None:
    """The checkpoint to go on from, the same on every rank.

    Rank 0 alone looks, and removes incomplete checkpoints before any rank goes on. Checksums were
    the driver's to check.
    """
    folder = job.work / CHECKPOINTS
    if job.ranks == 1:
        return latest_whole(folder, checksums=False)
    answer = [latest_whole(folder, checksums=False) if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(answer, src=0)
    return answer[0]


def _from_rank_0(args: TrainingArguments, decide: Callable[[], bool]) -> bool:
    """Rank 0's decision, on every rank."""
    if args.world_size == 1:
        return decide()
    flag = torch.tensor([int(args.process_index == 0 and decide())], device=args.device)
    dist.broadcast(flag, src=0)
    return bool(flag.item())
