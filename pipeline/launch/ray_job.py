"""A Ray cluster that runs already: `ray job submit` sends the folder, and a script that retries."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.launch.bundle import RECIPE
from pipeline.launch.job import Command, Job
from pipeline.launch.scheduler import UNKNOWN, Scheduler, Ticket
from pipeline.launch.templates import rendered

SCRIPT = "run.sh"
RUNTIME_ENV = "runtime_env.yaml"
DEFAULT_ADDRESS = "http://127.0.0.1:8265"
UPLOAD_BYTES = 500 * 2**20  # of a working directory (Ray, RAY_RUNTIME_ENV_WORKING_DIR_MAX_SIZE)
TOKEN_FILE = Path(".ray", "auth_token")  # below the home: where Ray looks
ENDS = {"succeeded": "SUCCEEDED", "failed": "FAILED", "was stopped": "STOPPED"}
"""What `ray job status` says of a job that ended; of others it gives Ray's own word."""


def _files(job: Job) -> dict[str, str]:
    return {
        SCRIPT: rendered("run.sh.j2", job, recipe=RECIPE),
        RUNTIME_ENV: rendered("runtime_env.yaml.j2", job),
    }


def _submit(job: Job) -> list[Command]:
    folder = job.folder
    options = ["--runtime-env", str(folder / RUNTIME_ENV), "--working-dir", str(folder)]
    words = [*_words(job.address, "submit"), *options, "--no-wait", "--", "bash", SCRIPT]
    return [_client(job.address, words)]


def _client(address: str, words: Sequence[str]) -> Command:
    """A command of Ray's client, which knows its way and its token."""
    meanings = {
        "AuthenticationError": f"the Ray cluster at {address} wants a token, and refused this one "
        "or none; set RAY_AUTH_TOKEN_PATH to the file that has it, or RAY_AUTH_TOKEN",
        "Failed to connect to Ray": f"no job server of a Ray cluster answers at {address}; name "
        "it in --address or RAY_API_SERVER_ADDRESS, such as http://HEAD:8265. A head has one where "
        '`pip install "ray[default]"` was done before `ray start --head`, and --dashboard-host '
        "lets other machines reach it",
    }
    return Command(words=words, variables=token_variables(), meanings=meanings)


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
    return _client(ticket.address, [*_words(ticket.address, verb), *options, ticket.id])


def _job_id(job: Job, output: str) -> str:
    """Of `Job 'raysubmit_...' submitted successfully`."""
    names = re.findall(r"Job '([^']+)' submitted", output)
    return names[-1] if names else "UNKNOWN"


def _state(ticket: Ticket, ask: Callable[[Command], str]) -> str:
    """Of `Status for job 'raysubmit_...': RUNNING` or `Job 'raysubmit_...' succeeded`, before any
    line of the job's own log, which comes with a failure."""
    name = re.escape(ticket.id)
    ends = "|".join(ENDS)
    text = ask(_command(ticket, "status"))
    words = re.search(rf"job '{name}': (\w+)|Job '{name}' ({ends})", text)
    return UNKNOWN if words is None else words[1] or ENDS[words[2]]


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
    failure=frozenset({"FAILED", "STOPPED", UNKNOWN}),
    log=lambda ticket: _command(ticket, "logs", "--follow"),
    stop=lambda ticket: _command(ticket, "stop"),
)
