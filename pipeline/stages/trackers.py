"""`report_to`: a whole run as one run of each tracker, stages as prefixes.

    reason/reward             over reason/step, the stage's own steps
    results/align/accuracy    once, of each evaluated model

All that they write stays in `trackers/` of the run folder unless their own variables (WANDB_DIR,
TRACKIO_DIR) say otherwise. A run that goes on is the same run to them.
"""

import importlib.util
import netrc
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from pipeline.errors import WrongInput
from pipeline.recipe.dump import dump_recipe, recipe_content
from pipeline.recipe.schema import Recipe

TRACKERS_FOLDER = "trackers"
RESULTS = "results"  # prefix of what came out
KEPT = "the run folder has all metrics"


class Tracker(Protocol):
    """One run in one tracker."""

    def metrics(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """Values after a stage's step, counted from 1."""
        ...

    def results(self, values: Mapping[str, float]) -> None:
        """What came out, once."""
        ...

    def close(self) -> None:
        """Send what is left."""
        ...


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """What trackers are told of a run."""

    folder: Path  # for their files
    name: str
    id: str  # the same at each launch
    recipe: Recipe


class TensorBoard:
    """Event files in `trackers/tensorboard`."""

    def __init__(self, run: TrackedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(run.folder / "tensorboard"))
        self._writer.add_text("recipe", f"```yaml\n{dump_recipe(run.recipe)}\n```")

    def metrics(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            self._writer.add_scalar(f"{stage}/{key}", value, step)
        self._writer.flush()  # a run may be killed at any time

    def results(self, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            self._writer.add_scalar(f"{RESULTS}/{key}", value, 0)

    def close(self) -> None:
        self._writer.close()


class Wandb:
    """A run of Weights & Biases, kept in `trackers/wandb` where nobody is logged in."""

    def __init__(self, run: TrackedRun) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")
        os.environ.setdefault("WANDB_DIR", str(run.folder))
        import wandb  # pyright: ignore[reportMissingImports]

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", run.recipe.name),
            name=run.name,
            id=run.id,
            resume="allow",
            mode=None if knows_wandb_key(os.environ) else "offline",
            config=recipe_content(run.recipe),
        )
        for stage in run.recipe.stages:
            self._run.define_metric(f"{stage}/step", hidden=True)
            self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")

    def metrics(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        self._run.log(_prefixed(stage, {"step": step, **values}))

    def results(self, values: Mapping[str, float]) -> None:
        self._run.summary.update(_prefixed(RESULTS, values))

    def close(self) -> None:
        self._run.finish()


class Trackio:
    """A run of trackio, kept in `trackers/trackio`."""

    def __init__(self, run: TrackedRun) -> None:
        os.environ.setdefault("TRACKIO_DIR", str(run.folder / "trackio"))
        import trackio  # pyright: ignore[reportMissingImports]

        self._trackio = trackio
        trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", run.recipe.name),
            name=f"{run.name}-{run.id}",
            resume="allow",
            embed=False,
            config=recipe_content(run.recipe),
        )

    def metrics(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        self._trackio.log(_prefixed(stage, {"step": step, **values}))

    def results(self, values: Mapping[str, float]) -> None:
        self._trackio.log(_prefixed(RESULTS, values))

    def close(self) -> None:
        self._trackio.finish()


TRACKERS: Mapping[str, Callable[[TrackedRun], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "trackio": Trackio,
}


def require_trackers(recipe: Recipe) -> None:
    """Raises WrongInput for a tracker of `report_to` that is not installed."""
    for name in recipe.report_to:
        if importlib.util.find_spec(name) is None:
            raise WrongInput(
                f"report_to: {name} is not installed: pip install {name}, or leave it out; {KEPT}"
            )


def _prefixed(prefix: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f"{prefix}/{key}": value for key, value in values.items()}


def knows_wandb_key(environment: Mapping[str, str]) -> bool:
    """Whether wandb may ask its server: a key or a mode in the environment, or what `wandb login`
    wrote into the netrc file."""
    if environment.keys() & {"WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_MODE"}:
        return True
    host = urlsplit(environment.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    try:
        file = environment.get("NETRC")
        return netrc.netrc(file).authenticators(host or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False
