"""A Ray cluster that runs already: `ray job submit` sends the folder, and a script that retries."""

import os
import re
from collections.abc import Callable
from pathlib import Path

from pipeline.launch.bundle import RECIPE
from pipeline.launch.job import Command, Job
from pipeline.launch.scheduler import Scheduler, Ticket
from pipeline.launch.templates import rendered

SCRIPT = "run.sh"
RUNTIME_ENV = "runtime_env.yaml"
DEFAULT_ADDRESS = "http://127.0.0.1:8265"
UPLOAD_BYTES = 500 * 2**20  # of a working directory (Ray, RAY_RUNTIME_ENV_WORKING_DIR_MAX_SIZE)
TOKEN_FILE = Path(".ray", "auth_token")  # below the home: where Ray looks


def _files(job: Job) -> dict[str, str]:
    return {
        SCRIPT: rendered("run.sh.j2", job, recipe=RECIPE),
        RUNTIME_ENV: rendered("runtime_env.yaml.j2", job),
    }


def _submit(job: Job) -> list[Command]:
    folder = job.folder
    options = ["--runtime-env", str(folder / RUNTIME_ENV), "--working-dir", str(folder)]
    words = [*_words(job.address, "submit"), *options, "--no-wait", "--", "bash", SCRIPT]
    return [Command(words=words, variables=token_variables())]


def token_variables() -> dict[str, str]:
    """What makes Ray's client send its token, where there is one: without it an authenticated
    cluster refuses it. The token itself stays where it is."""
    has_token = any(os.environ.get(key) for key in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if "RAY_AUTH_MODE" in os.environ or not (has_token or (Path.home() / TOKEN_FILE).is_file()):
        return {}
    return {"RAY_AUTH_MODE": "token"}


def _words(address: str, verb: str) -> list[str]:
    return ["ray", "job", verb, "--address", address]


def _command(ticket: Ticket, verb: str, *options: str) -> Command:
    words = [*_words(ticket.address, verb), *options, ticket.id]
    return Command(words=words, variables=token_variables())


def _job_id(job: Job, output: str) -> str:
    """Of `Job 'raysubmit_...' submitted successfully`."""
    names = re.findall(r"Job '([^']+)' submitted", output)
    return names[-1] if names else "UNKNOWN"


def _state(ticket: Ticket, ask: Callable[[Command], str]) -> str:
    states = re.findall(
        r"\b(PENDING|RUNNING|STOPPED|SUCCEEDED|FAILED)\b",
        ask(_command(ticket, "status")).replace("succeeded", "SUCCEEDED").upper(),
    )
    return states[-1] if states else "UNKNOWN"


RAY_JOB = Scheduler(
    tool="ray",
    shares_folders=False,
    seeds=False,
    most_bytes=UPLOAD_BYTES,
    files=_files,
    submit=_submit,
    job_id=_job_id,
    state=_state,
    waiting=frozenset({"PENDING"}),
    success=frozenset({"SUCCEEDED"}),
    failure=frozenset({"FAILED", "STOPPED", "UNKNOWN"}),
    log=lambda ticket: _command(ticket, "logs", "--follow"),
    stop=lambda ticket: _command(ticket, "stop"),
)
