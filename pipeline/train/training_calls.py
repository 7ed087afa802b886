"""The trainings that the driver starts on every rank: light here, TRL loads in their processes.

Each passes its arguments on, so that a call is checked where it is written down.
"""

from pathlib import Path
from typing import Any

from pipeline.generate.client import RolloutClient
from pipeline.train.job import TrainJob


def sft(job: TrainJob, rows: Path) -> dict[str, Any]:
    """See `pipeline.train.sft_trainer.train`."""
    from pipeline.train import sft_trainer

    return sft_trainer.train(job, rows)


def reward_model(job: TrainJob, pairs: Path) -> dict[str, Any]:
    """See `pipeline.train.reward_trainer.train`."""
    from pipeline.train import reward_trainer

    return reward_trainer.train(job, pairs)


def distill(job: TrainJob, rows: Path) -> dict[str, Any]:
    """See `pipeline.train.distill_trainer.train`."""
    from pipeline.train import distill_trainer

    return distill_trainer.train(job, rows)


def distill_on_policy(
    job: TrainJob, prompts: Path, teacher: Path, *, teacher_code: bool
) -> dict[str, Any]:
    """See `pipeline.train.distill_trainer.train_on_policy`."""
    from pipeline.train import distill_trainer

    return distill_trainer.train_on_policy(job, prompts, teacher, teacher_code=teacher_code)


def grpo(job: TrainJob, rollouts: RolloutClient) -> dict[str, Any]:
    """See `pipeline.train.grpo_trainer.train`."""
    from pipeline.train import grpo_trainer

    return grpo_trainer.train(job, rollouts=rollouts)
