"""One run in a sandbox, seen from outside: its limits, what is said to it, how it ended."""

from __future__ import annotations

import math
import os
import resource
import select
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rewards.sandbox.ways import TMP_MIB

FILE_MIB = 16
MAX_PROCESSES = 32
STACK_MIB = 100
"""Of a Python program; the kernel leaves 128 MiB of addresses for a stack that grows."""
_SIGNALS: dict[int, str] = {
    signal.SIGSEGV: ", a crash: it called itself too deeply, or misused memory",
    signal.SIGABRT: ", it aborted",
    signal.SIGFPE: ", a division by zero",
    signal.SIGKILL: ", killed",
}
TIMEOUT = "timeout"
"""The trouble of a run that used up its time."""
_SENT = (signal.SIGHUP, signal.SIGINT, signal.SIGKILL, signal.SIGUSR1, signal.SIGTERM)
"""What kernels that are short of memory, and schedulers that want their machine back, send."""
TOO_MUCH_OUTPUT = "too much output"
COMPILER_FAILED = 72
"""The exit code of a run whose preparing command failed (see zygote.py)."""
LAST_WORDS = 2000
"""Bytes at either end of standard error that are looked at when a run fails."""
_FULL = ("signal 25", "No space left", "File too large")
_OUT_OF_MEMORY = ("MemoryError", "bad_alloc", "out of memory", "OutOfMemory", "allocate memory")


class Broken(RuntimeError):
    """The sandbox itself died; it says nothing about the program."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one run may use."""

    cpu_s: float = 5.0
    memory_mib: int = 512
    output_mib: float = 1.0

    @property
    def output_bytes(self) -> int:
        """The most that a run may print, or answer to one call."""
        return int(self.output_mib * (1 << 20))

    @property
    def wall_s(self) -> float:
        """For runs that sleep: generous, so that a loaded machine reaches the CPU limit first."""
        return 20 + 10 * self.cpu_s

    def resources(
        self, *, processes: int | None, address_space: bool
    ) -> list[tuple[str, int, int]]:
        """As resource limits, soft and hard. Node reserves more addresses than it uses."""
        size, cpu_s = self.memory_mib << 20, max(1, math.ceil(self.cpu_s))
        sizes = [
            ("RLIMIT_DATA", size),
            ("RLIMIT_FSIZE", FILE_MIB << 20),
            ("RLIMIT_NOFILE", 64),
            ("RLIMIT_CORE", 0),
        ]
        if address_space:  # a program in this process: it may call itself deeply
            sizes.append(("RLIMIT_AS", size + (256 << 20)))
            sizes.append(("RLIMIT_STACK", _at_most(resource.RLIMIT_STACK, STACK_MIB << 20)))
        if processes is not None:
            sizes.append(("RLIMIT_NPROC", processes))
        return [("RLIMIT_CPU", cpu_s, cpu_s + 1), *((name, most, most) for name, most in sizes)]

    def bounds(self) -> dict[str, float]:
        """What all of a run may use together; twice the memory, as forked processes share much."""
        return {
            "processes": MAX_PROCESSES,
            "cpu_s": self.cpu_s + 1,
            "memory_bytes": 2 * self.memory_mib << 20,
            "file_bytes": TMP_MIB << 20,
        }


@dataclass(frozen=True, kw_only=True)
class RunEnd:
    """How a run ended."""

    status: int
    """As from ``os.wait``."""
    cpu_s: float
    peak_kib: int
    stopped: bool
    bound: str = "-"
    """The bound that its processes passed together: wall, cpu, memory, processes or files."""

    def was_told_to(self, trouble: str | None) -> bool:
        """Whether a signal that others send, or a program itself, ended or stopped the run: no
        limit did."""
        signal_number = os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else 0
        sent = self.stopped or signal_number in _SENT
        return sent and self.bound == "-" and trouble != TIMEOUT

    def trouble(self, limits: Limits, wall_s: float) -> str | None:
        """What went wrong: `TIMEOUT`, a stop, a signal or an exit code in words; else None."""
        signal_number = os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else 0
        if self.stopped:
            return "it stopped itself"
        out_of_time = self.cpu_s >= 0.8 * limits.cpu_s or wall_s >= limits.wall_s
        if self.bound in ("processes", "memory", "files"):
            return f"too many {self.bound}" if self.bound != "memory" else "too much memory"
        if signal_number == signal.SIGXCPU or (signal_number == signal.SIGKILL and out_of_time):
            return TIMEOUT
        if signal_number:
            return f"signal {signal_number}{_SIGNALS.get(signal_number, '')}"
        code = os.waitstatus_to_exitcode(self.status)
        if code == COMPILER_FAILED:
            return "it does not compile"
        return f"exit code {code}" if code else None

    def limit(self, limits: Limits, words: str) -> str:
        """The limit that the run met, with the argument that raises it; empty when it met none.

        Args:
            words: the trouble, with what the program said of it.
        """
        if words.startswith(TIMEOUT):
            spent = f"{limits.cpu_s:g} s of CPU time"
            if self.bound == "wall":
                spent = f"{limits.wall_s:g} s of wall time (20 s and 10 times cpu_s)"
            return f"{spent}; args: {{cpu_s: {2 * limits.cpu_s:g}}} allows more"
        if words.startswith(TOO_MUCH_OUTPUT):
            more = f"args: {{output_mib: {2 * limits.output_mib:g}}} allows more"
            return f"{limits.output_mib:g} MiB of output; {more}"
        if self.bound == "memory" or any(mark in words for mark in _OUT_OF_MEMORY):
            more = f"args: {{memory_mib: {2 * limits.memory_mib}}} allows more"
            return f"{limits.memory_mib} MiB of memory; {more}"
        if self.bound == "processes":
            return f"{MAX_PROCESSES} processes, which no argument raises"
        if self.bound == "files" or any(mark in words for mark in _FULL):
            return f"{TMP_MIB} MiB of files, {FILE_MIB} in one, which no argument raises"
        return ""


def _at_most(limit: int, size: int) -> int:
    """A size within the hard limit of this process, which its children cannot exceed."""
    hard = resource.getrlimit(limit)[1]
    return size if hard == resource.RLIM_INFINITY else min(size, hard)


class Runner(Protocol):
    """What a run needs of its box."""

    disturbed: int
    """Runs that somebody ended or stopped: others, or the programs themselves."""

    def begin(self, job: dict[str, Any], descriptors: Sequence[int]) -> None:
        """Hand a job and its descriptors to the zygote."""
        ...

    def await_end(self, deadline: float) -> RunEnd:
        """The zygote's report on the run."""
        ...


class Run:
    """A run in progress."""

    def __init__(self, box: Runner, job: dict[str, Any], limits: Limits) -> None:
        self._box = box
        self._limits = limits
        self._start_s = time.monotonic()
        self.deadline = self._start_s + limits.wall_s + 10
        request_in, self.requests = os.pipe()
        self.answers, answer_out = os.pipe()
        stdin_in, self.stdin = os.pipe()
        self.stdout, stdout_out = os.pipe()
        self._open = {self.requests, self.answers, self.stdin, self.stdout}
        self.errors = b""
        """Both ends of a whole program's standard error."""
        self.silence = ""
        """Why an answer was not taken, when it is known."""
        if job["mode"] == "serve":
            self.close(self.stdin)  # a function that reads gets the end of the input at once
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
        if size > self._limits.output_bytes:
            self.silence = TOO_MUCH_OUTPUT
            return None
        return self._exactly(size)

    def _exactly(self, size: int) -> bytes | None:
        data = b""
        while len(data) < size:
            if not has_bytes(self.answers, self.deadline):
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
        reading = [self.stdout, self.answers]
        while reading:
            writing = [self.stdin] if stdin and self.stdin in self._open else []
            if not writing:
                self.close(self.stdin)
            left_s = self.deadline - time.monotonic()
            readable, writable, _ = select.select(reading, writing, [], max(left_s, 0))
            if not readable and not writable:
                raise Broken("a run outlived its wall limit")
            if writable:
                try:
                    stdin = stdin[os.write(self.stdin, stdin[:65536]) :]
                except BrokenPipeError:
                    stdin = b""
            for descriptor in readable:
                more = os.read(descriptor, 65536)
                if not more:
                    reading.remove(descriptor)
                elif descriptor == self.stdout:
                    output += more
                    if len(output) > self._limits.output_bytes:
                        return None
                else:
                    self.errors = _ends(self.errors + more)
        return bytes(output)

    def end(self) -> tuple[RunEnd, str | None]:
        """Let the run go and wait for its end; what was wrong with it, if anything."""
        self.close()
        end = self._box.await_end(self.deadline)
        trouble = end.trouble(self._limits, time.monotonic() - self._start_s)
        self._box.disturbed += end.was_told_to(trouble)
        return end, trouble


def _ends(words: bytes) -> bytes:
    """Both ends of what is long: Go complains first, and Python last."""
    return words if len(words) <= 2 * LAST_WORDS else words[:LAST_WORDS] + words[-LAST_WORDS:]


def has_bytes(descriptor: int, deadline: float) -> bool:
    """Whether bytes, or the end of them, arrive before `deadline` (of ``time.monotonic()``)."""
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(max(0.0, deadline - time.monotonic()) * 1000))
