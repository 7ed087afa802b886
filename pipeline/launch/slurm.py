"""SLURM: one sbatch file, submitted from a folder that every node sees."""

import re
from collections.abc import Callable

from pipeline.launch.bundle import RECIPE
from pipeline.launch.job import Command, Job
from pipeline.launch.scheduler import UNKNOWN, Scheduler, Ticket
from pipeline.launch.templates import rendered

FILE = "job.sbatch"


def _files(job: Job) -> dict[str, str]:
    number = "%A_%a" if job.seeds else "%j"
    log = f"{job.place.replace('%', '%%')}/slurm-{number}.log"
    return {FILE: rendered("job.sbatch.j2", job, log=log, recipe=RECIPE)}


def _submit(job: Job) -> list[Command]:
    return [Command(words=["sbatch", "--parsable", str(job.folder / FILE)])]


def _job_id(job: Job, output: str) -> str:
    """Of `12` or `12;cluster`, which `sbatch --parsable` prints; the first log's of an array."""
    number = output.strip().splitlines()[-1].partition(";")[0]
    return f"{number}_0" if job.seeds else number


def _state(ticket: Ticket, ask: Callable[[Command], str]) -> str:
    """SLURM's word, from its memory of the last minutes or else its accounts."""
    number = ticket.id.partition("_")[0]
    text = ask(Command(words=["scontrol", "--oneliner", "show", "job", number]))
    states = re.findall(r"\bJobState=(\w+)", text)
    if not states:
        columns = ["sacct", "--noheader", "--allocations", "--format=State%20"]
        states = [line.split()[0] for line in ask(_accounts(columns, number)).splitlines() if line]
    going = [state for state in states if state not in SLURM.success | SLURM.failure]
    failed = [state for state in states if state in SLURM.failure]
    return next(iter([*going, *failed, *states]), UNKNOWN)


def _accounts(columns: list[str], number: str) -> Command:
    return Command(words=[*columns, f"--jobs={number}"])


SLURM = Scheduler(
    tool="sbatch",
    shares_folders=True,
    seeds=True,
    most_bytes=None,
    files=_files,
    submit=_submit,
    job_id=_job_id,
    state=_state,
    waiting=frozenset({"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SUSPENDED"}),
    success=frozenset({"COMPLETED"}),
    failure=frozenset(
        {
            "FAILED",
            "CANCELLED",
            "TIMEOUT",
            "DEADLINE",
            "NODE_FAIL",
            "OUT_OF_MEMORY",
            "BOOT_FAIL",
            UNKNOWN,
        }
    ),
    log=lambda ticket: ticket.folder / f"slurm-{ticket.id}.log",
    stop=lambda ticket: Command(words=["scancel", ticket.id.partition("_")[0]]),
)
