"""The process that runs reward functions on untrusted text, one job at a time.

Started by :mod:`rewards.pool`, never imported by it. Jobs arrive pickled on standard input; two
JSON messages answer each: ``ready`` once the function is imported, then ``result``. CPU time is
limited by a kernel timer armed between the two, whose signal ends the process whatever Python
or a C library is doing. The process dies with its parent.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import resource
import signal
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rewards import frames
from rewards.api import Reward, Sample
from rewards.forms import RewardFunction
from rewards.registry import resolve
from rewards.sandbox.shelter import Shelter, enter

PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The pool's budgets, for functions that declare none. Seconds per sample, and MiB."""

    cpu_s: float
    memory_mb: int


@dataclass(frozen=True, kw_only=True)
class Job:
    """A reference with the samples it is to score; pickled by the parent."""

    ref: str
    base: Path | None
    args: Mapping[str, Any]
    samples: tuple[Sample, ...]
    limits: Limits


def main(parent_pid: int, shelter: Shelter | None = None) -> None:
    """Serve jobs until standard input ends, under the shelter's rules where there is one.

    A function that declares ``isolation = "sandbox"`` is described but not called without one.
    """
    if shelter is None or shelter.way == "landlock":  # bubblewrap sees to it itself
        _die_with(parent_pid)
    jobs, results = _take_pipes()
    if shelter is not None:
        enter(shelter)
    functions: dict[tuple[str, Path | None], RewardFunction] = {}
    imported_mb = 0.0
    while (body := frames.read(jobs)) is not None:
        job: Job = pickle.loads(body)
        key = (job.ref, job.base)
        if key not in functions:
            _limit_memory(None)
            try:
                functions[key] = resolve(job.ref, job.base)
            except BaseException as error:  # importing a user's module may raise anything
                text = f"{type(error).__name__}: {error}"
                frames.write(results, frames.to_json({"kind": "refused", "error": text}))
                continue
            if job.ref.startswith("builtin:"):
                _warm(functions[key])
            imported_mb = resident_mb()
        frames.write(results, frames.to_json(_ready(functions[key])))
        exposed = functions[key].traits.isolation == "sandbox" and shelter is None
        if job.samples and not exposed:
            message = _serve(job, functions[key])
            message["grown_mb"] = resident_mb() - imported_mb
            frames.write(results, frames.to_json(message))


def _die_with(parent_pid: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        raise SystemExit("parent is gone")


def _take_pipes() -> tuple[int, int]:
    """Keep the pipes to ourselves: functions get an empty input, their prints go to stderr."""
    jobs, results = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return jobs, results


def _warm(function: RewardFunction) -> None:
    """Let a built-in do its slow imports before any budget runs, by scoring one formula."""
    function([Sample(prompt="", completion="\\boxed{\\sqrt{}}", gold="\\sqrt{2}")])


def _ready(function: RewardFunction) -> dict[str, Any]:
    return {"kind": "ready", "form": function.form, **asdict(function.traits)}


def _serve(job: Job, function: RewardFunction) -> dict[str, Any]:
    traits = function.traits
    cpu_s = (traits.cpu_s or job.limits.cpu_s) * len(job.samples)
    _limit_memory(traits.memory_mb or job.limits.memory_mb)
    start_wall_s, start_cpu_s = time.monotonic(), time.process_time()
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    rewards = function(job.samples, **job.args)
    signal.setitimer(signal.ITIMER_PROF, 0)
    return {
        "kind": "result",
        "rewards": [_plain(reward) for reward in rewards],
        "cpu_s": time.process_time() - start_cpu_s,
        "wall_s": time.monotonic() - start_wall_s,
        "peak_mb": peak_mb(),
    }


def _plain(reward: Reward) -> dict[str, Any]:
    return {
        "value": reward.value,
        "verdict": reward.verdict,
        "metrics": {str(name): float(number) for name, number in reward.metrics.items()},
        "detail": {str(name): _json_value(value) for name, value in reward.detail.items()},
    }


def _json_value(value: Any) -> Any:
    try:
        frames.to_json({"value": value})
    except (TypeError, ValueError, RecursionError):
        return repr(value)[:1000]
    return value


def _limit_memory(extra_mb: int | None) -> None:
    """Allow `extra_mb` MiB of address space beyond what is mapped now; None lifts the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    soft = resource.RLIM_INFINITY
    if extra_mb is not None:
        soft = (_mapped_pages() * resource.getpagesize()) + (extra_mb << 20)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _mapped_pages() -> int:
    return int(Path("/proc/self/statm").read_bytes().split()[0])


def resident_mb() -> float:
    """Memory this process holds now, in MiB."""
    return int(Path("/proc/self/statm").read_bytes().split()[1]) * resource.getpagesize() / 2**20


def peak_mb() -> float:
    """The most memory this process ever held, in MiB."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024
