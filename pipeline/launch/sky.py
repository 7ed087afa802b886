"""SkyPilot: a managed job on spot machines of any cloud, which comes back after a preemption."""

import json
import os
import re
import secrets
from collections.abc import Callable
from contextlib import suppress

from pipeline.launch.bundle import RECIPE
from pipeline.launch.job import Command, Job
from pipeline.launch.scheduler import Scheduler, Ticket
from pipeline.launch.templates import rendered

FILE = "sky.yaml"
TOKEN = "RAY_AUTH_TOKEN"


def _files(job: Job) -> dict[str, str]:
    return {FILE: rendered("sky.yaml.j2", job, recipe=RECIPE)}


def _submit(job: Job) -> list[Command]:
    secret_names = [TOKEN, *(["HF_TOKEN"] if os.environ.get("HF_TOKEN") else [])]
    options = [word for name in secret_names for word in ("--secret", name)]
    words = ["sky", "jobs", "launch", "--yes", "--async", *options, str(job.folder / FILE)]
    return [Command(words=words, variables={TOKEN: "$(openssl rand -hex 32)"})]


def fresh_token() -> str:
    """A token for the Ray of one job."""
    return secrets.token_hex(32)


def _job_id(job: Job, output: str) -> str:
    """The name: a managed job has no number until its controller has taken it in."""
    return job.label


def _state(ticket: Ticket, ask: Callable[[Command], str]) -> str:
    text = ask(Command(words=["sky", "jobs", "queue", "--all", "--output", "json"]))
    jobs = []
    with suppress(json.JSONDecodeError):
        jobs = json.loads(text[text.find("[") :])
    own = [job for job in jobs if ticket.id in (job.get("job_name"), job.get("name"))]
    if not own:
        return "SUBMITTED"
    newest = max(own, key=lambda job: job.get("job_id") or 0)
    return re.sub(r".*\.", "", str(newest.get("status")))


SKY = Scheduler(
    tool="sky",
    shares_folders=False,
    seeds=False,
    most_bytes=None,
    files=_files,
    submit=_submit,
    job_id=_job_id,
    state=_state,
    waiting=frozenset({"SUBMITTED", "PENDING", "STARTING"}),
    success=frozenset({"SUCCEEDED"}),
    failure=frozenset(
        {
            "FAILED",
            "FAILED_SETUP",
            "FAILED_PRECHECKS",
            "FAILED_NO_RESOURCE",
            "FAILED_CONTROLLER",
            "CANCELLED",
        }
    ),
    log=lambda ticket: Command(words=["sky", "jobs", "logs", "--name", ticket.id]),
    stop=lambda ticket: Command(words=["sky", "jobs", "cancel", "--yes", "--name", ticket.id]),
)
