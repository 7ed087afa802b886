"""The outside of a sandbox: starts it, hands it runs, and takes what they answer.

How programs are isolated is chosen from what the machine offers: see :mod:`rewards.sandbox.ways`.
``none`` has only the resource limits, and must be asked for in so many words.
"""

from __future__ import annotations

import array
import marshal
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rewards.sandbox import seccomp
from rewards.sandbox.boxed_run import MAX_PROCESSES, Broken, Limits, Run, RunEnd, has_bytes
from rewards.sandbox.packages import Packages, installed
from rewards.sandbox.ways import Isolation, Way, refusal, ways

SHARED_USER_SPARE = 512
"""Tasks that a user may have beyond those of now, where the kernel counts all of them."""
START_WALL_S = 60.0
_KERNEL = Path(__file__).with_name("kernel.py")
_PROGRAM_SIDE = Path(__file__).with_name("program_side.py")
_ZYGOTE = Path(__file__).with_name("zygote.py")


class Box:
    """One sandbox with its zygote, for one run at a time; a context manager.

    Its programs may import Python's own modules, and `packages`, which are imported once, and see
    the folders `readable` besides. `parts` are modules of ours that its runs may start: marshalled
    pairs of a name and code.

    Raises:
        NoIsolation: when no way that `isolation` allows works on this machine.
        ValueError: when a package is not installed.
    """

    def __init__(
        self,
        isolation: Isolation = "best",
        *,
        packages: Sequence[str] = (),
        readable: Sequence[str] = (),
        parts: bytes | None = None,
    ) -> None:
        self.isolation: Isolation = isolation
        self._parts = parts
        self.packages = tuple(packages)
        self._packages = installed(packages)
        self._readable = (*self._packages.readable, *readable)
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._folder: str | None = None
        self._busy = False
        self.disturbed = 0
        self.way = self._start()

    def __enter__(self) -> Box:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the sandbox and everything in it."""
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            _end(self._process)
        if self._folder is not None:
            _remove(self._folder)
        self._process = self._control = self._folder = None
        self._busy = False

    def run(self, job: dict[str, Any], limits: Limits) -> Run:
        """Begin a run; its :meth:`Run.end` must be called before the next one.

        Raises:
            Broken: when the sandbox cannot be brought to run anything.
        """
        if self._busy or self._process is None or self._process.poll() is not None:
            self.close()  # also where a run was left in the middle: its end is not the next one's
            self.way = self._start()
        command = job["mode"] == "command"
        job["limits"] = limits.resources(
            processes=_most_processes(self.way), address_space=not command
        )
        job["bounds"] = limits.bounds()
        job["wall_s"] = limits.wall_s
        if command:
            job["environment"] = {**job["environment"], "TMPDIR": self._folder or "/tmp"}
        return Run(self, job, limits)

    def begin(self, job: dict[str, Any], descriptors: Sequence[int]) -> None:
        """Hand a job and its descriptors to the zygote."""
        assert self._control is not None
        memory = os.memfd_create("job")
        try:
            data = marshal.dumps(job)
            while data:
                data = data[os.write(memory, data) :]
            numbers = array.array("i", [memory, *descriptors])
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)]
            self._control.sendmsg([b"run"], rights)
            self._busy = True
        except OSError as error:
            raise Broken(f"the sandbox takes no runs: {error}") from error
        finally:
            os.close(memory)

    def await_end(self, deadline: float) -> RunEnd:
        """The zygote's report on the run."""
        assert self._control is not None
        body = b""
        if has_bytes(self._control.fileno(), deadline):
            body = self._control.recv(100)
        self._busy = False
        fields = body.split()
        if len(fields) != 6:
            self.close()
            raise Broken("the sandbox died during a run")
        if fields[4] != b"0":
            self.close()  # files that resist removal: the next run gets a fresh sandbox
        return RunEnd(
            status=int(fields[0]),
            cpu_s=float(fields[1]),
            peak_kib=int(fields[2]),
            stopped=fields[3] == b"1",
            bound=fields[5].decode(),
        )

    def _start(self) -> Way:
        failures = []
        for way in ways(self.isolation, readable=self._readable):
            trouble = self._try(way)
            if trouble is None:
                return way
            failures.append(f"{way.words or way.name}: {trouble}")
        raise refusal(self.isolation, failures)

    def _try(self, way: Way) -> str | None:
        """Start one way; what went wrong, or None when the zygote answers."""
        call_filter = seccomp.program(own_files=way.name != "landlock")
        if way.name == "landlock" and call_filter is None:
            return "there is no seccomp filter for this processor"
        self._folder = None
        if way.name != "bubblewrap":
            self._folder = tempfile.mkdtemp(prefix="stepwell-", dir="/tmp")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, _as_file(call_filter) as filter_file, _as_file(self._parts) as parts_file:
            command, descriptors = list(way.command), [theirs.fileno()]
            if way.name == "bubblewrap" and filter_file is not None:
                command += ["--seccomp", str(filter_file)]
                descriptors.append(filter_file)
            python = [os.path.realpath(sys.executable), "-I", "-S", "-X", "utf8", "-c"]
            setup = _setup(way, self._folder or "/tmp", theirs.fileno(), call_filter)
            setup |= {"roots": self._packages.roots, "modules": self._packages.modules}
            setup["parts"] = parts_file
            descriptors += [] if parts_file is None else [parts_file]
            try:
                process = subprocess.Popen(
                    [*command, *python, _ZYGOTE.read_text(), repr(setup)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    pass_fds=descriptors,
                    start_new_session=way.name != "bubblewrap",  # outlives us to clean up
                    env=_environment(self._folder or "/tmp", self._packages),
                )
            except OSError as error:
                ours.close()
                return str(error)
        self._process, self._control = process, ours
        if has_bytes(ours.fileno(), time.monotonic() + START_WALL_S) and ours.recv(16) == b"ready":
            return None
        process.kill()
        _, words = process.communicate()
        self.close()
        return words.decode(errors="replace").strip()[-200:] or "it did not start"


def _setup(way: Way, folder: str, control: int, call_filter: bytes | None) -> dict[str, Any]:
    """What the zygote is told, as plain data."""
    return {
        "way": way.name,
        "uid": way.uid,
        "readable": list(way.readable),
        "folder": folder,
        "control": control,
        "parent": os.getpid(),
        "library": os.path.dirname(os.__file__),
        "filter": call_filter,
        "kernel": _KERNEL.read_text(),
        "program_side": _PROGRAM_SIDE.read_text(),
    }


def _environment(folder: str, packages: Packages) -> dict[str, str]:
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    ours = {"PATH": "/usr/bin:/bin", "HOME": folder, "TMPDIR": folder, "PYTHONHASHSEED": "0"}
    return ours | (one_thread if packages.modules else {})  # a fork leaves threads behind


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let a zygote end whose socket was closed, with its runs; then ask it to, then kill it.

    It ends before bubblewrap does, which so waits for it: no process is left for others to reap.
    """
    for insist in (None, process.terminate, process.kill):
        if insist is not None:
            insist()
        try:
            process.wait(timeout=5)
            break
        except subprocess.TimeoutExpired:
            continue
    if process.stderr is not None:
        process.stderr.close()


def _remove(folder: str) -> None:
    """Remove a private folder, whatever a program made in it: closed or very deep folders too."""
    if not os.path.isdir(folder):
        return
    for command in (["chmod", "-R", "u+rwX", folder], ["rm", "-rf", folder]):
        subprocess.run(command, check=False, capture_output=True)


def _most_processes(way: Way) -> int | None:
    """The kernel's limit on tasks; it counts all of a user's where the user id is not our own."""
    if way.name == "none":
        return None
    if way.name == "bubblewrap" or way.uid is not None:
        return MAX_PROCESSES
    return _tasks_of_user() + SHARED_USER_SPARE


def _tasks_of_user() -> int:
    tasks, user = 0, os.getuid()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.stat(f"/proc/{name}").st_uid == user:
                    tasks += len(os.listdir(f"/proc/{name}/task"))
            except OSError:  # it has ended
                continue
    return tasks


@contextmanager
def _as_file(content: bytes | None) -> Iterator[int | None]:
    """A descriptor from which bubblewrap reads the seccomp filter, or the zygote its parts."""
    if content is None:
        yield None
        return
    descriptor = os.memfd_create("content")
    try:
        os.write(descriptor, content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)
