"""The actors: thin shells over classes that work without Ray, each with a log of its own."""

import gc
import importlib
import json
import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from pipeline.artifacts import file_sha256
from pipeline.cluster.beats import start_beat
from pipeline.cluster.places import interface_of
from pipeline.cluster.setups import GrpoSetup, PreferenceSetup, ServiceSetup
from pipeline.generate.chat import load_chat
from pipeline.generate.client import Slice, Weights, slice_of
from pipeline.generate.engine import WHOLE, Engine, EngineSettings, Part, stream_chunks
from pipeline.generate.groups import Group
from pipeline.generate.journal import Journal, StepRollouts
from pipeline.generate.packed_weights import PackedWeights
from pipeline.generate.service import Depths, RolloutService, Sampling
from pipeline.generate.step_queue import StepQueue
from pipeline.generate.steps import GrpoRollouts, PreferenceModel
from pipeline.plan.engine_choice import Channel
from pipeline.records import Prompt, Request, Rollout
from pipeline.recurrent.explore import RIGHT_HEAD

if TYPE_CHECKING:
    from pipeline.generate.reward_scorer import RewardScorer
    from rewards.pool import Pool

CHUNK_S = 0.05  # how long an engine gathers finished rollouts before it hands them on


class _Shell:
    """Common to all actors: their own log file, and thread counts that the environment set."""

    def __init__(self, log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        stream = log.open("a", buffering=1)
        os.dup2(stream.fileno(), sys.stdout.fileno())
        os.dup2(stream.fileno(), sys.stderr.fileno())
        start_beat(log, scored=self._scored)

    def ready(self) -> None:
        """Answer when the process is up."""

    def _scored(self) -> int:
        """Completions that this process has scored."""
        return 0


@ray.remote
class EngineActor(_Shell):
    """An engine in a process of its own."""

    def __init__(self, log: Path) -> None:
        super().__init__(log)
        self._engine: Any = None
        self._built: tuple[str, EngineSettings] | None = None

    def warm(self, engine: str) -> None:
        """Import what takes seconds, while nothing waits for it."""
        importlib.import_module(f"pipeline.generate.{engine}_engine")
        if engine == "vllm":
            importlib.import_module("vllm")

    def load(self, model: Path, settings: EngineSettings, *, version: int) -> bool:
        """Serve a model folder; False when this process holds one of another shape."""
        from pipeline.generate.weights import folder_weights

        shape = (_shape_of(model), settings)
        if self._built is None:
            self._engine = _engine(model, settings, version=version)
            self._built = shape
        elif self._built == shape:
            weights = folder_weights(model, own_code=settings.own_code)
            self._engine.load_weights(weights, version=version)
        else:
            return False
        return True

    def load_weights(self, packed: PackedWeights, *, version: int, part: Part = WHOLE) -> None:
        """Take weights that `pipeline.generate.weights.pack` made."""
        from pipeline.generate.weights import unpack

        self._engine.load_weights(unpack(packed), version=version, part=part)

    def transfer(self, method: str, keywords: Mapping[str, Any], *, version: int) -> None:
        """One call of vLLM's weight transfer, on GPUs."""
        self._engine.transfer(method, keywords, version=version)

    def sleep(self) -> None:
        """Leave the GPU to its trainer until the engine is used again; nothing where none is."""
        if self._engine is not None:
            self._engine.sleep()

    def generate(self, requests: Sequence[Request], *, version: int) -> Iterator[list[Rollout]]:
        """Rollouts as they end, a few at a time."""
        yield from stream_chunks(self._engine.generate(requests, version=version), every_s=CHUNK_S)


def _engine(model: Path, settings: EngineSettings, *, version: int) -> Engine:
    """The engine that the settings name."""
    if settings.engine == "native":
        from pipeline.generate.native_engine import NativeEngine

        return NativeEngine(model, settings, version=version)
    from pipeline.generate.vllm_engine import VllmEngine

    return VllmEngine(model, settings, version=version)


class _RemoteEngine:
    """An engine actor as an `Engine`."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def generate(self, requests: Sequence[Request], *, version: int) -> Iterator[Rollout]:
        """Yield rollouts as they end."""
        generate = self._actor.generate.options(num_returns="streaming")
        for chunk in generate.remote(requests, version=version):
            yield from ray.get(chunk)

    def load_weights(
        self, weights: Iterable[tuple[str, Any]], *, version: int, part: Part = WHOLE
    ) -> None:
        """Send weights to the engine's process and wait until it holds them."""
        from pipeline.generate.weights import pack

        packed = pack(dict(weights))
        ray.get(self._actor.load_weights.remote(packed, version=version, part=part))


@ray.remote
class ScorerActor(_Shell):
    """A reward model in a process of its own, with the threads or the GPU of an engine."""

    def __init__(self, log: Path) -> None:
        super().__init__(log)
        self._scorer: RewardScorer | None = None

    def load(self, model: Path, *, device: str, threads: int) -> None:
        """Score with this reward model from now on."""
        from pipeline.generate.reward_scorer import RewardScorer

        self._scorer = RewardScorer(model, device=device, threads=threads)

    def score(self, prompts: list[str], completions: list[str]) -> list[float]:
        """One score per completion, of a whole step's at once."""
        assert self._scorer is not None
        return self._scorer.score(prompts, completions)


class _RemoteScorer:
    """A scorer actor as a `PreferenceModel`."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def score(self, prompts: list[str], completions: list[str]) -> list[float]:
        """Scores, once the actor has them."""
        return ray.get(self._actor.score.remote(prompts, completions))


@ray.remote
class ServiceActor(_Shell):
    """The rollout service, the verifier pool and the journal's writer."""

    def __init__(self, log: Path) -> None:
        self._pool: Any = None
        self._service: RolloutService | None = None
        self._steps: StepQueue | None = None
        self._engines: Sequence[Any] = ()
        super().__init__(log)

    def _scored(self) -> int:
        return 0 if self._service is None else self._service.scored

    def warm(self) -> None:
        """Import what takes seconds, while nothing waits for it."""
        importlib.import_module("transformers.models.auto.tokenization_auto")

    def configure(
        self, setup: ServiceSetup, engines: Sequence[Any], *, max_model_tokens: int
    ) -> None:
        """Serve one stage.

        Raises ValueError when a reward of the user's own cannot be imported.
        """
        from rewards.pool import Pool

        if self._pool is None:
            self._pool = Pool(setup.verifier_workers)
        for line in recognised(self._pool, setup):
            print(line)
        self._engines = engines
        self._steps = None
        self._service = RolloutService(
            [_RemoteEngine(engine) for engine in engines],
            load_chat(setup.model),
            self._pool,
            rewards=setup.rewards,
            preface=setup.preface,
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
        depths: Depths | None = None,
    ) -> list[Group]:
        """Groups at the weights the engines were loaded with."""
        assert self._service is not None
        return self._service.sample(
            prompts,
            source=source,
            sampling=sampling,
            seed=seed,
            step=None,
            version=0,
            depths=depths,
        )

    def open_grpo(self, setup: GrpoSetup, scorer: Any, *, shared_gpus: bool) -> None:
        """Serve the steps of a GRPO stage; `scorer` is the reward model's actor, if it has one.
        Engines on `shared_gpus` sleep between steps."""
        assert self._service is not None
        rollouts = GrpoRollouts(
            self._service,
            Journal(setup.journal),
            setup.spec,
            setup.prompts,
            seed=setup.seed,
            preference=_preference(setup.preference, scorer),
            watch=setup.watch,
            watch_reward=setup.watch_reward,
            depths=setup.depths,
        )
        self._steps = StepQueue(partial(self._step, rollouts) if shared_gpus else rollouts.step)

    def _step(self, rollouts: GrpoRollouts, step: int) -> StepRollouts:
        """A step's rollouts; then the GPUs are the trainers'."""
        made = rollouts.step(step)
        ray.get([engine.sleep.remote() for engine in self._engines])
        return made

    def push_weights(self, packed: Sequence[Any], *, version: int) -> None:
        """Hand new weights to every engine. `packed` holds one object reference."""
        ray.get([e.load_weights.remote(packed[0], version=version) for e in self._engines])

    def begin(self, step: int) -> None:
        """Have a step made meanwhile."""
        assert self._steps is not None
        self._steps.begin(step)

    def slice(self, step: int, *, rank: int, ranks: int) -> Slice:
        """One rank's share of a step; the first rank to ask has it generated."""
        assert self._steps is not None
        return slice_of(self._steps.take(step), rank=rank, ranks=ranks)


def recognised(pool: "Pool", setup: ServiceSetup) -> Iterator[str]:
    """One line for each reward of the user's own: how its signature reads, what it declares."""
    refs = dict.fromkeys(use.ref for use in setup.rewards if not use.ref.startswith("builtin:"))
    for ref in refs:
        found = pool.describe(ref, base=setup.base)
        traits = found.traits
        declared = f"version {traits.version}, {traits.isolation}"
        yield f"reward {ref}: recognised as {found.form}; {declared}"


def _preference(
    setup: PreferenceSetup | None, scorer: Any
) -> tuple[PreferenceModel, str, float, float] | None:
    if setup is None:
        return None
    return _RemoteScorer(scorer), setup.name, setup.weight, setup.last_fraction


class ServiceClient:
    """The service actor as a `RolloutClient`, in a trainer process.

    Weights go to vLLM engines on GPUs by NCCL, by CUDA IPC where they share the trainers', and
    through the object store otherwise. There two buckets are at a time, as they go straight to the
    engines: what passes on through another process is freed late.

        trainer   put 1 | put 2  | wait | put 3  | wait | ...
        engines         | load 1        | load 2        | load 3
    """

    def __init__(
        self,
        service: Any,
        engines: Sequence[Any],
        *,
        channel: Channel = "store",
        gpus_per_engine: int = 1,
    ) -> None:
        self._service = service
        self._channel: Channel = channel
        self._gpus_per_engine = gpus_per_engine
        self._engines = engines
        self._sender: Any = None

    def push_weights(self, weights: Weights, *, version: int, rank: int = 0) -> None:
        """Have every engine take the weights. Every rank calls it."""
        if self._channel == "ipc":
            from pipeline.generate.transfer import leave_room

            leave_room()
            self._transfer(rank).push(weights, version=version)
        elif rank > 0:
            for _ in weights:  # each rank has shards of them
                pass
        elif self._channel == "nccl":
            self._transfer(rank).push(weights, version=version)
        else:
            self._store(weights, version=version)

    def _store(self, weights: Weights, *, version: int) -> None:
        from pipeline.generate.weights import pack

        loading: list[Any] = []
        for number, bucket in enumerate(weights, 1):
            reference = ray.put(pack(bucket))
            ray.get(loading)
            part = Part(first=number == 1, last=number == len(weights))
            loading = [
                engine.load_weights.remote(reference, version=version, part=part)
                for engine in self._engines
            ]
            del bucket, reference  # not until the next one is made
        ray.get(loading)

    def _transfer(self, rank: int) -> Any:
        if self._sender is None:
            from pipeline.generate.transfer import by_ipc, by_nccl

            if self._channel == "ipc":
                self._sender = by_ipc(self._call, rank=rank)
            else:
                address, port = _free_endpoint()
                ranks = len(self._engines) * self._gpus_per_engine
                self._sender = by_nccl(self._call, address=address, port=port, engine_ranks=ranks)
        return self._sender

    def _call(self, method: str, keywords: Mapping[str, Any], version: int) -> None:
        """One call of vLLM's weight transfer on every engine at once."""
        from pipeline.generate.transfer import for_engine

        gpus = self._gpus_per_engine
        calls = [
            engine.transfer.remote(
                method, for_engine(keywords, engine=i, gpus_per_engine=gpus), version=version
            )
            for i, engine in enumerate(self._engines)
        ]
        ray.get(calls)

    def begin(self, step: int) -> None:
        """Have the service make a step meanwhile."""
        ray.get(self._service.begin.remote(step))

    def slice(self, step: int, *, rank: int, ranks: int) -> Slice:
        """This rank's share of a step."""
        return ray.get(self._service.slice.remote(step, rank=rank, ranks=ranks))


@ray.remote
class TrainerActor(_Shell):
    """One trainer rank."""

    def warm(self) -> None:
        """Import what takes seconds, while nothing waits for it."""
        importlib.import_module("trl.trainer.sft_trainer")

    def endpoint(self) -> tuple[str, int]:
        """An address for the ranks to meet at."""
        return _free_endpoint()

    def call(
        self, function: Callable[..., Any], arguments: Sequence[Any], keywords: Mapping[str, Any]
    ) -> Any:
        """Call a function in this process; it came by the name of its module and its own."""
        try:
            return function(*arguments, **keywords)
        finally:
            _free_gpu()

    def train(
        self, training: Callable[[], dict[str, Any]], environment: Mapping[str, str]
    ) -> dict[str, Any]:
        """Run a training as one rank of a process group, reached at the address Ray knows."""
        os.environ.update(environment)
        if (interface := interface_of(ray.util.get_node_ip_address())) is not None:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
        try:
            return training()
        finally:
            _free_gpu()


def _free_gpu() -> None:
    """An engine may share the GPU: what this process does not use is free for it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


def _free_endpoint() -> tuple[str, int]:
    """This node's address and a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return ray.util.get_node_ip_address(), probe.getsockname()[1]


def _shape_of(model: Path) -> str:
    """What must be equal for one engine to take another model's weights."""
    config = json.loads((model / "config.json").read_text())
    for key in ("_name_or_path", "transformers_version", "use_cache", "torch_dtype", "dtype"):
        config.pop(key, None)
    head = model / RIGHT_HEAD  # an engine reads it once
    judge = {"right_head": file_sha256(head)} if head.is_file() else {}
    return json.dumps(config | judge, sort_keys=True)
