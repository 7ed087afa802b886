"""The outside of a sandbox: starts it, hands it runs, and takes what they answer.

``bubblewrap`` is the isolation: own pid, network, IPC, UTS and mount namespaces, a read-only view
of the interpreter and the system's libraries, a private ``/tmp`` of bounded size, no capabilities,
a seccomp filter, resource limits per run. Root additionally drops to an unused user id. ``none``
has only the resource limits, and must be asked for in so many words.
"""

from __future__ import annotations

import array
import marshal
import math
import os
import select
import shutil
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
from typing import Any, Literal

from rewards.sandbox import seccomp

Isolation = Literal["bubblewrap", "none"]
TMP_MIB = 64
FILE_MIB = 16
MAX_PROCESSES = 32
START_WALL_S = 60.0
FIRST_UNUSED_UID = 2_000_000_000
_SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/etc/alternatives", "/etc/ld.so.cache")


class NoIsolation(RuntimeError):
    """Nothing on this machine isolates a program, and doing without was not allowed."""


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

    def resources(self, *, isolated: bool, address_space: bool) -> list[tuple[str, int, int]]:
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
        if isolated:
            found.append(("RLIMIT_NPROC", MAX_PROCESSES))
        return [("RLIMIT_CPU", cpu_s, cpu_s + 1), *((name, most, most) for name, most in found)]


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
        NoIsolation: when the machine has no bubblewrap that works.
    """

    def __init__(
        self, isolation: Isolation = "bubblewrap", *, readable: Sequence[str] = ()
    ) -> None:
        self.isolation: Isolation = isolation
        self._readable = tuple(readable)
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._folder = tempfile.mkdtemp(prefix="stepwell-") if isolation == "none" else "/tmp"
        self._start()

    def __enter__(self) -> Box:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the sandbox and everything in it."""
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = self._control = None
        if self.isolation == "none":
            shutil.rmtree(self._folder, ignore_errors=True)

    def run(self, job: dict[str, Any], limits: Limits) -> Run:
        """Begin a run; its :meth:`Run.end` must be called before the next one.

        Raises:
            Broken: when the sandbox cannot be brought to run anything.
        """
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._start()
        command = job["mode"] == "command"
        job["limits"] = limits.resources(
            isolated=self.isolation != "none", address_space=not command
        )
        job["wall_s"] = limits.wall_s
        job["folder"] = self._folder
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

    def _start(self) -> None:
        failures = []
        for name, command, uid in _ways(self.isolation, self._readable):
            trouble = self._try(command, uid)
            if trouble is None:
                return
            failures.append(f"{name}: {trouble}")
        raise NoIsolation(
            f"nothing isolates programs here ({'; '.join(failures)}); install bubblewrap "
            f"(apt-get install bubblewrap), or set isolation: none to run them unprotected"
        )

    def _try(self, command: Sequence[str], uid: str) -> str | None:
        """Start one way; what went wrong, or None when the zygote answers."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, _filter_file() as filter_file:
            passed = [theirs.fileno(), *([filter_file] if filter_file is not None else [])]
            source = Path(__file__).with_name("zygote.py").read_text()
            alone = "alone" if self.isolation != "none" else "together"
            if filter_file is not None and self.isolation != "none":
                command = [*command, "--seccomp", str(filter_file), "--"]
            python = [sys.executable, "-I", "-S", "-X", "utf8", "-c", source]
            try:
                process = subprocess.Popen(
                    [*command, *_resolved(python), alone, uid, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    pass_fds=passed,
                    env={"PATH": "/usr/bin:/bin", "HOME": "/tmp", "PYTHONHASHSEED": "0"},
                )
            except OSError as error:
                ours.close()
                return str(error)
        self._process, self._control = process, ours
        if _readable(ours.fileno(), time.monotonic() + START_WALL_S) and ours.recv(16) == b"ready":
            return None
        process.kill()
        _, words = process.communicate()
        ours.close()
        self._process = self._control = None
        return words.decode(errors="replace").strip()[-200:] or "it did not start"


def _resolved(python: list[str]) -> list[str]:
    """The interpreter itself rather than a virtual environment's link to it."""
    return [os.path.realpath(python[0]), *python[1:]]


@contextmanager
def _filter_file() -> Iterator[int | None]:
    """A descriptor from which bubblewrap reads the seccomp filter."""
    program = seccomp.program()
    if program is None:
        yield None
        return
    descriptor = os.memfd_create("seccomp")
    try:
        os.write(descriptor, program)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def _ways(isolation: Isolation, readable: Sequence[str]) -> Iterator[tuple[str, list[str], str]]:
    """(name, command prefix, user id to take inside) of each way to start, the best first."""
    if isolation == "none":
        yield "none", [], "-"
        return
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        return
    view = _view(readable)
    unshare = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    common = [*unshare, "--unshare-cgroup-try", "--die-with-parent", "--new-session"]
    common += ["--as-pid-1", "--hostname", "box", *view]
    if os.geteuid() == 0:
        capabilities = ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        uid = str(FIRST_UNUSED_UID + os.getpid())
        yield "bubblewrap as root", [bwrap, *common, *capabilities], uid
    user = ["--unshare-user", "--disable-userns", "--uid", "65534", "--gid", "65534"]
    yield "bubblewrap", [bwrap, *user, *common, "--cap-drop", "ALL"], "-"


def _view(readable: Sequence[str]) -> list[str]:
    """What of the file system a program sees, all of it read-only but /tmp."""
    wanted = [*_SYSTEM, sys.base_prefix, *readable]
    parents = {str(parent) for path in wanted for parent in reversed(Path(path).parents)} - {"/"}
    binds = [part for path in sorted(parents) for part in ("--perms", "0755", "--dir", path)]
    binds += [part for path in dict.fromkeys(wanted) for part in ("--ro-bind-try", path, path)]
    size = str(TMP_MIB << 20)
    tmp = ["--perms", "1777", "--size", size, "--tmpfs", "/tmp", "--chdir", "/tmp"]
    return [*binds, "--proc", "/proc", "--dev", "/dev", *tmp]


def _readable(descriptor: int, deadline: float) -> bool:
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(max(0.0, deadline - time.monotonic()) * 1000))
