"""Isolation for a worker process that runs a reward which declares ``isolation = "sandbox"``.

The worker sees the interpreter, its packages and the reward's folders, all read-only, and a private
folder for its files; it has no network and reaches no process outside. Under bubblewrap that is by
namespaces, elsewhere by Landlock (which leaves the machine's list of processes in view); a seccomp
filter is under both. The worker applies Landlock and the filter to itself before its first job.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from rewards.sandbox import kernel, seccomp
from rewards.sandbox.ways import NAMESPACES, USER_NAMESPACE, NoIsolation, mounts, view

_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
_VARIABLES = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "VIRTUAL_ENV", "PYTHONPATH", "PYTHONHASHSEED")


@dataclass(frozen=True)
class Shelter:
    """Where one worker runs; ``folder`` is its own, and the only one that it may change."""

    way: Literal["bubblewrap", "landlock"]
    readable: tuple[str, ...]
    folder: str

    def command(self) -> list[str]:
        """What stands before the worker's own command line."""
        if self.way == "landlock":
            return []
        return [
            shutil.which("bwrap") or "bwrap",
            *NAMESPACES,
            *USER_NAMESPACE,
            *mounts(self.readable),
            "--",
        ]

    def environment(self) -> dict[str, str]:
        """The worker's environment: nothing that may be a secret."""
        ours = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
        return ours | {"HOME": self.folder, "TMPDIR": self.folder}

    def close(self) -> None:
        """Remove the private folder; the worker has ended."""
        if self.way == "landlock":
            shutil.rmtree(self.folder, ignore_errors=True)


def sheltered(folders: Sequence[str]) -> Shelter:
    """A shelter from which `folders` can be read.

    Raises:
        NoIsolation: when this machine offers none.
    """
    home = str(Path(__file__).resolve().parents[2])
    packages = [path for path in (sys.prefix, home, *sys.path, *folders) if os.path.isdir(path)]
    readable = tuple(dict.fromkeys(packages))
    bwrap = shutil.which("bwrap")
    if bwrap is not None and _works(bwrap):
        return Shelter("bubblewrap", readable, "/tmp")
    if kernel.landlock_version() >= kernel.SIGNALS_SINCE and seccomp.program() is not None:
        folder = tempfile.mkdtemp(prefix="stepwell-", dir="/tmp")
        return Shelter("landlock", readable, folder)
    raise NoIsolation(
        "it declares isolation sandbox, and nothing isolates processes here: bubblewrap does not "
        f"work, and the kernel's Landlock is older than version {kernel.SIGNALS_SINCE}; install "
        "bubblewrap (apt-get install bubblewrap), or declare isolation process"
    )


def enter(shelter: Shelter) -> None:
    """Put this process, a worker that has done nothing yet, under the shelter's rules.

    Raises:
        OSError: when the kernel refuses.
    """
    os.chdir(shelter.folder)
    if shelter.way == "landlock":
        kernel.keep_capabilities()
    if kernel.landlock_version():
        everything = ["/"] if shelter.way == "bubblewrap" else [*view(shelter.readable), "/proc"]
        rules = kernel.ruleset(
            readable=[*everything, *_DEVICES], writable=[shelter.folder, "/dev/null"]
        )
        kernel.restrict(rules)
        os.close(rules)
    program = seccomp.program(own_files=shelter.way == "bubblewrap")
    if program is not None:
        kernel.filter_calls(program)


@cache
def _works(bwrap: str) -> bool:
    """Whether bubblewrap may make namespaces here."""
    trial = [bwrap, *NAMESPACES, *USER_NAMESPACE, *mounts(()), "--", "/bin/true"]
    return subprocess.run(trial, capture_output=True, check=False).returncode == 0
