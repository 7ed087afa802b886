"""Worker processes that can be killed, behind futures.

Each of the pool's threads owns one worker process (:mod:`rewards.worker_handle`), gives it one
check at a time and replaces it when it dies. A check's budget is CPU time from the start of its
work, so waiting in the queue and load on the machine change no verdict; the wall limit is generous
and catches only checks that sleep.
"""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import queue
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
from rewards.registry import RewardNotFound, resolve
from rewards.routes import BY_ROW, NoRoute, route
from rewards.sandbox.shelter import sheltered
from rewards.sandbox.ways import NoIsolation
from rewards.worker import Job, Limits
from rewards.worker_handle import (
    Death,
    Description,
    ImportFailure,
    NeedsShelter,
    WallLimit,
    WorkerDeath,
    WorkerHandle,
    reward_in,
)

MAX_CRASHES = 2
"""Workers that one sample may crash before it is given up and quarantined."""
MAX_DEATHS = {
    Death.CRASH: MAX_CRASHES,
    Death.KILL: 20,
    Death.EARLY_CRASH: 5,
    Death.EARLY_KILL: 100,
    Death.OUT_OF_CPU: 1,
}
"""Workers that one check may use up, by how they ended."""
RECYCLE_MB = 256
"""A worker that grew by more than this since its imports is replaced."""
CACHED_VERDICTS = 20_000

_Name = tuple[str, Path | None]
"""A reference with the folder that it is relative to."""
_Place = tuple[str, ...] | None
"""Folders that a sandboxed worker sees; None for a worker outside of any sandbox."""


@dataclass(frozen=True)
class _Task:
    job: Job
    key: bytes
    future: Future[Any]

    def fail(self, fault: str) -> None:
        """Settle it with a fault: a masked reward, or for a mere description an error."""
        if self.job.samples:
            sample = self.job.samples[0]
            self.future.set_result(infra_error(fault, ref=self.job.ref, sample=sample))
        else:
            self.future.set_exception(RewardNotFound(f"reward {self.job.ref}: {fault}"))


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
        self._descriptions: dict[_Name, Description] = {}
        self._inline: dict[_Name, RewardFunction] = {}
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
                return _settled(infra_error(str(error), ref=ref, sample=sample))
        name = (ref, base)
        if ref.startswith("builtin:") and name not in self._descriptions:
            function = self._inline[name] = resolve(ref, base)
            self._descriptions[name] = Description(form=function.form, traits=function.traits)
        description = self._descriptions.get(name)
        if description is not None and description.traits.isolation == "inline":
            return _settled(self._score_here(name, sample, args or {}))
        job = self._job(ref, (sample,), args=args, base=base)
        task = _Task(job, _key(job), Future())
        reward = self._verdicts.get(task.key)
        if reward is not None:
            return _settled(reward)
        self._put(task)
        return task.future

    def describe(self, ref: str, *, base: Path | None = None) -> Description:
        """Import `ref` in a worker and say what it declares.

        Raises:
            RewardNotFound: when it cannot be imported, with the reason.
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

    def _score_here(self, name: _Name, sample: Sample, args: Mapping[str, Any]) -> Reward:
        """Score in the caller, for functions that declare themselves ``inline``."""
        if name not in self._inline:
            self._inline[name] = resolve(*name)
        start_wall_s, start_cpu_s = time.monotonic(), time.thread_time()
        (reward,) = self._inline[name]([sample], **args)
        cost = Cost(cpu_s=time.thread_time() - start_cpu_s, wall_s=time.monotonic() - start_wall_s)
        return replace(reward, cost=cost)

    def _serve(self) -> None:
        """One thread's life: take a task, have its worker do it, replace the worker if it died."""
        workers: dict[_Place, WorkerHandle] = {}
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
                worker.close()

    def _place(self, job: Job) -> _Place:
        """The folders that a sandboxed worker must see for this job; None for any other worker."""
        description = self._descriptions.get((job.ref, job.base))
        if description is None or description.traits.isolation != "sandbox":
            return None
        where = job.ref.rpartition(":")[0]
        base = (job.base or Path.cwd()).resolve()
        in_file = where.endswith(".py") or "/" in where
        folders = [base, (base / Path(where).expanduser()).resolve().parent] if in_file else [base]
        return tuple(dict.fromkeys(map(str, folders)))

    def _run(self, task: _Task, workers: dict[_Place, WorkerHandle]) -> bool:
        """Settle `task`; False when it is to be tried again in another kind of worker."""
        place = self._place(task.job)
        try:
            worker = workers.pop(place, None) or _new_worker(place)
        except NoIsolation as error:
            task.fail(str(error))
            return True
        try:
            survivor = self._settle(task, worker, place)
        except NeedsShelter:
            assert worker.description is not None
            self._descriptions[task.job.ref, task.job.base] = worker.description
            workers[place] = worker
            return False
        if survivor is not None:
            workers[place] = survivor
        return True

    def _settle(self, task: _Task, worker: WorkerHandle, place: _Place) -> WorkerHandle | None:
        """Settle `task`, in new workers as long as its own die; the worker to go on with."""
        deaths: Counter[Death] = Counter()
        while True:
            if self._crashes[task.key] >= MAX_CRASHES and task.job.samples:
                task.fail(f"quarantined: it crashed {MAX_CRASHES} workers")
                return worker
            try:
                description, message = worker.ask(task.job)
            except ImportFailure as failure:
                task.fail(f"cannot be imported: {failure}")
                return worker
            except (WallLimit, frames.BrokenFrame) as error:
                worker.kill()
                task.fail(str(error))
                return None
            except WorkerDeath as death:
                if death.kind is Death.OUT_OF_CPU and worker.description is not None:
                    task.future.set_result(self._timeout(worker.description.traits))
                    return None
                deaths[death.kind] += 1
                if death.kind is Death.CRASH:
                    self._crashes[task.key] += 1
                if deaths[death.kind] >= MAX_DEATHS[death.kind]:
                    task.fail(str(death))
                    return None
                worker = _new_worker(place)
                continue
            return self._accept(task, worker, description, message)

    def _accept(
        self, task: _Task, worker: WorkerHandle, description: Description, message: dict[str, Any]
    ) -> WorkerHandle | None:
        """Settle `task` by a worker's answer; None for the worker when it grew too large."""
        self._descriptions[task.job.ref, task.job.base] = description
        if not task.job.samples:
            task.future.set_result(description)
            return worker
        reward = reward_in(message, task.job)
        self._remember(task.key, reward, description)
        task.future.set_result(reward)
        if message.get("grown_mb", 0) > RECYCLE_MB:
            worker.close()
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


def _new_worker(place: _Place) -> WorkerHandle:
    return WorkerHandle(None if place is None else sheltered(place))


def _settled(reward: Reward) -> Future[Reward]:
    future: Future[Reward] = Future()
    future.set_result(reward)
    return future


def _key(job: Job) -> bytes:
    """Names a check by its content: the sample's id and step do not matter."""
    samples = [replace(sample, id="", step=None) for sample in job.samples]
    content = pickle.dumps((job.ref, job.base, sorted(job.args.items(), key=str), samples))
    return hashlib.blake2b(content, digest_size=16).digest()
