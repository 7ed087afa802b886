"""The driver's side: start or join Ray, place the processes, wait for them, name the dead."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

import psutil
import ray
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from pipeline.cluster.actors import (
    EngineActor,
    ScorerActor,
    ServiceActor,
    ServiceClient,
    TrainerActor,
)
from pipeline.cluster.beats import Pulse, oom_kills
from pipeline.cluster.clean_up import clean_up, ending, leave_behind
from pipeline.cluster.deaths import death_in, eviction, failure_of, innermost, ray_failure
from pipeline.cluster.places import Place, places, rank_environment, thread_environment
from pipeline.cluster.ray_session import (
    ComponentDied,
    ComponentFailed,
    head_of,
    join_ray,
    ray_processes,
    reserve,
)
from pipeline.cluster.ray_watch import RayWatch
from pipeline.cluster.setups import GrpoSetup, ServiceSetup
from pipeline.errors import StepwellError, Stopped
from pipeline.generate.client import RolloutClient
from pipeline.generate.engine import EngineSettings
from pipeline.generate.groups import Group
from pipeline.generate.packed_weights import PackedWeights
from pipeline.generate.service import Depths, Sampling
from pipeline.plan.engine_choice import channel_of
from pipeline.plan.placement import shares_gpus
from pipeline.recipe.hardware import Hardware
from pipeline.records import Prompt

LOG_LINES = 15
UNUSED_VERSION = -2  # of weights that no rollout is asked of

P = ParamSpec("P")
T = TypeVar("T")


class Cluster:
    """Everything of a run that runs elsewhere than in its own process."""

    def __init__(
        self,
        hardware: Hardware,
        *,
        device: str,
        logs: Path,
        scorer: bool = False,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """`scorer`: whether a stage is rewarded by a reward model, which has a place of its own.

        Once `stopping` says so, what is awaited ends in Stopped; a training is told by its `poll`.
        """
        self._hardware = hardware
        self._places = places(hardware, device=device, scorer=scorer)
        self.shares_gpus = shares_gpus(hardware, device=device)
        self._stopping = stopping
        self._scorer: Any = None
        self._device = device
        self._logs = logs
        self._placement: PlacementGroup | None = None
        self._engines: list[Any] = []
        self._has_served = False  # whether engines hold anything
        self._trainers: list[Any] = []
        self._service: Any = None
        self._names: dict[Any, str] = {}
        self._ray_processes: list[tuple[str, psutil.Process]] = []
        self._ray_watch: RayWatch | None = None
        self._pulse = Pulse(logs)
        self._oom_kills = oom_kills()

    def __enter__(self) -> Self:
        try:
            self.start()
        except Exception as error:
            self.stop()
            if (other := self._ending(error)) is not error:
                raise other from error
            raise
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start or join Ray, reserve what the recipe asks for, and warm the processes up.

        Raises ComponentFailed where there is no Ray to join, or less than the recipe asks for.
        """
        bundles = self._places.bundles
        join_ray(self._hardware.ray_address, bundles)
        address = self._hardware.ray_address
        self._ray_processes = ray_processes(address)
        self._ray_watch = RayWatch(self._ray_processes, head=head_of(address))
        self._check_stop()
        growing = self._hardware.ray_address is not None
        self._placement = reserve(bundles, growing=growing, poll=self._check_stop)
        self._service = self._actor(ServiceActor, "rollouts", self._places.service, concurrency=16)
        self._service.warm.remote()
        self._start_trainers()
        for index in range(self._hardware.engines):
            self._start_engine(index)

    def stop(self) -> None:
        """End every process of the run; those that do not end in time are killed. Their places go
        with them: a cluster that runs on frees what a driver that left had reserved."""
        dead = self._dead_ray()
        if self._ray_watch is not None:
            self._ray_watch.end()
        if dead is not None:
            leave_behind()
        else:
            clean_up(ray.shutdown, hurried=self._stopping())

    def serve(
        self, setup: ServiceSetup, settings: EngineSettings, *, version: int = 0
    ) -> "Serving":
        """Have the engines hold `setup.model` and the service score as `setup` says."""
        self._has_served = True
        for index in range(len(self._engines)):
            loaded = self._engines[index].load.remote(setup.model, settings, version=version)
            if not self.wait(loaded):
                ray.kill(self._engines[index])
                self._start_engine(index)
                self.wait(self._engines[index].load.remote(setup.model, settings, version=version))
        self.wait(
            self._service.configure.remote(
                setup, self._engines, max_model_tokens=settings.max_model_tokens
            )
        )
        return Serving(self, self._service)

    def prepare(self, model: Path, settings: EngineSettings) -> None:
        """Have the engines load a model meanwhile; returns at once.

        `serve` waits for it, and for weights alone where its model has the same shape. What goes
        wrong here goes wrong there again, and is raised there.
        """
        for engine in self._engines:
            engine.load.remote(model, settings, version=UNUSED_VERSION)

    def train(
        self, training: Callable[[], dict[str, Any]], *, poll: Callable[[], None] = lambda: None
    ) -> dict[str, Any]:
        """Run a training on every rank; rank 0's result. Raises ComponentFailed."""
        self._let_engines_sleep()
        if len(self._trainers) > 1:  # a process group lives as long as its processes
            for trainer in self._trainers:
                ray.kill(trainer)
            self._start_trainers()
        host, port = self.wait(self._trainers[0].endpoint.remote())
        ranks = len(self._trainers)
        running = [
            trainer.train.remote(training, rank_environment(rank, ranks, host, port))
            for rank, trainer in enumerate(self._trainers)
        ]
        return self.wait_all(running, poll=poll)[0]

    def train_on_rollouts(
        self,
        training: Callable[[RolloutClient], dict[str, Any]],
        *,
        poll: Callable[[], None] = lambda: None,
    ) -> dict[str, Any]:
        """The same with a client of the service, which a `Serving` has opened."""
        return self.train(partial(training, self._rollout_client()), poll=poll)

    def _rollout_client(self) -> ServiceClient:
        return ServiceClient(
            self._service,
            self._engines,
            channel=channel_of(self._hardware, device=self._device),
            gpus_per_engine=self._hardware.gpus_per_engine,
        )

    def _let_engines_sleep(self) -> None:
        """Leave the GPUs to the trainers, where they share them; engines wake when used."""
        if self.shares_gpus and self._has_served:
            self.wait_all([engine.sleep.remote() for engine in self._engines])

    def call(self, function: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
        """Call a function of a light module in a trainer process, where the heavy ones load."""
        self._let_engines_sleep()
        return self.wait(self._trainers[0].call.remote(function, arguments, keywords))

    def scorer(self, model: Path) -> Any:
        """The actor that scores with a reward model, started when it is first needed."""
        hw = self._hardware
        if self._scorer is None:
            assert self._places.scorer is not None
            self._scorer = self._actor(ScorerActor, "scorer", self._places.scorer)
        load = self._scorer.load.remote(model, device=self._device, threads=hw.engine_threads)
        self.wait(load)
        return self._scorer

    def wait(self, reference: Any) -> Any:
        """The reference's value. Raises ComponentFailed, or Stopped when a stop is asked for."""
        return self.wait_all([reference])[0]

    def wait_all(
        self, references: Sequence[Any], *, poll: Callable[[], None] | None = None
    ) -> list[Any]:
        """Values of all references; the first that fails ends the wait.

        `poll` is called while they are awaited, and then a wish to stop is its own business.
        """
        poll = poll or self._check_stop
        pending = list(references)
        while pending:
            done, pending = self._done(pending)
            for reference in done:
                self._get(reference)
            poll()
        return [self._get(reference) for reference in references]

    def _check_stop(self) -> None:
        if self._stopping():
            raise Stopped("stopped; the same command goes on")

    def _done(self, pending: list[Any]) -> tuple[list[Any], list[Any]]:
        """(what is there, what is not) of the references, after a moment."""
        if (dead := self._dead_ray()) is not None:
            raise self._ending(ComponentFailed(f"{dead}: memory may have run out; see `dmesg`"))
        if (sentence := self._pulse.silent(self._names.values())) is not None:
            raise self._ending(ComponentDied(sentence))
        try:
            return ray.wait(pending, timeout=0.2)
        except RayError as error:
            raise self._ending(ray_failure(error)) from error

    def _dead_ray(self) -> str | None:
        """What of Ray's own is gone, or stopped for good, in words."""
        if self._ray_watch is not None and (dead := self._ray_watch.dead()) is not None:
            return dead
        stopped = [n for n, process in self._ray_processes if self._pulse.is_stopped(n, process)]
        return f"Ray's {' and '.join(stopped)} was stopped (SIGSTOP)" if stopped else None

    def _get(self, reference: Any) -> Any:
        try:
            return ray.get(reference)
        except RayError as error:
            raise self._ending(self._failure(error)) from error

    def _failure(self, error: RayError) -> StepwellError:
        """A death, also where a process raised because another one died; else what it raised."""
        cause = innermost(error)
        if isinstance(cause, RayActorError):
            return self._death(cause)
        if not isinstance(cause, StepwellError):
            working = [self._service, *self._trainers, *self._engines]
            answers = {
                self._names[actor._actor_id.hex()]: actor.ready.remote().future()
                for actor in working
            }
            death = death_in(answers, beat_s=self._pulse.beat_s, stopping=self._stopping)
            if death is not None:
                return self._death(death)
        return failure_of(error) if isinstance(error, RayTaskError) else ray_failure(error)

    def _ending(self, error: Exception) -> Exception:
        return ending(error, stopping=self._stopping)

    def _death(self, error: RayActorError) -> ComponentFailed:
        name = self._names.get(error.actor_id, "a process")
        log = self._logs / f"{name}.log"
        tail = log.read_text(errors="replace").splitlines()[-LOG_LINES:] if log.is_file() else []
        first, *more = str(error).strip().splitlines() or [type(error).__name__]
        cause = f" {more[-1].strip()}" if more else ""  # of an error while it started
        memory = " (memory ran out, and the kernel ended it)" if self._ran_out_of_memory() else ""
        kind = ComponentDied if self._pulse.has_started(name) else ComponentFailed
        at = self._pulse.host(name) if self._hardware.ray_address is not None else None
        where = f" on {at}" if at else ""
        if (full := eviction(error)) is not None:
            return kind("\n".join([f"{name}{where} died: {full}; log: {log}", *tail]))
        return kind("\n".join([f"{name}{where} died{memory}: {first}{cause}; log: {log}", *tail]))

    def _ran_out_of_memory(self) -> bool:
        before, self._oom_kills = self._oom_kills, oom_kills()
        return self._oom_kills > before

    def _start_trainers(self) -> None:
        self._trainers = [
            self._actor(TrainerActor, f"trainer-{i}", place)
            for i, place in enumerate(self._places.ranks)
        ]
        for trainer in self._trainers:
            trainer.warm.remote()

    def _start_engine(self, index: int) -> None:
        actor = self._actor(EngineActor, f"engine-{index}", self._places.engines[index])
        actor.warm.remote(self._hardware.engine)
        self._engines[index : index + 1] = [actor]

    def _actor(self, kind: Any, name: str, place: Place, *, concurrency: int = 1) -> Any:
        assert self._placement is not None
        actor = kind.options(
            num_cpus=place.cpus,
            num_gpus=place.gpus,
            max_concurrency=concurrency,
            scheduling_strategy=PlacementGroupSchedulingStrategy(
                placement_group=self._placement,
                placement_group_bundle_index=place.bundle,
                placement_group_capture_child_tasks=True,
            ),
            runtime_env={"env_vars": thread_environment(place.cpus, self._device)},
        ).remote(self._logs / f"{name}.log")
        self._names[actor._actor_id.hex()] = name
        return actor


class Serving:
    """The rollout service, configured for one stage, as the driver sees it."""

    def __init__(self, cluster: Cluster, service: Any) -> None:
        self._cluster = cluster
        self._service = service

    def sample(
        self,
        prompts: Sequence[Prompt],
        *,
        source: str,
        sampling: Sampling,
        seed: int,
        depths: Depths | None = None,
    ) -> list[Group]:
        """Scored groups of the prompts, in their order; `depths` as in `RolloutService.sample`."""
        return self._cluster.wait(
            self._service.sample.remote(
                list(prompts), source=source, sampling=sampling, seed=seed, depths=depths
            )
        )

    def load_weights(self, packed: PackedWeights) -> None:
        """Have every engine take weights that `pipeline.generate.weights.pack` made; those that
        are not named stay."""
        reference = ray.put(packed)
        self._cluster.wait(self._service.push_weights.remote([reference], version=0))

    def open_grpo(self, setup: GrpoSetup) -> None:
        """Serve the steps of a GRPO stage."""
        preference = setup.preference
        scorer = None if preference is None else self._cluster.scorer(preference.model)
        self._cluster.wait(
            self._service.open_grpo.remote(setup, scorer, shared_gpus=self._cluster.shares_gpus)
        )
