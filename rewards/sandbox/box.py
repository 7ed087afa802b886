"""The outside of a sandbox: starts it, hands it runs, and takes what they answer.

How programs are isolated is chosen from what the machine offers: see :mod:`rewards.sandbox.ways`.
``none`` has only the resource limits, and must be asked for in so many words.
"""

from __future__ import annotations

import array
import marshal
import math
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewards.sandbox import seccomp
from rewards.sandbox.ways import TMP_MIB, Isolation, NoIsolation, Way, refusal, ways

__all__ = ["Box", "Broken", "Ended", "Isolation", "Limits", "NoIsolation", "Run"]

FILE_MIB = 16
MAX_PROCESSES = 32
SHARED_USER_SPARE = 512
"""Tasks that a user may have beyond those of now, where the kernel counts all of them."""
START_WALL_S = 60.0
_KERNEL = Path(__file__).with_name("kernel.py")
_ZYGOTE = Path(__file__).with_name("zygote.py")


class Broken(RuntimeError):
    """The sandbox itself died; it says nothing about the program."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one run may use."""

    cpu_s: float = 5.0
    memory_mib: int = 512
    output_bytes: int = 1 << 20

    @property
    def wall_s(self) -> float:
        """For runs that sleep: generous, so that a loaded machine reaches the CPU limit first."""
        return 20 + 10 * self.cpu_s

    def resources(
        self, *, processes: int | None, address_space: bool
    ) -> list[tuple[str, int, int]]:
        """As resource limits, soft and hard. Node reserves more addresses than it uses."""
        size, cpu_s = self.memory_mib << 20, max(1, math.ceil(self.cpu_s))
        found = [
            ("RLIMIT_DATA", size),
            ("RLIMIT_FSIZE", FILE_MIB << 20),
            ("RLIMIT_NOFILE", 64),
            ("RLIMIT_CORE", 0),
        ]
        if address_space:
            found.append(("RLIMIT_AS", size + (256 << 20)))
        if processes is not None:
            found.append(("RLIMIT_NPROC", processes))
        return [("RLIMIT_CPU", cpu_s, cpu_s + 1), *((name, most, most) for name, most in found)]

    def bounds(self) -> dict[str, float]:
        """What all of a run may use together; twice the memory, as forked processes share much."""
        return {
            "processes": MAX_PROCESSES,
            "cpu_s": self.cpu_s + 1,
            "memory_bytes": 2 * self.memory_mib << 20,
            "file_bytes": TMP_MIB << 20,
        }


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a run ended."""

    status: int
    """As from ``os.wait``."""
    cpu_s: float
    peak_kib: int
    stopped: bool

    def trouble(self, limits: Limits, wall_s: float) -> str | None:
        """``timeout``, ``stopped``, a signal or an exit code in words; None when all went well."""
        signal_number = os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else 0
        if self.stopped:
            return "it stopped itself"
        spent = self.cpu_s >= 0.8 * limits.cpu_s or wall_s >= limits.wall_s
        if signal_number == signal.SIGXCPU or (signal_number == signal.SIGKILL and spent):
            return "timeout"
        if signal_number:
            return f"signal {signal_number}"
        code = os.waitstatus_to_exitcode(self.status)
        return f"exit code {code}" if code else None


class Run:
    """A run in progress, seen from outside."""

    def __init__(self, box: Box, job: dict[str, Any], limits: Limits) -> None:
        self._box = box
        self._limits = limits
        self._start_s = time.monotonic()
        self.deadline = self._start_s + limits.wall_s + 10
        request_in, self.requests = os.pipe()
        self.answers, answer_out = os.pipe()
        stdin_in, self.stdin = os.pipe()
        self.stdout, stdout_out = os.pipe()
        self._open = {self.requests, self.answers, self.stdin, self.stdout}
        theirs = (request_in, answer_out, stdin_in, stdout_out)
        try:
            box.begin(job, theirs)
        except BaseException:
            self.close()
            raise
        finally:
            for descriptor in theirs:
                os.close(descriptor)

    def close(self, *descriptors: int) -> None:
        """Close these ends, or all that are open."""
        for descriptor in descriptors or tuple(self._open):
            if descriptor in self._open:
                self._open.discard(descriptor)
                os.close(descriptor)

    def ask(self, text: str) -> bytes | None:
        """Send a request and wait for its answer; None when the run ended instead."""
        self.send(text)
        return self.receive()

    def send(self, text: str) -> None:
        """Send one message; a run that has ended does not read it."""
        data = text.encode("utf-8", "surrogatepass")
        data = len(data).to_bytes(4, "big") + data
        try:
            while data:
                data = data[os.write(self.requests, data) :]
        except BrokenPipeError:
            return

    def receive(self) -> bytes | None:
        """The next message, or None when the run ended or broke its bounds."""
        header = self._exactly(4)
        if header is None:
            return None
        size = int.from_bytes(header, "big")
        return None if size > self._limits.output_bytes else self._exactly(size)

    def _exactly(self, size: int) -> bytes | None:
        data = b""
        while len(data) < size:
            if not _readable(self.answers, self.deadline):
                return None
            more = os.read(self.answers, size - len(data))
            if not more:
                return None
            data += more
        return data

    def talk(self, stdin: bytes) -> bytes | None:
        """Feed standard input and collect standard output; None when there was too much."""
        os.set_blocking(self.stdin, False)
        output = bytearray()
        while True:
            writing = [self.stdin] if stdin and self.stdin in self._open else []
            if not writing:
                self.close(self.stdin)
            left_s = self.deadline - time.monotonic()
            readable, writable, _ = select.select([self.stdout], writing, [], max(left_s, 0))
            if not readable and not writable:
                raise Broken("a run outlived its wall limit")
            if writable:
                try:
                    stdin = stdin[os.write(self.stdin, stdin[:65536]) :]
                except BrokenPipeError:
                    stdin = b""
            if readable:
                more = os.read(self.stdout, 65536)
                output += more
                if not more:
                    return bytes(output)
                if len(output) > self._limits.output_bytes:
                    return None

    def end(self) -> tuple[Ended, str | None]:
        """Let the run go and wait for its end; what was wrong with it, if anything."""
        self.close()
        ended = self._box.ended(self.deadline)
        return ended, ended.trouble(self._limits, time.monotonic() - self._start_s)


class Box:
    """One sandbox with its zygote, for one run at a time; a context manager.

    Raises:
        NoIsolation: when no way that `isolation` allows works on this machine.
    """

    def __init__(self, isolation: Isolation = "best", *, readable: Sequence[str] = ()) -> None:
        self.isolation: Isolation = isolation
        self._readable = tuple(readable)
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._folder: str | None = None
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
            _ended(self._process)
        if self._folder is not None:
            _removed(self._folder)
        self._process = self._control = self._folder = None

    def run(self, job: dict[str, Any], limits: Limits) -> Run:
        """Begin a run; its :meth:`Run.end` must be called before the next one.

        Raises:
            Broken: when the sandbox cannot be brought to run anything.
        """
        if self._process is None or self._process.poll() is not None:
            self.close()
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
            passed = array.array("i", [memory, *descriptors])
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)]
            self._control.sendmsg([b"run"], rights)
        except OSError as error:
            raise Broken(f"the sandbox takes no runs: {error}") from error
        finally:
            os.close(memory)

    def ended(self, deadline: float) -> Ended:
        """The zygote's report on the run."""
        assert self._control is not None
        body = b""
        if _readable(self._control.fileno(), deadline):
            body = self._control.recv(100)
        fields = body.split()
        if len(fields) != 5:
            self.close()
            raise Broken("the sandbox died during a run")
        if fields[4] != b"0":
            self.close()  # files that resist removal: the next run gets a fresh sandbox
        return Ended(
            status=int(fields[0]),
            cpu_s=float(fields[1]),
            peak_kib=int(fields[2]),
            stopped=fields[3] == b"1",
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
        with theirs, _as_file(call_filter) as filter_file:
            command, passed = list(way.command), [theirs.fileno()]
            if way.name == "bubblewrap" and filter_file is not None:
                command += ["--seccomp", str(filter_file)]
                passed.append(filter_file)
            python = [os.path.realpath(sys.executable), "-I", "-S", "-X", "utf8", "-c"]
            setup = _setup(way, self._folder or "/tmp", theirs.fileno(), call_filter)
            try:
                process = subprocess.Popen(
                    [*command, *python, _ZYGOTE.read_text(), repr(setup)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    pass_fds=passed,
                    start_new_session=way.name != "bubblewrap",  # outlives us to clean up
                    env=_environment(self._folder or "/tmp"),
                )
            except OSError as error:
                ours.close()
                return str(error)
        self._process, self._control = process, ours
        if _readable(ours.fileno(), time.monotonic() + START_WALL_S) and ours.recv(16) == b"ready":
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
    }


def _environment(folder: str) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "HOME": folder, "TMPDIR": folder, "PYTHONHASHSEED": "0"}


def _ended(process: subprocess.Popen[bytes]) -> None:
    """Ask a zygote to end, so that it takes its runs along; kill one that does not."""
    process.terminate()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stderr is not None:
        process.stderr.close()


def _removed(folder: str) -> None:
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
    found, user = 0, os.getuid()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.stat(f"/proc/{name}").st_uid == user:
                    found += len(os.listdir(f"/proc/{name}/task"))
            except OSError:  # it has ended
                continue
    return found


@contextmanager
def _as_file(content: bytes | None) -> Iterator[int | None]:
    """A descriptor from which bubblewrap reads the seccomp filter."""
    if content is None:
        yield None
        return
    descriptor = os.memfd_create("seccomp")
    try:
        os.write(descriptor, content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def _readable(descriptor: int, deadline: float) -> bool:
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(max(0.0, deadline - time.monotonic()) * 1000))
