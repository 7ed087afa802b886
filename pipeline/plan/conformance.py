"""A recipe's values against those that DeepSeek-R1's paper states, field by field.

Stages are told by what they do, not by their names: an SFT is the cold start or SFT-2, by whether
it learns harvested rows, or without RL beside it a student; a GRPO stage is RL-2 where a reward
model rewards it, else RL-1 or, from the base itself, R1-Zero. Where the paper is silent that is
said, with what we choose.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pipeline.plan.sizes import shape_of
from pipeline.recipe.distill_stage import DistillStage
from pipeline.recipe.evaluate_stage import EvaluateStage
from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.recipe.model_source import ModelSource
from pipeline.recipe.reject_stage import RejectStage
from pipeline.recipe.reward_model_stage import RewardModelStage
from pipeline.recipe.schema import Recipe, Stage
from pipeline.recipe.section import listed
from pipeline.recipe.sft_stage import SftStage
from pipeline.recipe.stage_base import BASE, Training

PAPER = "arXiv 2501.12948v2"
Role = Literal[
    "zero", "cold start", "RL-1", "rejection", "SFT-2", "reward model", "RL-2", "student"
]
SILENT = "not stated"
SIZE_SPREAD = 0.35  # of a student's parameters around a published one's


@dataclass(frozen=True, kw_only=True)
class Field:
    """One value of a recipe beside the published one. `same` is None where the paper is silent."""

    field: str
    recipe: Any
    published: Any
    source: str
    same: bool | None

    def document(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Published:
    """A value of the paper: what it says, where, and which values agree."""

    value: Any
    source: str
    agrees: Callable[[Any], bool] | None = None

    def holds(self, value: Any) -> bool:
        return value == self.value if self.agrees is None else self.agrees(value)


def _range(low: float, high: float) -> Callable[[Any], bool]:
    return lambda value: low <= value <= high


SFT_ROWS = f"{PAPER}, training details of the two SFT stages"
RL_1 = f"{PAPER}, training details of R1-Zero and of the first RL stage"
RL_2 = f"{PAPER}, training details of the second RL stage"
DISTILL = f"{PAPER}, distillation"

SFT: Mapping[str, Published] = {
    "epochs": Published(value="2 to 3", source=SFT_ROWS, agrees=_range(2, 3)),
    "lr": Published(value=5e-5, source=SFT_ROWS),
    "lr_end": Published(value=5e-6, source=SFT_ROWS),
    "batch_rows": Published(value=128, source=SFT_ROWS),
    "max_tokens": Published(value=32768, source=SFT_ROWS),
}
RL: Mapping[str, Published] = {
    "lr": Published(value=3e-6, source=RL_1),
    "kl": Published(value=0.001, source=RL_1),
    "temperature": Published(value=1.0, source=RL_1),
    "samples_per_prompt": Published(value=16, source=RL_1),
    "questions_per_update": Published(value=32, source=RL_1),
    "max_tokens": Published(
        value="32,768, then 65,536 from step 8,200",
        source=RL_1,
        agrees=lambda value: value in (32768, 65536),
    ),
    "updates_per_rollout": Published(value=16, source=RL_1),
    "completions_per_rollout": Published(value=8192, source=RL_1),
    "updates_between_references": Published(value=400, source=RL_1),
}
ZERO: Mapping[str, Published] = {
    **RL,
    "updates": Published(value=10_400, source=RL_1),
    "language_reward": Published(value=False, source=RL_1),
}
FIRST: Mapping[str, Published] = {
    **RL,
    "clip": Published(value=10.0, source=RL_1),
    "language_reward": Published(value=True, source=RL_1),
}
SECOND: Mapping[str, Published] = {
    "temperature": Published(value=0.7, source=RL_2),
    "updates": Published(value=1_700, source=RL_2),
    "reward_model_updates": Published(value="the last 400", source=RL_2, agrees=_range(380, 420)),
    "language_reward": Published(value=True, source=RL_2),
}
RATES: Mapping[str, tuple[float, float]] = {
    "1.5B": (1.54e9, 1e-4),
    "7B": (7.6e9, 8e-5),
    "14B": (14.8e9, 7e-5),
    "32B": (32.8e9, 6e-5),
    "Llama 8B": (8.0e9, 5e-5),
    "Llama 70B": (70.6e9, 2e-5),
}
"""Parameters and peak rates of the students (the section on distillation)."""
STUDENT: Mapping[str, Published] = {
    "epochs": Published(value="2 to 3", source=DISTILL, agrees=_range(2, 3)),
    "batch_rows": Published(value=64, source=DISTILL),
    "max_tokens": Published(value=32768, source=DISTILL),
    "lr_end_over_lr": Published(value=0.1, source=DISTILL),
    "mode": Published(value="rows", source=DISTILL),
}
EVALUATION: Mapping[str, Published] = {
    "temperature": Published(value=0.6, source=f"{PAPER}, evaluation"),
    "top_p": Published(value=0.95, source=f"{PAPER}, evaluation"),
    "max_tokens": Published(value=32768, source=f"{PAPER}, evaluation"),
    "samples_per_prompt": Published(
        value="4 to 64, by the size of the test",
        source=f"{PAPER}, evaluation",
        agrees=_range(4, 64),
    ),
}
UNSTATED: Mapping[str, tuple[str, ...]] = {
    "cold start": ("packing", "adam_betas"),
    "SFT-2": ("packing", "adam_betas"),
    "zero": ("lr_schedule", "adam_betas", "resample_rounds"),
    "RL-1": ("updates", "lr_schedule", "adam_betas", "resample_rounds"),
    "RL-2": ("lr", "kl", "clip", "lr_schedule", "adam_betas", "resample_rounds"),
    "rejection": ("samples_per_prompt", "temperature", "keep_per_prompt"),
    "reward model": ("lr", "batch_rows", "epochs"),
    "student": ("packing", "adam_betas"),
}
"""Fields that the paper leaves open, by stage: what a recipe has there is a choice."""
FIXED: Mapping[str, Any] = {"lr_schedule": "constant", "adam_betas": (0.9, 0.95)}
"""What no recipe states, since it is the same in all of ours."""
END = 0.1  # of the peak rate, where our cosine ends (`pipeline.train.arguments`)


def conformance(recipe: Recipe) -> list[Field]:
    """Every published value that a stage has a field for, and the order of the flow."""
    fields = list(_flow(recipe))
    for name, stage in recipe.stages.items():
        role = role_of(recipe, stage)
        if role is not None:
            fields += _fields(name, _values(recipe, stage), _published(recipe, stage, role))
            fields += _open(name, _values(recipe, stage), UNSTATED.get(role, ()))
        if isinstance(stage, EvaluateStage):
            fields += _fields(name, stage.model_dump(), EVALUATION)
    return fields


def role_of(recipe: Recipe, stage: Stage) -> Role | None:
    """Which stage of R1 it stands for; None for one that R1 has not."""
    if isinstance(stage, SftStage):
        if not any(isinstance(other, GrpoStage) for other in recipe.stages.values()):
            return "student"
        harvested = any(_is_harvest(recipe, row) for row in listed(stage.rows))
        return "SFT-2" if harvested else "cold start"
    if isinstance(stage, GrpoStage):
        if stage.model_reward is not None:
            return "RL-2"
        return "zero" if stage.init == BASE else "RL-1"
    if isinstance(stage, RejectStage):
        return "rejection"
    if isinstance(stage, RewardModelStage):
        return "reward model"
    return "student" if isinstance(stage, DistillStage) else None


def _flow(recipe: Recipe) -> Iterator[Field]:
    """From which model each stage goes on: what most re-implementations have otherwise."""
    source = f"{PAPER}, the pipeline of DeepSeek-R1"
    starts = {"cold start": "base", "RL-1": "cold start", "SFT-2": "base", "RL-2": "SFT-2"}
    for name, stage in recipe.stages.items():
        role = role_of(recipe, stage)
        wanted = starts.get(role or "")
        start = stage.policy if isinstance(stage, RejectStage) else stage.start
        if role == "rejection":
            wanted = "RL-1"
        if wanted is None or not isinstance(start, str):
            continue
        other = recipe.stages.get(start)
        begins = "base" if other is None else role_of(recipe, other) or other.kind
        yield Field(
            field=f"stages.{name}.{'policy' if role == 'rejection' else 'init'}",
            recipe=f"{start} ({begins})" if begins != start else start,
            published=wanted,
            source=source,
            same=begins == wanted,
        )


def _published(recipe: Recipe, stage: Stage, role: Role) -> Mapping[str, Published]:
    tables = {"cold start": SFT, "SFT-2": SFT, "zero": ZERO, "RL-1": FIRST, "RL-2": SECOND}
    if role == "student":
        source = stage.start if isinstance(stage.start, ModelSource) else recipe.model
        return {"lr": _student_rate(source), **STUDENT}
    return tables.get(role, {})


def _student_rate(student: ModelSource) -> Published:
    """The rate of the published student of about its size; every rate where there is none."""
    shape, source = shape_of(student), DISTILL
    all_rates = ", ".join(f"{rate:g} ({size})" for size, (_, rate) in RATES.items())
    if shape is None:
        return Published(value=all_rates, source=source, agrees=lambda _: False)
    family = "Llama" if "llama" in (student.hub or "").lower() else ""
    near = {
        size: rate
        for size, (parameters, rate) in RATES.items()
        if abs(shape.parameters / parameters - 1) < SIZE_SPREAD
        if size.startswith("Llama") == bool(family)
    }
    if not near:
        text = f"no student of its size: {all_rates}"
        return Published(value=text, source=source, agrees=lambda _: False)
    size, rate = next(iter(near.items()))
    return Published(value=rate, source=f"{source}, {size}")


def _values(recipe: Recipe, stage: Stage) -> dict[str, Any]:
    """A stage's own fields, and those that follow from several of them."""
    values: dict[str, Any] = {"mode": "rows", **stage.model_dump(), **FIXED}
    if isinstance(stage, Training):
        values |= {"lr_end": END * stage.lr, "lr_end_over_lr": END}
    if not isinstance(stage, GrpoStage):
        return values
    updates = stage.updates_per_step
    every, model = stage.reference_every, stage.model_reward
    judges = [recipe.rewards[name] for name in stage.reward_names() if name in recipe.rewards]
    return values | {
        "questions_per_update": stage.prompts_per_step // updates,
        "updates_per_rollout": updates,
        "completions_per_rollout": stage.completions_per_step,
        "updates": stage.steps * updates,
        "updates_between_references": None if every is None else every * updates,
        "reward_model_updates": (
            None if model is None else round(model.last_fraction * stage.steps * updates)
        ),
        "language_reward": any(
            judge.use.startswith("builtin:language")
            for spec in judges
            for _, judge in spec.routes()
        ),
    }


def _fields(
    name: str, values: Mapping[str, Any], published: Mapping[str, Published]
) -> Iterator[Field]:
    for key, paper in published.items():
        value = values.get(key)
        yield Field(
            field=f"stages.{name}.{key}",
            recipe=value,
            published=paper.value,
            source=paper.source,
            same=value is not None and paper.holds(_rounded(value)),
        )


def _open(name: str, values: Mapping[str, Any], keys: tuple[str, ...]) -> Iterator[Field]:
    for key in keys:
        yield Field(
            field=f"stages.{name}.{key}",
            recipe=values.get(key),
            published=SILENT,
            source=f"{PAPER} is silent: ours",
            same=None,
        )


def _rounded(value: Any) -> Any:
    """A rate without the noise of a product."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _is_harvest(recipe: Recipe, row: str) -> bool:
    stage = recipe.stages.get(row.partition(".")[0])
    return stage is not None and stage.product == "harvest"
