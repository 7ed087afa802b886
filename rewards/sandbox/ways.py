"""The ways to isolate a process on this machine, the best first.

``bubblewrap``: own pid, network, IPC, UTS and mount namespaces, a read-only view of the interpreter
and the system's libraries, a private ``/tmp`` of bounded size, no capabilities. ``landlock``, for
machines where that is missing or may make no namespaces: the same view by Landlock rules, which
also keep signals inside; a private folder; a user id of its own where root starts it. Under both a
seccomp filter leaves no sockets, and resource limits bound every process.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rewards.sandbox import kernel

Isolation = Literal["best", "bubblewrap", "landlock", "none"]
NAMES: tuple[Isolation, ...] = ("best", "bubblewrap", "landlock", "none")
TMP_MIB = 64
FIRST_UNUSED_UID = 2_000_000_000
_SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/etc/alternatives", "/etc/ld.so.cache")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


class NoIsolation(RuntimeError):
    """Nothing on this machine isolates a program, and doing without was not allowed."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to start an isolated process."""

    name: Literal["bubblewrap", "landlock", "none"]
    command: tuple[str, ...] = ()
    """What stands before the process's own command line."""
    uid: int | None = None
    """User id to take inside; None keeps the present one."""
    readable: tuple[str, ...] = ()
    """What it may read and execute below, for Landlock."""
    words: str = ""
    """What it is called in errors, if not by its name."""

    @property
    def layers(self) -> list[str]:
        """What isolates, in words."""
        shared = ["read-only files", "private /tmp", "seccomp", "rlimits"]
        landlock = [f"Landlock {kernel.landlock_version()}"] * (kernel.landlock_version() > 0)
        uid = ["own user id"] * (self.uid is not None)
        match self.name:
            case "bubblewrap":
                return ["namespaces", *shared, *landlock, *uid]
            case "landlock":
                return [*landlock, *shared, *uid]
        return ["rlimits"]


def ways(isolation: Isolation, *, readable: Sequence[str] = ()) -> Iterator[Way]:
    """The ways that `isolation` allows, to be tried in this order; `readable` is shown besides.

    Raises:
        NoIsolation: for a name that is none of :data:`NAMES`.
    """
    if isolation not in NAMES:
        raise NoIsolation(f"isolation is one of {', '.join(NAMES)}, not {isolation!r}")
    if isolation == "none":
        yield Way(name="none")
        return
    bwrap = shutil.which("bwrap")
    if isolation != "landlock" and bwrap is not None:
        yield from _bubblewraps(bwrap, readable)
    if isolation != "bubblewrap" and kernel.landlock_version() >= kernel.SIGNALS_SINCE:
        uid = FIRST_UNUSED_UID if os.geteuid() == 0 else None
        yield Way(name="landlock", uid=uid, readable=(*view(readable), *_DEVICES))


def refusal(isolation: Isolation, failures: Sequence[str]) -> NoIsolation:
    """What to say when no way worked."""
    reasons = list(failures)
    if isolation != "landlock" and shutil.which("bwrap") is None:
        reasons.append("bubblewrap is not installed")
    version = kernel.landlock_version()
    if isolation != "bubblewrap" and version < kernel.SIGNALS_SINCE:
        had = f"version {version}" if version else "none"
        reasons.append(f"the kernel's Landlock is {had}, and {kernel.SIGNALS_SINCE} is needed")
    return NoIsolation(
        f"nothing isolates programs here ({'; '.join(reasons)}); install bubblewrap "
        f"(apt-get install bubblewrap), or set isolation: none to run them unprotected"
    )


def view(readable: Sequence[str] = ()) -> list[str]:
    """What of the file system an isolated process sees: the interpreter and its libraries."""
    return list(dict.fromkeys([*_SYSTEM, sys.base_prefix, *readable]))


def _bubblewraps(bwrap: str, readable: Sequence[str]) -> Iterator[Way]:
    common = (bwrap, *NAMESPACES, "--as-pid-1", *mounts(readable))
    if os.geteuid() == 0:
        capabilities = ("--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID")
        yield Way(
            name="bubblewrap",
            command=(*common, *capabilities),
            uid=FIRST_UNUSED_UID + os.getpid(),
            readable=("/",),
            words="bubblewrap as root",
        )
    command = (*common, *USER_NAMESPACE)
    yield Way(name="bubblewrap", command=command, readable=("/",))


NAMESPACES = (
    "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try",
    "--hostname", "box", "--die-with-parent", "--new-session",
)  # fmt: skip
USER_NAMESPACE = (
    "--unshare-user", "--disable-userns", "--uid", "65534", "--gid", "65534", "--cap-drop", "ALL",
)  # fmt: skip


def mounts(readable: Sequence[str]) -> list[str]:
    """bubblewrap's arguments for the view, read-only, and for a private /tmp."""
    paths = view(readable)
    parents = {str(parent) for path in paths for parent in reversed(Path(path).parents)} - {"/"}
    binds = [part for path in sorted(parents) for part in ("--perms", "0755", "--dir", path)]
    size = str(TMP_MIB << 20)
    binds += ["--perms", "1777", "--size", size, "--tmpfs", "/tmp", "--chdir", "/tmp"]
    binds += [part for path in paths for part in ("--ro-bind-try", path, path)]
    return [*binds, "--proc", "/proc", "--dev", "/dev"]
