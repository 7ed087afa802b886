"""The schedulers by the names that `--on` takes."""

from collections.abc import Mapping

from pipeline.launch.kuberay import KUBERAY
from pipeline.launch.ray_job import RAY_JOB
from pipeline.launch.scheduler import Scheduler
from pipeline.launch.sky import SKY
from pipeline.launch.slurm import SLURM

SCHEDULERS: Mapping[str, Scheduler] = {
    "slurm": SLURM,
    "ray": RAY_JOB,
    "kuberay": KUBERAY,
    "sky": SKY,
}
