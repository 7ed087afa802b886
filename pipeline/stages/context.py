"""What a stage is given besides its plan."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TypeVar

from pipeline.artifacts import Artifact, ArtifactKind
from pipeline.cluster.setups import GrpoSetup, ServiceSetup
from pipeline.generate.client import RolloutClient
from pipeline.generate.engine import EngineSettings
from pipeline.generate.groups import Group
from pipeline.generate.journal import Journal
from pipeline.generate.packed_weights import PackedWeights
from pipeline.generate.service import Depths, Sampling
from pipeline.plan.stage_plan import Plan
from pipeline.records import Prompt
from pipeline.stages.prompt_room import PromptRoom

Metrics = Mapping[str, float]


class Console(Protocol):
    """Where a run shows itself. `pipeline.watch.console` has a live and a plain one.

    Metric rows have `step` and `steps`, and of these what the stage knows: loss, lr, grad_norm,
    reward, reward/NAME, held_out_accuracy, completion_tokens (mean), zero_variance_share,
    logprob_gap (maximum, nats), staleness (steps), stale_kl (nats), capped_share, truncated_share,
    kl, entropy, tokens_per_s, seconds_left, unscored_share, held_out_unscored_share,
    resampled_groups, stopped_groups, too_long_share, step_seconds and the seconds/PHASE that add up
    to it (see `pipeline.measure.ledger`), start_seconds and matmul_gflops (of a process's first
    row), training_tokens, training_gflops_per_s and matmul_share (of one rank; see
    `pipeline.measure.training_flops`).
    """

    def start(self, plan: Plan, run_dir: Path) -> None: ...
    def stage(self, name: str, state: str, *, seconds: float = 0.0, note: str = "") -> None: ...
    def metrics(self, name: str, row: Metrics) -> None: ...
    def log(self, message: str) -> None: ...
    def finish(self, results: Sequence[Mapping[str, Any]]) -> None: ...


P = ParamSpec("P")
T = TypeVar("T")
Poll = Callable[[], None]
"""Called a few times a second while something is awaited."""

TrainingCall = Callable[P, dict[str, Any]]
"""A training of `pipeline.train.training_calls` with its arguments; rank 0's result counts."""


class Serving(Protocol):
    """Engines that hold a model, and the rollout service that scores what they write."""

    def sample(
        self,
        prompts: Sequence[Prompt],
        *,
        source: str,
        sampling: Sampling,
        seed: int,
        depths: Depths | None = None,
    ) -> list[Group]:
        """Scored groups of the prompts, in their order; see `RolloutService.sample`."""
        ...

    def load_weights(self, packed: PackedWeights) -> None:
        """Have every engine take weights that `pipeline.generate.weights.pack` made; those that
        are not named stay."""
        ...

    def open_grpo(self, setup: GrpoSetup) -> None:
        """Serve the steps of a GRPO stage."""
        ...


class Cluster(Protocol):
    """What a stage uses of the run's other processes. All of it raises ComponentFailed."""

    def call(self, function: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
        """Call a function of a light module in a trainer process, where the heavy ones load."""
        ...

    def train(self, training: TrainingCall[[]], *, poll: Poll) -> dict[str, Any]:
        """Run a training on every rank of a process group."""
        ...

    def train_on_rollouts(
        self, training: TrainingCall[[RolloutClient]], *, poll: Poll
    ) -> dict[str, Any]:
        """The same with a client of the service, which a `Serving` has opened."""
        ...

    def prepare(self, model: Path, settings: EngineSettings) -> None:
        """Have the engines load a model meanwhile, for a `serve` to come; returns at once."""
        ...

    def serve(self, setup: ServiceSetup, settings: EngineSettings, *, version: int = 0) -> Serving:
        """Have the engines hold `setup.model` and the service score as `setup` says."""
        ...


def warning(console: Console, stage: str) -> Callable[[str], None]:
    """Shows sentences as warnings of a stage."""
    return lambda sentence: console.log(f"warning: {stage}: {sentence}")


def stage_journal(console: Console, folder: Path, *, stage: str) -> Journal:
    """A journal of a stage, whose damages are shown."""
    return Journal(folder, tell=warning(console, stage))


@dataclass(frozen=True, kw_only=True)
class Output:
    """What a stage made: `run` publishes the context's `out` folder as this kind of artifact."""

    kind: ArtifactKind
    info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """One stage's surroundings. `work` survives a crash; `out` starts empty and is published."""

    plan: Plan
    run_dir: Path
    work: Path
    out: Path
    artifacts: Mapping[str, Artifact]  # finished stages, `base` and prompts entries, by name
    cluster: Cluster
    console: Console
    stopping: Callable[[], bool]
    room: PromptRoom = PromptRoom()
