"""What a stage is given besides its plan."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pipeline.artifacts import Artifact, ArtifactKind
from pipeline.plan.stage_plan import Plan

Metrics = Mapping[str, float]


class Console(Protocol):
    """Where a run shows itself. `pipeline.watch.console` has a live and a plain one.

    Metric rows have `step` and `steps`, and of these what the stage knows: loss, lr, grad_norm,
    reward, reward/NAME, held_out_accuracy, completion_tokens (mean), zero_variance_share,
    logprob_gap (maximum, nats), truncated_share, kl, entropy, tokens_per_s, seconds_left,
    unscored_share, resampled_groups.
    """

    def start(self, plan: Plan, run_dir: Path) -> None: ...
    def stage(self, name: str, state: str, *, seconds: float = 0.0, note: str = "") -> None: ...
    def metrics(self, name: str, row: Metrics) -> None: ...
    def log(self, message: str) -> None: ...
    def finish(self, results: Sequence[Mapping[str, Any]]) -> None: ...


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
    cluster: Any  # pipeline.cluster.Cluster
    console: Console
    stopping: Callable[[], bool]
