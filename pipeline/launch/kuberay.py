"""KubeRay: a RayJob, with a ConfigMap for the recipe and what it names, and an image's recipe."""

import shlex
from collections.abc import Callable

import yaml

from pipeline.launch.bundle import RECIPE
from pipeline.launch.job import Command, Job, LaunchError
from pipeline.launch.scheduler import UNKNOWN, Scheduler, Ticket
from pipeline.launch.templates import rendered

RAY_JOB_FILE, CONFIG_FILE, IMAGE_FILE = "rayjob.yaml", "files.yaml", "Dockerfile"
CONFIG_BYTES = 900 * 2**10  # of a ConfigMap's data: 1 MiB, less what surrounds it
MOUNT = "/launch"  # where a pod has the ConfigMap
STATE = "{.status.jobDeploymentStatus}/{.status.jobStatus}"


class _Dumper(yaml.SafeDumper):
    """Texts of several lines stand as blocks, so that a person can read them."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    ),
)


def config_key(place: str) -> str:
    """A file's place as a key of a ConfigMap, which has no folders."""
    return place.replace("/", "__").replace(" ", "_")


def _files(job: Job) -> dict[str, str]:
    places = {place: config_key(place) for place in (RECIPE, *job.bundle.copies)}
    words = ["stepwell", "run", f"{MOUNT}/{RECIPE}", "hardware.ray_address=auto"]
    entrypoint = shlex.join([*words, "--run-dir", job.run_dir])
    image = f"stepwell:{job.version}"
    shown = {"entrypoint": entrypoint, "image": image, "mount": MOUNT, "places": places}
    return {
        RAY_JOB_FILE: rendered("rayjob.yaml.j2", job, **shown),
        CONFIG_FILE: _config_map(job),
        IMAGE_FILE: rendered("Dockerfile.j2", job),
    }


def _config_map(job: Job) -> str:
    """Recipe and copies. Raises LaunchError for a copy that is no text."""
    data = {RECIPE: job.bundle.recipe}
    for place, source in job.bundle.copies.items():
        try:
            data[config_key(place)] = source.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise LaunchError(
                f"{source} is no text, and a ConfigMap takes text alone; put it on the hub, or "
                "into the image"
            ) from None
    document = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"{job.label}-files"},
        "data": data,
    }
    head = f"# The recipe and the files that it names. Written by\n# `{job.command}`.\n"
    return head + yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _submit(job: Job) -> list[Command]:
    return [
        Command(words=["kubectl", "apply", "-f", str(job.folder / CONFIG_FILE)]),
        Command(words=["kubectl", "create", "-f", str(job.folder / RAY_JOB_FILE), "-o", "name"]),
    ]


def _job_id(job: Job, output: str) -> str:
    """The name of `rayjob.ray.io/NAME`, which `kubectl create -o name` prints."""
    return output.strip().splitlines()[-1].rpartition("/")[2]


def _state(ticket: Ticket, ask: Callable[[Command], str]) -> str:
    words = ["kubectl", "get", "rayjob", ticket.id, "-o", f"jsonpath={STATE}"]
    deployment, _, job = ask(Command(words=words)).strip().partition("/")
    over = deployment in ("Complete", "Failed") and job
    return job if over else deployment or UNKNOWN


KUBERAY = Scheduler(
    tool="kubectl",
    shares_folders=False,
    seeds=False,
    most_bytes=CONFIG_BYTES,
    files=_files,
    submit=_submit,
    job_id=_job_id,
    state=_state,
    waiting=frozenset({"New", "Initializing", "Waiting", "Retrying", "Suspended"}),
    success=frozenset({"SUCCEEDED", "Complete"}),
    failure=frozenset({"FAILED", "Failed", "STOPPED", UNKNOWN}),
    log=lambda ticket: Command(words=["kubectl", "logs", "--follow", f"job/{ticket.id}"]),
    stop=lambda ticket: Command(words=["kubectl", "delete", "rayjob", ticket.id]),
)
