"""The only module that imports Ray: placement, actor shells, logs and deaths.

Actors are thin shells over classes that work without Ray. Engines and a single trainer process are
started once and reused by every stage that fits them.
"""

import importlib
import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from pipeline.generate.chat import load_tokenizer
from pipeline.generate.client import Slice
from pipeline.generate.engine import EngineSettings, stream_chunks
from pipeline.generate.groups import Group
from pipeline.generate.journal import Journal, StepRollouts
from pipeline.generate.rollouts import RewardUse, RolloutService, Sampling
from pipeline.generate.steps import GrpoRollouts
from pipeline.recipe import GrpoStage, Hardware
from pipeline.records import Prompt, Request, Rollout

CHUNK_S = 0.05  # how long an engine gathers finished rollouts before it hands them on
PLACEMENT_WAIT_S = 120.0
OBJECT_STORE_SHARE = 0.15  # of memory; it holds one copy of the weights on their way to engines
LOG_LINES = 15


class ComponentFailed(RuntimeError):
    """A process of the run died or raised; the message names it and quotes its log."""


@dataclass(frozen=True, kw_only=True)
class ServiceSetup:
    """What one stage needs of the rollout service. Plain data."""

    model: Path
    tokenizer: Path
    rewards: tuple[RewardUse, ...]
    system: Mapping[str, str | None]
    base: Path
    verifier_workers: int


@dataclass(frozen=True, kw_only=True)
class PreferenceSetup:
    """A reward model that joins the reward in the last fraction of the steps."""

    model: Path
    name: str
    weight: float
    last_fraction: float


@dataclass(frozen=True, kw_only=True)
class GrpoSetup:
    """What the service needs to serve one GRPO stage."""

    spec: GrpoStage
    prompts: tuple[Prompt, ...]
    journal: Path
    seed: int
    preference: PreferenceSetup | None
    watch: tuple[Prompt, ...]
    watch_reward: str


class _Shell:
    """Common to all actors: their own log file, and thread counts that the environment set."""

    def __init__(self, log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        stream = log.open("a", buffering=1)
        os.dup2(stream.fileno(), sys.stdout.fileno())
        os.dup2(stream.fileno(), sys.stderr.fileno())

    def ready(self) -> None:
        """Answer when the process is up."""


@ray.remote
class _EngineActor(_Shell):
    """A vLLM engine in a process of its own."""

    def __init__(self, log: Path) -> None:
        super().__init__(log)
        self._engine: Any = None
        self._built: tuple[str, EngineSettings] | None = None

    def warm(self) -> None:
        """Import what takes seconds, while nothing waits for it."""
        importlib.import_module("pipeline.generate.vllm_engine")
        importlib.import_module("vllm")

    def load(self, model: Path, settings: EngineSettings, *, version: int) -> bool:
        """Serve a model folder; False when this process holds one of another shape."""
        from pipeline.generate.vllm_engine import VllmEngine
        from pipeline.generate.weights import folder_weights

        shape = (_shape_of(model), settings)
        if self._built is None:
            self._engine = VllmEngine(model, settings, version=version)
            self._built = shape
        elif self._built == shape:
            self._engine.load_weights(folder_weights(model), version=version)
        else:
            return False
        return True

    def load_weights(self, packed: bytes, *, version: int) -> None:
        """Take weights that `pipeline.generate.weights.pack` made."""
        from pipeline.generate.weights import unpack

        self._engine.load_weights(unpack(packed), version=version)

    def transfer(self, method: str, keywords: Mapping[str, Any], *, version: int) -> None:
        """One call of vLLM's weight transfer, on GPUs."""
        self._engine.transfer(method, keywords, version=version)

    def generate(self, requests: Sequence[Request], *, version: int) -> Iterator[list[Rollout]]:
        """Rollouts as they end, a few at a time."""
        yield from stream_chunks(self._engine.generate(requests, version=version), every_s=CHUNK_S)


class _RemoteEngine:
    """An engine actor as an `Engine`."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def generate(self, requests: Sequence[Request], *, version: int) -> Iterator[Rollout]:
        """Yield rollouts as they end."""
        generate = self._actor.generate.options(num_returns="streaming")
        for chunk in generate.remote(requests, version=version):
            yield from ray.get(chunk)

    def load_weights(self, weights: Iterable[tuple[str, Any]], *, version: int) -> None:
        """Send weights to the engine's process and wait until it holds them."""
        from pipeline.generate.weights import pack

        ray.get(self._actor.load_weights.remote(pack(dict(weights)), version=version))


@ray.remote
class _ServiceActor(_Shell):
    """The rollout service, the verifier pool and the journal's writer."""

    def __init__(self, log: Path) -> None:
        super().__init__(log)
        self._lock = threading.Lock()
        self._pool: Any = None
        self._service: RolloutService | None = None
        self._grpo: GrpoRollouts | None = None
        self._step: tuple[int, StepRollouts] | None = None
        self._engines: Sequence[Any] = ()

    def configure(
        self, setup: ServiceSetup, engines: Sequence[Any], *, max_model_tokens: int
    ) -> None:
        """Serve one stage."""
        from rewards.pool import Pool

        if self._pool is None:
            self._pool = Pool(setup.verifier_workers)
        self._engines = engines
        self._grpo = None
        self._step = None
        self._service = RolloutService(
            [_RemoteEngine(engine) for engine in engines],
            load_tokenizer(setup.tokenizer),
            self._pool,
            rewards=setup.rewards,
            system=setup.system,
            base=setup.base,
            max_model_tokens=max_model_tokens,
        )

    def sample(
        self,
        prompts: Sequence[Prompt],
        *,
        source: str,
        sampling: Sampling,
        seed: int,
    ) -> list[Group]:
        """Groups at the weights the engines were loaded with."""
        assert self._service is not None
        return self._service.sample(
            prompts, source=source, sampling=sampling, seed=seed, step=None, version=0
        )

    def open_grpo(self, setup: GrpoSetup) -> None:
        """Serve the steps of a GRPO stage."""
        assert self._service is not None
        self._grpo = GrpoRollouts(
            self._service,
            Journal(setup.journal),
            setup.spec,
            setup.prompts,
            seed=setup.seed,
            preference=_preference(setup.preference),
            watch=setup.watch,
            watch_reward=setup.watch_reward,
        )

    def push_weights(self, packed: Sequence[Any], *, version: int) -> None:
        """Hand new weights to every engine. `packed` holds one object reference."""
        ray.get([e.load_weights.remote(packed[0], version=version) for e in self._engines])

    def transfer(
        self, method: str, keywords: Mapping[str, Any], version: int, *, gpus_per_engine: int
    ) -> None:
        """One call of vLLM's weight transfer on every engine at once."""
        from pipeline.generate.transfer import for_engine

        ray.get(
            [
                engine.transfer.remote(
                    method,
                    for_engine(method, keywords, engine=i, gpus_per_engine=gpus_per_engine),
                    version=version,
                )
                for i, engine in enumerate(self._engines)
            ]
        )

    def slice(self, step: int, *, rank: int, ranks: int) -> Slice:
        """One rank's share of a step; the first rank to ask has it generated."""
        assert self._grpo is not None
        with self._lock:
            if self._step is None or self._step[0] != step:
                self._step = (step, self._grpo.step(step))
            rollouts = self._step[1]
        return slice_of(rollouts, rank=rank, ranks=ranks)


def slice_of(rollouts: StepRollouts, *, rank: int, ranks: int) -> Slice:
    """The rank's part of a step's samples, in group order."""
    samples = [s for group in rollouts.groups for s in group.samples]
    share = len(samples) // ranks
    mine = samples[rank * share : (rank + 1) * share]
    return Slice(
        prompt_tokens=[s.rollout.prompt_tokens for s in mine],
        tokens=[s.rollout.tokens for s in mine],
        logprobs=[s.rollout.logprobs for s in mine],
        rewards=[s.reward for s in mine],
        metrics=rollouts.metrics,
    )


def _preference(setup: PreferenceSetup | None) -> tuple[Any, str, float, float] | None:
    if setup is None:
        return None
    from pipeline.generate.reward_scorer import RewardScorer  # loads torch

    scorer = RewardScorer(setup.model, device="cpu", threads=1)
    return scorer, setup.name, setup.weight, setup.last_fraction


class _ServiceClient:
    """The service actor as a `RolloutClient`, in a trainer process.

    Weights go through the object store on a CPU, and by NCCL on GPUs.
    """

    def __init__(self, service: Any, *, gpus_per_engine: int, engines: int) -> None:
        self._service = service
        self._gpus_per_engine = gpus_per_engine  # 0 on a CPU
        self._engines = engines
        self._sender: Any = None

    def push_weights(self, weights: Mapping[str, Any], *, version: int) -> None:
        """Have every engine take the weights."""
        if self._gpus_per_engine:
            self._nccl().push(weights, version=version)
            return
        from pipeline.generate.weights import pack

        reference = ray.put(pack(weights))
        ray.get(self._service.push_weights.remote([reference], version=version))

    def _nccl(self) -> Any:
        if self._sender is None:
            from pipeline.generate.transfer import NcclSender

            def call(method: str, keywords: Mapping[str, Any], version: int) -> None:
                ray.get(
                    self._service.transfer.remote(
                        method, keywords, version, gpus_per_engine=self._gpus_per_engine
                    )
                )

            address, port = _free_endpoint()
            ranks = self._engines * self._gpus_per_engine
            self._sender = NcclSender(call, address=address, port=port, engine_ranks=ranks)
        return self._sender

    def slice(self, step: int, *, rank: int, ranks: int) -> Slice:
        """This rank's share of a step."""
        return ray.get(self._service.slice.remote(step, rank=rank, ranks=ranks))


@ray.remote
class _TrainerActor(_Shell):
    """One trainer rank."""

    def warm(self) -> None:
        """Import what takes seconds, while nothing waits for it."""
        importlib.import_module("trl.trainer.sft_trainer")
        importlib.import_module("trl.trainer.grpo_trainer")

    def endpoint(self) -> tuple[str, int]:
        """An address for the ranks to meet at."""
        return _free_endpoint()

    def call(self, target: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """Call `module:function` in this process."""
        return _function(target)(*arguments, **keywords)

    def train(
        self,
        target: str,
        arguments: Sequence[Any],
        environment: Mapping[str, str],
        rollouts: "_ServiceClient | None",
    ) -> Mapping[str, Any]:
        """Call `module:function` with the arguments, as one rank of a process group."""
        os.environ.update(environment)
        extra = {} if rollouts is None else {"rollouts": rollouts}
        return _function(target)(*arguments, **extra)


class Cluster:
    """Everything of a run that runs elsewhere than in its own process."""

    def __init__(self, hardware: Hardware, *, device: str, logs: Path) -> None:
        self._hardware = hardware
        self._device = device
        self._logs = logs
        self._placement: PlacementGroup | None = None
        self._engines: list[Any] = []
        self._trainers: list[Any] = []
        self._service: Any = None
        self._names: dict[Any, str] = {}

    def start(self) -> None:
        """Start or join Ray, reserve what the recipe asks for, and warm the processes up.

        Raises ComponentFailed when the cluster has less than the recipe asks for.
        """
        bundles = self._bundles()
        self._init_ray(bundles)
        self._placement = placement_group(bundles, strategy="PACK")
        if not self._placement.wait(PLACEMENT_WAIT_S):
            raise ComponentFailed(
                f"Ray could not place {bundles} within {PLACEMENT_WAIT_S:.0f} s; the cluster has "
                f"{ray.cluster_resources()}; lower hardware.ranks or hardware.engines"
            )
        self._service = self._actor(_ServiceActor, "rollouts", bundle=0, threads=1, concurrency=16)
        self._start_trainers()
        for index in range(self._hardware.engines):
            self._start_engine(index)

    def stop(self) -> None:
        """End every process of the run."""
        if self._placement is not None:
            remove_placement_group(self._placement)
        ray.shutdown()

    def serve(
        self, setup: ServiceSetup, settings: EngineSettings, *, version: int = 0
    ) -> "Serving":
        """Have the engines hold `setup.model` and the service score as `setup` says."""
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

    def train(
        self,
        target: str,
        arguments: Sequence[Any],
        *,
        serving: "Serving | None" = None,
        poll: Callable[[], None] = lambda: None,
    ) -> Mapping[str, Any]:
        """Run `module:function` on every rank; rank 0's result. Raises ComponentFailed."""
        if len(self._trainers) > 1:  # a process group lives as long as its processes
            for trainer in self._trainers:
                ray.kill(trainer)
            self._start_trainers()
        host, port = self.wait(self._trainers[0].endpoint.remote())
        ranks = len(self._trainers)
        rollouts = None if serving is None else self._rollout_client()
        running = [
            trainer.train.remote(
                target, arguments, _rank_environment(rank, ranks, host, port), rollouts
            )
            for rank, trainer in enumerate(self._trainers)
        ]
        return self.wait_all(running, poll=poll)[0]

    def _rollout_client(self) -> _ServiceClient:
        gpus = self._hardware.gpus_per_engine if self._device == "cuda" else 0
        engines = self._hardware.engines
        return _ServiceClient(self._service, gpus_per_engine=gpus, engines=engines)

    def call(self, target: str, *arguments: Any, **keywords: Any) -> Any:
        """Call `module:function` in a trainer process, where the heavy libraries are loaded."""
        return self.wait(self._trainers[0].call.remote(target, arguments, keywords))

    def wait(self, reference: Any, *, poll: Callable[[], None] = lambda: None) -> Any:
        """The reference's value; `poll` is called while it is awaited. Raises ComponentFailed."""
        return self.wait_all([reference], poll=poll)[0]

    def wait_all(
        self, references: Sequence[Any], *, poll: Callable[[], None] = lambda: None
    ) -> list[Any]:
        """Values of all references; the first that fails ends the wait."""
        pending = list(references)
        while pending:
            done, pending = ray.wait(pending, timeout=0.2)
            for reference in done:
                self._get(reference)
            poll()
        return [self._get(reference) for reference in references]

    def _get(self, reference: Any) -> Any:
        try:
            return ray.get(reference)
        except RayTaskError as error:
            raise ComponentFailed(_root_cause(error)) from error
        except RayActorError as error:
            raise ComponentFailed(self._death(error)) from error

    def _death(self, error: RayActorError) -> str:
        name = self._names.get(error.actor_id, "a process")
        log = self._logs / f"{name}.log"
        tail = log.read_text(errors="replace").splitlines()[-LOG_LINES:] if log.exists() else []
        return "\n".join([f"{name} died: {str(error).splitlines()[0]}; log: {log}", *tail])

    def _bundles(self) -> list[dict[str, float]]:
        hw = self._hardware
        gpu = self._device == "cuda"
        rank = _bundle(hw.threads_per_rank, gpus=1 if gpu else 0)
        engine = _bundle(hw.threads_per_engine, gpus=hw.gpus_per_engine if gpu else 0)
        return [{"CPU": 1.0}, *[dict(rank)] * hw.ranks, *[dict(engine)] * hw.engines]

    def _init_ray(self, bundles: Sequence[Mapping[str, float]]) -> None:
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 starves us on shared cores
        common: dict[str, Any] = {
            "logging_level": "ERROR",
            "log_to_driver": False,
            "runtime_env": {"env_vars": {"PYTHONSAFEPATH": "1", "OMP_WAIT_POLICY": "PASSIVE"}},
        }
        if self._hardware.ray_address:
            ray.init(address=self._hardware.ray_address, **common)
            return
        # threads are counted by us and time-share the cores: stages take turns
        cpus = sum(bundle["CPU"] for bundle in bundles)
        ray.init(
            address="local",
            num_cpus=max(int(cpus), os.cpu_count() or 1),
            include_dashboard=False,
            object_store_memory=_object_store_bytes(),
            **common,
        )

    def _start_trainers(self) -> None:
        hw = self._hardware
        self._trainers = [
            self._actor(_TrainerActor, f"trainer-{i}", bundle=1 + i, threads=hw.threads_per_rank)
            for i in range(hw.ranks)
        ]
        for trainer in self._trainers:
            trainer.warm.remote()

    def _start_engine(self, index: int) -> None:
        hw = self._hardware
        actor = self._actor(
            _EngineActor,
            f"engine-{index}",
            bundle=1 + hw.ranks + index,
            threads=hw.threads_per_engine,
        )
        actor.warm.remote()
        self._engines[index : index + 1] = [actor]

    def _actor(
        self, kind: Any, name: str, *, bundle: int, threads: int, concurrency: int = 1
    ) -> Any:
        assert self._placement is not None
        gpu = self._device == "cuda" and kind is not _ServiceActor
        gpus = self._hardware.gpus_per_engine if kind is _EngineActor else 1
        actor = kind.options(
            num_cpus=1 if kind is _ServiceActor else threads,
            num_gpus=gpus if gpu else 0,
            max_concurrency=concurrency,
            scheduling_strategy=PlacementGroupSchedulingStrategy(
                placement_group=self._placement,
                placement_group_bundle_index=bundle,
                placement_group_capture_child_tasks=True,
            ),
            runtime_env={"env_vars": _thread_environment(threads, self._device)},
        ).remote(self._logs / f"{name}.log")
        self._names[actor._actor_id.hex()] = name
        return actor


class Serving:
    """The rollout service, configured for one stage, as the driver sees it."""

    def __init__(self, cluster: Cluster, service: Any) -> None:
        self._cluster = cluster
        self._service = service

    def sample(
        self, prompts: Sequence[Prompt], *, source: str, sampling: Sampling, seed: int
    ) -> list[Group]:
        """Scored groups of the prompts, in their order."""
        return self._cluster.wait(
            self._service.sample.remote(list(prompts), source=source, sampling=sampling, seed=seed)
        )

    def open_grpo(self, setup: GrpoSetup) -> None:
        """Serve the steps of a GRPO stage."""
        self._cluster.wait(self._service.open_grpo.remote(setup))


def _bundle(cpus: int, *, gpus: int) -> dict[str, float]:
    return {"CPU": float(cpus)} | ({"GPU": float(gpus)} if gpus else {})


def _object_store_bytes() -> int:
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return int(pages * size * OBJECT_STORE_SHARE)


def _free_endpoint() -> tuple[str, int]:
    """This node's address and a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return ray.util.get_node_ip_address(), probe.getsockname()[1]


def _function(target: str) -> Callable[..., Any]:
    module, name = target.split(":")
    return getattr(importlib.import_module(module), name)


def _thread_environment(threads: int, device: str) -> dict[str, str]:
    """Every process gets its own thread count; waiting threads leave the core to others."""
    return {
        "PYTHONSAFEPATH": "1",
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "0",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    } | ({"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {})


def _rank_environment(rank: int, ranks: int, host: str, port: int) -> dict[str, str]:
    return {
        "RANK": str(rank),
        "LOCAL_RANK": "0",  # each actor sees its own device only
        "WORLD_SIZE": str(ranks),
        "MASTER_ADDR": host,
        "MASTER_PORT": str(port),
    }


def _shape_of(model: Path) -> str:
    """What must be equal for one engine to take another model's weights."""
    config = json.loads((model / "config.json").read_text())
    for key in ("_name_or_path", "transformers_version", "use_cache", "torch_dtype", "dtype"):
        config.pop(key, None)
    return json.dumps(config, sort_keys=True)


def _root_cause(error: RayTaskError) -> str:
    """The innermost exception, as its author worded it."""
    cause: BaseException = error
    while isinstance(cause, RayTaskError) and isinstance(cause.cause, BaseException):
        cause = cause.cause
    return f"{type(cause).__name__}: {cause}"
