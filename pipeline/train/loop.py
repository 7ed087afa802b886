"""The part of a training run that does not depend on what is trained."""

from collections.abc import Sequence
from typing import Any

from transformers import (
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
)

from pipeline.measure.ledger import PhaseClock
from pipeline.train.adapter import transformers_model
from pipeline.train.arguments import save_final
from pipeline.train.callbacks import (
    CompleteCheckpoints,
    Extra,
    MetricsWriter,
    StopOnFile,
    find_resume,
)
from pipeline.train.depth_policy import drop_calibration, freeze_policy
from pipeline.train.flop_meter import FlopMeter
from pipeline.train.health import HealthGuard
from pipeline.train.job import DONE, STOPPED, TrainJob

LAST_STEPS = 10  # the reported loss is their mean


def run(
    trainer: Trainer,
    job: TrainJob,
    tokenizer: PreTrainedTokenizerBase,
    *,
    callbacks: Sequence[TrainerCallback] = (),
    extra: Extra | None = None,
    stop_every: int = 1,
    phases: PhaseClock | None = None,
    frozen: Any = None,
) -> dict[str, Any]:
    """Train to the end or to a stop, and save the result when it is the end.

    Goes on from the newest complete checkpoint in `job.work`. `extra` adds numbers to every row of
    metrics; a stop is possible at every `stop_every`-th optimizer step. `phases`: the
    clock of a trainer that enters phases itself. `frozen`: a model that the trainer reads beside
    its own, whose FLOPs count too. A recurrent model keeps what decides its depths, and loses its
    calibration.

    Raises Diverged at a step without numbers (`pipeline.train.health`).

    Returns:
        status (done or stopped), steps (so far), loss (mean of the last 10 steps).
    """
    assert trainer.model is not None
    model = transformers_model(trainer.model)
    drop_calibration(model)
    freeze_policy(model)
    stop = StopOnFile(job, every=stop_every)
    trainer.remove_callback(PrinterCallback)
    meter = FlopMeter()
    meter.watch(model, adapted=job.spec.lora is not None)
    if frozen is not None:
        other: Any = trainer.accelerator.unwrap_model(frozen)
        meter.watch(transformers_model(other))
    writer = MetricsWriter(job, extra=extra, phases=phases, meter=meter)
    for callback in (*callbacks, writer, HealthGuard(job), stop, CompleteCheckpoints(job)):
        trainer.add_callback(callback)
    resumed = find_resume(job)
    trainer.train(resume_from_checkpoint=None if resumed is None else str(resumed))
    if not stop.stopped:
        save_final(trainer, job, tokenizer)
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row][-LAST_STEPS:]
    return {
        "status": STOPPED if stop.stopped else DONE,
        "steps": trainer.state.global_step,
        "loss": sum(losses) / len(losses),
    }
