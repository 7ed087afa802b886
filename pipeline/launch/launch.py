"""A plan and a scheduler's name -> files, and the job that they start."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.launch.bundle import RECIPE, Bundle, bundle_of
from pipeline.launch.job import Command, Job, LaunchError
from pipeline.launch.launch_folder import LAUNCHES, LaunchFolder
from pipeline.launch.ray_job import DEFAULT_ADDRESS
from pipeline.launch.scheduler import Scheduler, Ticket
from pipeline.launch.schedulers import SCHEDULERS
from pipeline.launch.sky import TOKEN, fresh_token
from pipeline.launch.tool import call, check_tool
from pipeline.plan.estimate import estimate
from pipeline.plan.placement import placement_of
from pipeline.plan.stage_plan import Plan
from pipeline.recipe.recipe_errors import did_you_mean

SHARED = "/shared"  # the storage of nodes that see no folder of this machine
ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
"""Where Ray's own client looks for its cluster."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """Files for a scheduler, and what submits them."""

    on: str
    job: Job
    texts: dict[str, str]  # by their places in the job's folder
    submit: tuple[Command, ...]
    notes: tuple[str, ...]

    @property
    def scheduler(self) -> Scheduler:
        return SCHEDULERS[self.on]

    @property
    def shell(self) -> str:
        """What submits the files, as a line for a shell."""
        return " && ".join(map(str, self.submit))

    def write(self) -> list[str]:
        """Write every file; the names of those that a person has edited, and that are kept."""
        return LaunchFolder(path=self.job.folder).write(self.texts, self.job.bundle.copies)

    def send(self) -> Ticket:
        """Submit the files. Raises LaunchError without the program, or where it is refused for a
        reason that we know, RunFailed where it fails otherwise."""
        check_tool(self.scheduler, self.job.folder)
        variables = {}
        if self.on == "sky":
            variables = {TOKEN: os.environ.get(TOKEN) or fresh_token()}
        output = ""
        for command in self.submit:
            output = call(command, variables)
        ticket = Ticket(
            on=self.on,
            name=self.job.name,
            id=self.scheduler.job_id(self.job, output),
            address=self.job.address,
            folder=self.job.folder.resolve(),
            run_dir=self.job.run_dir,
        )
        LaunchFolder(path=self.job.folder).remember(ticket)
        return ticket


def make_launch(
    plan: Plan,
    *,
    on: str,
    reference: str,
    overrides: Sequence[str],
    storage: str | None,
    to: Path | None,
    seeds: tuple[int, ...],
    address: str | None,
) -> Launch:
    """Everything that `stepwell launch` writes. Raises LaunchError for what a scheduler has not."""
    scheduler = SCHEDULERS.get(on)
    if scheduler is None:
        guess = did_you_mean(on, list(SCHEDULERS))
        raise LaunchError(f"--on {on}: no such scheduler{guess} ({', '.join(SCHEDULERS)})")
    if seeds and not scheduler.seeds:
        raise LaunchError(
            f"--seeds: {on} has no arrays of jobs; launch once for each seed, with seed=N name=..."
        )
    bundle = bundle_of(plan.recipe, device=plan.device, shared_folders=scheduler.shares_folders)
    _check_size(on, scheduler, bundle)
    here = scheduler.shares_folders
    words = ["stepwell", "launch", reference, *overrides, "--on", on]
    job = Job(
        name=plan.recipe.name,
        folder=to or Path(LAUNCHES) / f"{plan.recipe.name}-{on}",
        storage=storage or (str(Path("runs").resolve()) if here else SHARED),
        bundle=bundle,
        placement=placement_of(plan.recipe, device=plan.device),
        hours=estimate(plan.recipe, device=plan.device).hours,
        seed=plan.recipe.seed,
        seeds=seeds,
        address=_address(address) if on == "ray" else "",
        command=shlex.join(words),
    )
    if not Path(job.storage).is_absolute():
        raise LaunchError(f"--storage {storage}: write an absolute path, the same on every node")
    return Launch(
        on=on,
        job=job,
        texts={RECIPE: bundle.recipe, **scheduler.files(job)},
        submit=tuple(scheduler.submit(job)),
        notes=tuple(_notes(plan, on, bundle)),
    )


def _check_size(on: str, scheduler: Scheduler, bundle: Bundle) -> None:
    if scheduler.most_bytes is not None and bundle.total_bytes > scheduler.most_bytes:
        largest = max(bundle.copies.values(), key=lambda path: path.stat().st_size)
        raise LaunchError(
            f"the recipe and its files have {bundle.total_bytes / 2**20:.1f} MiB, and {on} takes "
            f"{scheduler.most_bytes / 2**20:.1f}; the largest is {largest}: put it on the hub and "
            "name it there"
        )


def _address(address: str | None) -> str:
    """Of the cluster's job server: given, as Ray's own client has it, or Ray's default here."""
    stated = [os.environ[key] for key in ADDRESS_VARIABLES if os.environ.get(key)]
    return address or next((text for text in stated if "://" in text), DEFAULT_ADDRESS)


def _notes(plan: Plan, on: str, bundle: Bundle) -> list[str]:
    notes = []
    if plan.recipe.hardware.device == "auto":
        notes.append(
            f"hardware.device: auto is {plan.device} on this machine, and so it is in the files; "
            "write cpu or cuda"
        )
    if bundle.packages:
        notes.append(f"rewards of packages that every node must have: {', '.join(bundle.packages)}")
    if on != "slurm" and any(path.suffix == ".py" for path in bundle.copies.values()):
        notes.append("rewards' code goes along; files that it opens itself do not")
    return notes
