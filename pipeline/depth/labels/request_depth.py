"""One depth for a whole request by regression: the cheapest depth that is right, from the prompt's
last state. The network and what it reads are the critic's.
"""

from collections.abc import Sequence
from pathlib import Path

import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from pipeline.depth.labels.critic import Critic, accuracies_by_depth, fit, last_states, outputs
from pipeline.depth.model.frozen import head_process
from pipeline.depth.model.head import write_whole
from pipeline.depth.trainer_jobs import HeadJob

REGRESSION = "request_depth.safetensors"


def train(job: HeadJob, table: Path, *, steps: int, lr: float) -> dict[str, float]:
    """Fit the depth of each prompt of a parquet table, which is `critic.train`'s, and write the
    regression to `job.out`.

    Returns:
        loss and loss_mean: squared error in iterations on held-out prompts, and that of the mean;
        steps (of the best), prompts.

    Raises ValueError for a table of too few prompts, or other depths than the job's.
    """
    prompts, accuracy = accuracies_by_depth(table, max_depth=job.max_depth)
    with head_process(job) as model:
        states = last_states(model, prompts, job=job)
        regression = Critic(states.shape[1], 1)
        report = fit(
            regression,
            states,
            cheapest_right(accuracy)[:, None],
            start=lambda depths: depths.mean(dim=0),
            loss_of=F.mse_loss,
            steps=steps,
            lr=lr,
        )
    write_whole(regression.state_dict(), job.out / REGRESSION)
    return {**report, "prompts": float(len(accuracy))}


def cheapest_right(accuracy: Tensor) -> Tensor:
    """The cheapest depth [_P] of each prompt's best accuracy [_P, _R]: 1 where none is right."""
    return accuracy.argmax(dim=1).float() + 1


def expected_depths(
    job: HeadJob, folder: Path, prompts: Sequence[Sequence[int]]
) -> list[list[float]]:
    """The depth [_P, 1] that the regression in `folder` expects of prompts, given as tokens."""
    return outputs(job, load_file(folder / REGRESSION), prompts).tolist()
