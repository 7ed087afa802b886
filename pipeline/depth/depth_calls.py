"""What the driver's half of the depth stage has its trainer's half do, in a trainer process.

Light to import: each function loads its own heavy module where it runs, and passes its arguments
on, so that a call is checked where it is written down.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.depth.trainer_jobs import HeadJob, RightLabels, RlUpdate
from pipeline.generate.packed_weights import PackedWeights

if TYPE_CHECKING:
    from pipeline.depth.labels.warm_start import Labels


def losses_by_depth(job: HeadJob, rollouts: Path) -> Path:
    """See `pipeline.depth.model.replay.losses_by_depth`."""
    from pipeline.depth.model import replay

    return replay.losses_by_depth(job, rollouts)


def later_losses(job: HeadJob, rollouts: Path, *, probes: int) -> Path:
    """See `pipeline.depth.labels.probes.later_losses`."""
    from pipeline.depth.labels import probes as heavy

    return heavy.later_losses(job, rollouts, probes=probes)


def train_gate(
    job: HeadJob, rollouts: Path, losses: Path, *, steps: int, lr: float
) -> dict[str, float]:
    """See `pipeline.depth.labels.gate.train`."""
    from pipeline.depth.labels import gate

    return gate.train(job, rollouts, losses, steps=steps, lr=lr)


def train_halting(
    job: HeadJob,
    rollouts: Path,
    losses: Path,
    *,
    prices: tuple[float, float],
    steps: int,
    lr: float,
    bias: float,
    width: int,
    labels: "Labels",
    later: Path | None,
    accuracy_gain: float,
) -> dict[str, float]:
    """See `pipeline.depth.labels.warm_start.train`."""
    from pipeline.depth.labels import warm_start

    return warm_start.train(
        job,
        rollouts,
        losses,
        prices=prices,
        steps=steps,
        lr=lr,
        bias=bias,
        width=width,
        labels=labels,
        later=later,
        accuracy_gain=accuracy_gain,
    )


def train_critic(job: HeadJob, table: Path, *, steps: int, lr: float) -> dict[str, float]:
    """See `pipeline.depth.labels.critic.train`."""
    from pipeline.depth.labels import critic

    return critic.train(job, table, steps=steps, lr=lr)


def expected_accuracy(
    job: HeadJob, critic: Path, prompts: Sequence[Sequence[int]]
) -> list[list[float]]:
    """See `pipeline.depth.labels.critic.expected_accuracy`."""
    from pipeline.depth.labels import critic as heavy

    return heavy.expected_accuracy(job, critic, prompts)


def train_request_depth(job: HeadJob, table: Path, *, steps: int, lr: float) -> dict[str, float]:
    """See `pipeline.depth.labels.request_depth.train`."""
    from pipeline.depth.labels import request_depth

    return request_depth.train(job, table, steps=steps, lr=lr)


def expected_depths(
    job: HeadJob, folder: Path, prompts: Sequence[Sequence[int]]
) -> list[list[float]]:
    """See `pipeline.depth.labels.request_depth.expected_depths`."""
    from pipeline.depth.labels import request_depth

    return request_depth.expected_depths(job, folder, prompts)


def train_right(
    job: HeadJob, *, labels: RightLabels, steps: int, lr: float, width: int
) -> dict[str, float]:
    """See `pipeline.depth.labels.right_already.train`."""
    from pipeline.depth.labels import right_already

    return right_already.train(job, labels=labels, steps=steps, lr=lr, width=width)


def train_judge(job: HeadJob, rollouts: Path, *, steps: int, lr: float, width: int) -> str:
    """See `pipeline.depth.labels.right_already.judge`; the file's path."""
    from pipeline.depth.labels import right_already

    return str(right_already.judge(job, rollouts, steps=steps, lr=lr, width=width))


def update_head(
    job: HeadJob,
    rollouts: Path,
    *,
    state: Path | None,
    new_state: Path,
    reference: Path,
    spec: RlUpdate,
) -> dict[str, Any]:
    """See `pipeline.depth.rl.policy_update.update`."""
    from pipeline.depth.rl import policy_update

    return policy_update.update(
        job, rollouts, state=state, new_state=new_state, reference=reference, spec=spec
    )


def export_head(job: HeadJob, state: Path) -> Path:
    """See `pipeline.depth.rl.policy_update.export_head`."""
    from pipeline.depth.rl import policy_update

    return policy_update.export_head(job, state)


def packed(state: Path) -> PackedWeights:
    """See `pipeline.depth.model.packing.packed`."""
    from pipeline.depth.model import packing

    return packing.packed(state)
