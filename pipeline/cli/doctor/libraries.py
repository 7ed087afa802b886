"""Whether the libraries load, and vLLM finds our plugin, each group in a process of its own.

doctor ---- torch, transformers, ray, trl, deepspeed   (one process, a line of JSON a library)
       ---- vllm, then the plugin as an engine's process would find it, which takes longest; then
            the speed of matrix products, when all others are done
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.cli.doctor.check import IMPORT_LIMIT_S, Check, step_back
from pipeline.cli.doctor.machine import version_of
from pipeline.cli.set_up import set_up_again
from pipeline.measure.matmul_speed import LIMIT_S

COMPANIONS = ("torchvision", "torchaudio", "torchcodec")
PLUGIN_GROUP, PLUGIN = "vllm.general_plugins", "stepwell"
TRAINING = ("torch", "transformers", "ray", "trl", "deepspeed")

_IMPORTS = """
import importlib, json, os, sys
out = os.dup(1)
os.dup2(2, 1)
for name in json.loads(sys.argv[1]):
    try:
        said = {"why": importlib.import_module(name).__version__}
    except Exception as error:
        said = {"error": f"{type(error).__name__}: {error}"}
    os.write(out, (json.dumps({"name": name, **said}) + "\\n").encode())
"""
_CUDA = """
try:
    import torch
    count = torch.cuda.device_count()
    said = {"why": f"CUDA devices: {count}", "count": count}
except Exception as error:
    said = {"error": f"{type(error).__name__}: {error}"}
os.write(out, (json.dumps({"name": "gpus", **said}) + "\\n").encode())
"""
_MATMUL = """
sys.stdin.readline()
try:
    from pipeline.train.matmul_speed import measured
    said = {"why": measured()}
except Exception as error:
    said = {"error": f"{type(error).__name__}: {error}"}
os.write(out, (json.dumps({"name": "matmul", **said}) + "\\n").encode())
"""
_PLUGIN = f"""
from importlib.metadata import entry_points
try:
    points = [p for p in entry_points(group={PLUGIN_GROUP!r}) if p.name == {PLUGIN!r}]
    if not points:
        raise LookupError("the entry point is not there")
    if LOADED:
        points[0].load()()
    said = {{"why": "an engine's process finds" + (" and loads it" if LOADED else " it")}}
except Exception as error:
    said = {{"error": f"{{type(error).__name__}}: {{error}}"}}
os.write(out, (json.dumps({{"name": "vllm plugin", **said}}) + "\\n").encode())
"""


@dataclass(frozen=True)
class Trial:
    """A process that imports, and what it is asked."""

    names: Sequence[str]
    process: subprocess.Popen[str]

    @classmethod
    def started(
        cls, modules: Sequence[str], *, then: str = "", and_also: Sequence[str] = ()
    ) -> "Trial":
        """Imports the modules, then runs a program which speaks of `and_also`. It starts in a
        folder of nobody's, as an engine does not start where the user stands."""
        process = subprocess.Popen(
            [sys.executable, "-c", _IMPORTS + then, json.dumps(list(modules))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tempfile.gettempdir(),
            env={**os.environ, "PYTHONSAFEPATH": "1"},
        )
        return cls((*modules, *and_also), process)

    def answers(self) -> dict[str, Mapping[str, object]]:
        """What it says of each name; of those that it did not come to, how it ended."""
        try:
            out, err = self.process.communicate("go on\n", timeout=IMPORT_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, err = self.process.communicate()
            err = f"took over {IMPORT_LIMIT_S} s"
        said = {row["name"]: row for row in map(json.loads, out.splitlines())}
        last = (err.strip().splitlines() or [""])[-1] or f"exit code {self.process.returncode}"
        return {
            name: said.get(name, {"error": f"the process ended: {last}"}) for name in self.names
        }


def started(*, recurrent: bool) -> list[Trial]:
    """The processes, which work while other things are looked at. The plugin is loaded, which takes
    as long as vLLM, where recurrent models may be served."""
    training = [*TRAINING, *(name for name in COMPANIONS if version_of(name))]
    engine = f"LOADED = {recurrent}\n{_PLUGIN}{_MATMUL}"
    slow = Trial.started(["vllm"], then=engine, and_also=["vllm plugin", "matmul"])
    quick = Trial.started(training, then=_CUDA, and_also=["gpus"])
    step_back(quick.process)
    return [quick, slow]


def library_checks(
    trials: Sequence[Trial], *, gpus: int, recurrent: bool, environment: Mapping[str, str]
) -> Iterator[Check]:
    """What the processes found. `gpus`: that the recipe wants; `recurrent`: whether an engine of
    vLLM serves a recurrent model."""
    for trial in trials:
        for name, said in trial.answers().items():
            match name:
                case "gpus":
                    yield gpu_check(said, wanted=gpus)
                case "vllm plugin":
                    yield plugin_check(said, environment, needed=recurrent)
                case "matmul":
                    yield matmul(said)
                case _:
                    yield library_check(name, said)


def library_check(name: str, said: Mapping[str, object]) -> Check:
    """A library, by its version or what it raised. A torchvision and its like that cannot be
    imported breaks transformers."""
    if "error" not in said:
        return Check(name=name, status="fine", why=str(said["why"]))
    fix = f"pip uninstall {name}" if name in COMPANIONS else set_up_again()
    return Check(name=name, status="wrong", why=f"does not load: {said['error']}", fix=fix)


def gpu_check(said: Mapping[str, object], *, wanted: int) -> Check:
    """Whether torch sees as many GPUs as the recipe's own machine must have."""
    count = said.get("count", 0)
    seen = str(said.get("why", said.get("error")))
    if not wanted or (isinstance(count, int) and count >= wanted):
        return Check(name="gpus", status="fine", why=seen)
    return Check(
        name="gpus",
        status="wrong",
        why=f"the recipe wants {wanted}, torch sees {count} ({seen})",
        fix=f"install a driver and {set_up_again()}; or write hardware.device: cpu",
    )


def plugin_check(
    said: Mapping[str, object], environment: Mapping[str, str], *, needed: bool
) -> Check:
    """Whether an engine of vLLM would know recurrent models."""
    allowed = environment.get("VLLM_PLUGINS")
    if allowed is not None and PLUGIN not in allowed.split(","):
        why, fix = f"VLLM_PLUGINS={allowed} leaves it out", f"unset it, or add {PLUGIN} to it"
    elif "error" in said:
        why, fix = str(said["error"]), set_up_again()
    else:
        return Check(name="vllm plugin", status="fine", why=str(said["why"]))
    status = "wrong" if needed else "warning"
    return Check(name="vllm plugin", status=status, why=f"of recurrent models: {why}", fix=fix)


def matmul(said: Mapping[str, object]) -> Check:
    """The speed that was measured, or why there is none."""
    if "error" in said:
        return library_check("matmul", said)
    cores = len(os.sched_getaffinity(0))
    how = f"float32, {cores} threads, the best square product in {LIMIT_S:g} s"
    return Check(
        name="matmul",
        status="fine",
        why=f"{said['why']} GFLOP/s ({how})",
        matmul_gflops=float(str(said["why"])),
    )
