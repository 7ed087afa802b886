"""Who ran a recipe when, with which code and where: a line a launch, in the run folder."""

import json
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil

from pipeline.artifacts import write_atomic
from pipeline.plan.engine_choice import planned_engines
from pipeline.plan.stage_plan import Plan
from pipeline.stages.surroundings import CPUINFO, Surroundings

LAUNCHES_FILE = "launches.json"
SOURCE = Path(__file__).resolve().parents[2]  # the folder that this package is in
GIT_S = 5.0  # that git may take


def record_launch(run_dir: Path, plan: Plan) -> None:
    """Add this launch to the run folder's list: `started`, `commit` of a clone (None elsewhere),
    versions of `packages`, `machine`, and what `auto` and absent values of the recipe became."""
    here = Surroundings.here(device=plan.device)
    launch = {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "commit": commit_of(SOURCE),
        "packages": dict(here.packages),
        "machine": {**_machine(), **here.machine},
        "chosen": chosen(plan),
    }
    file = run_dir / LAUNCHES_FILE
    write_atomic(file, json.dumps([*launches_of(run_dir), launch], indent=1))


def launches_of(run_dir: Path) -> list[dict[str, Any]]:
    """The launches of a run, the first one first; none where it has no readable record."""
    try:
        rows = json.loads((run_dir / LAUNCHES_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return rows if isinstance(rows, list) else []


def chosen(plan: Plan) -> dict[str, Any]:
    """What the plan made of `auto`, by key: the device, the engine, and threads."""
    recipe = plan.recipe
    hardware = recipe.hardware
    engines = {
        engine
        for stage in recipe.stages.values()
        if stage.uses_engines
        for engine in planned_engines(recipe, stage, device=plan.device)
    }
    return {
        "hardware.device": plan.device,
        **({"hardware.engine": ", ".join(sorted(engines))} if engines else {}),
        "hardware.threads_per_rank": hardware.threads_per_rank,
        "hardware.threads_per_engine": hardware.threads_per_engine,
        "cores counted": plan.cores,
    }


def commit_of(folder: Path) -> str | None:
    """The commit of a clone, with " and changes" where files differ from it; None for what is no
    clone, or where there is no git."""
    if not (folder / ".git").exists():
        return None
    answers = []
    for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]):
        try:
            answer = subprocess.run(
                ["git", "-C", str(folder), *command],
                capture_output=True,
                text=True,
                timeout=GIT_S,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        answers.append(answer.stdout.strip())
    head, changes = answers
    return f"{head} and changes" if changes else head


def _machine() -> dict[str, str]:
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
    }


def _processor() -> str:
    lines = CPUINFO.read_text().splitlines() if CPUINFO.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
