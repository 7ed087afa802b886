"""Worker processes that can be killed, behind futures.

Each of the pool's threads owns one worker process (:mod:`rewards.worker`), gives it one check at
a time and replaces it when it dies. A check's budget is CPU time from the start of its work, so
waiting in the queue and load on the machine change no verdict; the wall limit is generous and
catches only checks that sleep.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rewards import frames
from rewards.api import INFRA_ERROR, TIMEOUT, Cost, Reward, Sample, Traits, infra_error
from rewards.forms import RewardFunction
from rewards.registry import resolve
from rewards.routes import BY_ROW, NoRoute, route
from rewards.sandbox.shelter import Shelter, sheltered
from rewards.sandbox.ways import NoIsolation
from rewards.worker import Job, Limits

PREPARE_WALL_S = 600.0
"""For importing a user's module, which may load a large library on a busy machine."""
MAX_CRASHES = 2
"""Workers that one sample may crash before it is given up and quarantined."""
MAX_DEATHS = {"crash": MAX_CRASHES, "killed": 20, "early": 5, "killed early": 100}
"""Workers that one check may use up, by how they ended. SIGKILL comes from outside, not from the
sample; before the check begins it says nothing at all about it."""
RECYCLE_MB = 256
"""A worker that grew by more than this since its imports is replaced."""
CACHED_VERDICTS = 20_000

_BOOT = (
    "import sys; sys.path.append({root!r}); from rewards.worker import main; "
    "from rewards.sandbox.shelter import Shelter; main({pid}, {shelter!r})"
)


class _WorkerDied(Exception):
    """A worker ended without a result."""

    def __init__(self, code: int, *, started: bool) -> None:
        super().__init__(code, started)
        self.code = code
        self.started = started

    def __str__(self) -> str:
        name = signal.Signals(-self.code).name if self.code < 0 else f"exit code {self.code}"
        return f"the worker ended by {name} {'during the check' if self.started else 'early'}"


class _Refused(Exception):
    """A worker could not import the function."""


class _Exposed(Exception):
    """The function wants a sandbox, and the worker is in none."""


class _Overslept(Exception):
    """A check passed its wall limit."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a reward declares, with the form of its signature, as read in a worker."""

    form: str
    traits: Traits


@dataclass(frozen=True)
class _Task:
    job: Job
    key: bytes
    future: Future[Any]


class _Worker:
    """The parent's handle of one worker process, in a shelter or not."""

    def __init__(self, shelter: Shelter | None = None) -> None:
        root = str(Path(__file__).resolve().parents[1])
        self._shelter = shelter
        boot = _BOOT.format(root=root, pid=os.getpid(), shelter=shelter)
        outer = [] if shelter is None else shelter.command()
        environment = dict(os.environ) if shelter is None else shelter.environment()
        self._process = subprocess.Popen(
            [*outer, sys.executable, "-P", "-c", boot],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
            env=environment | {"PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in = self._process.stdin.fileno()
        self._out = self._process.stdout.fileno()
        self._pidfd = os.pidfd_open(self._process.pid)
        self.description: Description | None = None

    def ask(self, job: Job) -> tuple[Description, dict[str, Any]]:
        """Have `job` scored; an empty message when it holds no samples.

        `description` is set as soon as the function is known, also when the check then fails.

        Raises:
            _WorkerDied, _Overslept: it must be replaced.
            _Refused: the function cannot be imported.
            _Exposed: only a worker in a shelter may call it.
        """
        try:
            frames.write(self._in, pickle.dumps(job))
        except BrokenPipeError as error:
            raise self._death(started=False) from error
        ready = self._message(PREPARE_WALL_S, started=False)
        if ready.get("kind") == "refused":
            raise _Refused(str(ready.get("error")))
        description = self.description = _description(ready)
        if description.traits.isolation == "sandbox" and self._shelter is None:
            raise _Exposed
        if not job.samples:
            return description, {}
        cpu_s = description.traits.cpu_s or job.limits.cpu_s
        wall_s = description.traits.wall_s or 30 + 20 * cpu_s
        return description, self._message(wall_s * len(job.samples), started=True)

    def _message(self, wall_s: float, *, started: bool) -> dict[str, Any]:
        try:
            deadline = time.monotonic() + wall_s
            body = frames.read(self._out, deadline=deadline, writer=self._pidfd)
        except frames.OutOfTime as error:
            self.kill()
            what = "checking" if started else "importing"
            raise _Overslept(f"{what} took more than {wall_s:.0f} s of wall time") from error
        if body is None:
            raise self._death(started=started)
        return frames.from_json(body)

    def _death(self, *, started: bool) -> _WorkerDied:
        return _WorkerDied(self.kill(), started=started)

    def kill(self) -> int:
        """End the process group; the exit code, negative for the signal that ended the worker.

        The worker is not reaped before the kill, so its group id cannot have been reused.
        """
        if self._process.returncode is not None:
            return self._code()
        os.killpg(self._process.pid, signal.SIGKILL)
        os.close(self._pidfd)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait()
        if self._shelter is not None:
            self._shelter.close()
        return self._code()

    def _code(self) -> int:
        """The exit code; bubblewrap passes on a signal as 128 and its number."""
        code = self._process.returncode
        wrapped = self._shelter is not None and self._shelter.way == "bubblewrap"
        return 128 - code if wrapped and code > 128 else code


_Place = tuple[str, ...] | None
"""Folders that a sandboxed worker sees; None for a worker outside of any sandbox."""


def _worker(place: _Place) -> _Worker:
    return _Worker(None if place is None else sheltered(place))


class Pool:
    """Scores samples in `workers` processes; a context manager, usable from any thread.

    Args:
        workers: number of processes, each taking one core while it checks.
        cpu_s: CPU seconds per sample, for functions that declare none.
        memory_mb: MiB of memory per check on top of the imports, for functions that declare none.
    """

    def __init__(self, workers: int, *, cpu_s: float = 5.0, memory_mb: int = 1024) -> None:
        if workers < 1:
            raise ValueError(f"a pool needs at least one worker, not {workers}")
        self._limits = Limits(cpu_s=cpu_s, memory_mb=memory_mb)
        self._queue: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._described: dict[tuple[str, Path | None], Description] = {}
        self._inline: dict[tuple[str, Path | None], RewardFunction] = {}
        self._crashes: Counter[bytes] = Counter()
        self._verdicts: OrderedDict[bytes, Reward] = OrderedDict()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._serve, name=f"rewards-{index}", daemon=True)
            for index in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._cancel()
        self.close()

    def _cancel(self) -> None:
        """Give up what no worker has begun."""
        with contextlib.suppress(queue.Empty):
            while True:
                task = self._queue.get_nowait()
                if task is not None:
                    task.future.cancel()

    def close(self) -> None:
        """Finish what was submitted, then end the workers."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def submit(
        self,
        ref: str,
        sample: Sample,
        *,
        args: Mapping[str, Any] | None = None,
        base: Path | None = None,
    ) -> Future[Reward]:
        """Have one sample scored; the future never raises for what the sample holds.

        Raises:
            RewardNotFound: for a built-in that does not exist. Other references are resolved in
                a worker, and one that fails there gives every sample an ``infra_error``.
            RuntimeError: when the pool is closed.
        """
        if ref == BY_ROW:
            try:
                ref, args = route(sample, args or {})
            except NoRoute as error:
                return _done(infra_error(str(error), ref=ref, sample=sample))
        where = (ref, base)
        if ref.startswith("builtin:") and where not in self._described:
            self._note(where, resolve(ref, base))
        known = self._described.get(where)
        if known is not None and known.traits.isolation == "inline":
            return _done(self._here(where, sample, args or {}))
        job = self._job(ref, (sample,), args=args, base=base)
        task = _Task(job, _key(job), Future())
        cached = self._verdicts.get(task.key)
        if cached is not None:
            return _done(cached)
        self._put(task)
        return task.future

    def describe(self, ref: str, *, base: Path | None = None) -> Description:
        """Import `ref` in a worker and say what it declares.

        Raises:
            ValueError: when it cannot be imported, with the reason.
        """
        task = _Task(self._job(ref, (), args=None, base=base), b"", Future())
        self._put(task)
        return task.future.result()

    def _put(self, task: _Task) -> None:
        with self._lock:
            if self._closed:
                raise RuntimeError("the reward pool is closed")
            self._queue.put(task)

    def _job(
        self,
        ref: str,
        samples: Sequence[Sample],
        *,
        args: Mapping[str, Any] | None,
        base: Path | None,
    ) -> Job:
        plain = tuple(replace(sample, columns=dict(sample.columns)) for sample in samples)
        return Job(ref=ref, base=base, args=dict(args or {}), samples=plain, limits=self._limits)

    def _note(self, where: tuple[str, Path | None], function: RewardFunction) -> None:
        self._described[where] = Description(form=function.form, traits=function.traits)
        self._inline[where] = function

    def _here(
        self, where: tuple[str, Path | None], sample: Sample, args: Mapping[str, Any]
    ) -> Reward:
        """Score in the caller, for functions that declare themselves ``inline``."""
        if where not in self._inline:
            self._inline[where] = resolve(*where)
        start_wall_s, start_cpu_s = time.monotonic(), time.thread_time()
        (reward,) = self._inline[where]([sample], **args)
        cost = Cost(cpu_s=time.thread_time() - start_cpu_s, wall_s=time.monotonic() - start_wall_s)
        return replace(reward, cost=cost)

    def _serve(self) -> None:
        """One thread's life: take a task, have its worker do it, replace the worker if it died."""
        workers: dict[_Place, _Worker] = {}
        try:
            while (task := self._queue.get()) is not None:
                if not task.future.set_running_or_notify_cancel():
                    continue
                try:
                    while not self._run(task, workers):
                        continue
                except BaseException as error:  # shown to whoever waits for the future
                    task.future.set_exception(error)
        finally:
            for worker in workers.values():
                worker.kill()

    def _place(self, job: Job) -> _Place:
        """The folders that a sandboxed worker must see for this job; None for any other worker."""
        known = self._described.get((job.ref, job.base))
        if known is None or known.traits.isolation != "sandbox":
            return None
        where = job.ref.rpartition(":")[0]
        base = (job.base or Path.cwd()).resolve()
        in_file = where.endswith(".py") or "/" in where
        folders = [base, (base / Path(where).expanduser()).resolve().parent] if in_file else [base]
        return tuple(dict.fromkeys(map(str, folders)))

    def _run(self, task: _Task, workers: dict[_Place, _Worker]) -> bool:
        """Settle `task`; False when it is to be tried again in another kind of worker."""
        place = self._place(task.job)
        try:
            worker = workers.pop(place, None) or _worker(place)
        except NoIsolation as error:
            _settle_refused(task, str(error))
            return True
        try:
            kept = self._settled(task, worker, place)
        except _Exposed:
            assert worker.description is not None
            self._described[task.job.ref, task.job.base] = worker.description
            workers[place] = worker
            return False
        if kept is not None:
            workers[place] = kept
        return True

    def _settled(self, task: _Task, worker: _Worker | None, place: _Place) -> _Worker | None:
        """Settle `task`; returns the worker to go on with."""
        deaths: Counter[str] = Counter()
        while True:
            if self._crashes[task.key] >= MAX_CRASHES and task.job.samples:
                fault = f"quarantined: it crashed {MAX_CRASHES} workers"
                task.future.set_result(_fault(task.job, fault))
                return worker
            worker = worker or _worker(place)
            try:
                description, message = worker.ask(task.job)
            except _Refused as refusal:
                _settle_refused(task, f"cannot be imported: {refusal}")
                return worker
            except (_Overslept, frames.BrokenFrame) as error:
                worker.kill()
                task.future.set_result(_fault(task.job, str(error)))
                return None
            except _WorkerDied as death:
                description, worker = worker.description, None
                kind = _kind(death)
                if kind == TIMEOUT and description is not None:
                    task.future.set_result(self._timeout(description.traits))
                    return None
                deaths[kind] += 1
                if kind == "crash":
                    self._crashes[task.key] += 1
                if deaths[kind] >= MAX_DEATHS[kind]:
                    _settle_dead(task, str(death))
                    return None
                continue
            self._described[task.job.ref, task.job.base] = description
            if not task.job.samples:
                task.future.set_result(description)
                return worker
            reward = _reward(task.job, message)
            self._remember(task.key, reward, description)
            task.future.set_result(reward)
            if message.get("grown_mb", 0) > RECYCLE_MB:
                worker.kill()
                return None
            return worker

    def _timeout(self, traits: Traits) -> Reward:
        cpu_s = traits.cpu_s or self._limits.cpu_s
        return Reward(
            value=traits.timeout_value,
            verdict=TIMEOUT,
            detail={"rule": f"the check took more than {cpu_s:g} s of CPU"},
            cost=Cost(cpu_s=cpu_s),
        )

    def _remember(self, key: bytes, reward: Reward, description: Description) -> None:
        if not description.traits.deterministic or reward.verdict == INFRA_ERROR:
            return
        with self._lock:
            self._verdicts[key] = reward
            if len(self._verdicts) > CACHED_VERDICTS:
                self._verdicts.popitem(last=False)


def _done(reward: Reward) -> Future[Reward]:
    future: Future[Reward] = Future()
    future.set_result(reward)
    return future


def _key(job: Job) -> bytes:
    """Names a check by its content: the sample's id and step do not matter."""
    samples = [replace(sample, id="", step=None) for sample in job.samples]
    content = pickle.dumps((job.ref, job.base, sorted(job.args.items(), key=str), samples))
    return hashlib.blake2b(content, digest_size=16).digest()


def _kind(death: _WorkerDied) -> str:
    if death.started and death.code == -signal.SIGPROF:
        return TIMEOUT
    if death.code == -signal.SIGKILL:
        return "killed" if death.started else "killed early"
    return "crash" if death.started else "early"


def _fault(job: Job, message: str) -> Reward:
    return infra_error(message, ref=job.ref, sample=job.samples[0])


def _settle_refused(task: _Task, message: str) -> None:
    if task.job.samples:
        task.future.set_result(_fault(task.job, message))
    else:
        task.future.set_exception(ValueError(f"reward {task.job.ref}: {message}"))


def _settle_dead(task: _Task, message: str) -> None:
    if task.job.samples:
        task.future.set_result(_fault(task.job, message))
    else:
        task.future.set_exception(ValueError(f"reward {task.job.ref}: {message}"))


def _description(message: Mapping[str, Any]) -> Description:
    try:
        names = Traits.__dataclass_fields__
        given = {name: message[name] for name in names}
        traits = Traits(**{**given, "verdicts": tuple(given["verdicts"])})
        return Description(form=str(message["form"]), traits=traits)
    except (KeyError, TypeError) as error:
        raise frames.BrokenFrame(f"a worker's description lacks {error}") from error


def _reward(job: Job, message: Mapping[str, Any]) -> Reward:
    """The reward in a worker's message, or an ``infra_error`` when it holds none."""
    try:
        (plain,) = message["rewards"]
        return Reward(
            value=None if plain["value"] is None else _number(plain["value"]),
            verdict=_text(plain["verdict"]),
            metrics={_text(k): _number(v) for k, v in plain["metrics"].items()},
            detail=dict(plain["detail"]),
            cost=Cost(**{name: _number(message[name]) for name in ("cpu_s", "wall_s", "peak_mb")}),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return _fault(job, f"the worker's answer is no reward: {error}")


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no number")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value
