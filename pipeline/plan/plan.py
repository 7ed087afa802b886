"""Recipe -> Plan: stage order, batch arithmetic, inputs and fingerprints. Pure; no ML library."""

from collections.abc import Iterable, Mapping, Sequence

from pipeline import __version__
from pipeline.artifacts import fingerprint
from pipeline.plan.checks import (
    batch_mistakes,
    code_mistakes,
    file_mistakes,
    length_mistakes,
    name_mistakes,
    optimizer_mistakes,
    recurrent_mistakes,
    reference_mistakes,
    reward_mistakes,
)
from pipeline.plan.device import device_of
from pipeline.plan.engine_models import engine_model_mistakes
from pipeline.plan.explore_mistakes import explore_mistakes
from pipeline.plan.identity import (
    entry_identity,
    hardware_identity,
    model_identity,
    reward_identity,
    spec_identity,
)
from pipeline.plan.lora_targets import lora_mistakes
from pipeline.plan.memory_mistakes import memory_mistakes, scorer_mistakes
from pipeline.plan.outcome_mistakes import outcome_mistakes
from pipeline.plan.placement import placement_mistakes
from pipeline.plan.stage_plan import Plan, PlanError, StagePlan
from pipeline.plan.threads import usable_cores, with_threads
from pipeline.plan.vocabulary import vocabulary_mistakes, vocabulary_texts
from pipeline.recipe.recipe_errors import did_you_mean
from pipeline.recipe.schema import Recipe, Stage
from pipeline.recipe.stage_base import BASE


def make_plan(recipe: Recipe, *, cores: int | None = None) -> Plan:
    """Resolve a recipe, for the cores here or those that its run began with.

    Raises PlanError, one line per mistake: `key.path: what; fix`.
    """
    mistakes = [*name_mistakes(recipe), *reward_mistakes(recipe), *file_mistakes(recipe)]
    for name, stage in recipe.stages.items():
        mistakes += reference_mistakes(recipe, name, stage)
        mistakes += batch_mistakes(name, stage, recipe.hardware)
        mistakes += length_mistakes(recipe, name, stage)
        mistakes += recurrent_mistakes(recipe, name, stage)
        mistakes += outcome_mistakes(recipe, name, stage)
        mistakes += explore_mistakes(recipe, name, stage, device=device_of(recipe.hardware))
        mistakes += code_mistakes(recipe, name, stage)
        mistakes += lora_mistakes(recipe, name, stage)
        mistakes += engine_model_mistakes(recipe, name, stage, device=device_of(recipe.hardware))
        mistakes += optimizer_mistakes(name, stage, device=device_of(recipe.hardware))
    if not mistakes:
        for name, stage in recipe.stages.items():
            mistakes += memory_mistakes(recipe, name, stage, device=device_of(recipe.hardware))
        mistakes += scorer_mistakes(recipe, device=device_of(recipe.hardware))
    mistakes += placement_mistakes(recipe, device=device_of(recipe.hardware))
    mistakes += vocabulary_mistakes(recipe)
    if mistakes:
        raise PlanError("\n".join(mistakes))
    order = _order({name: _depends_on(recipe, stage) for name, stage in recipe.stages.items()})
    device = device_of(recipe.hardware)
    cores = usable_cores() if cores is None else cores
    resolved = with_threads(recipe, device=device, cores=cores)
    return _planned(resolved, order, device=device, cores=cores)


def stages_until(plan: Plan, from_stage: str | None, to_stage: str | None) -> list[StagePlan]:
    """The plan's stages up to one. Raises PlanError for an unknown name, or one before `--from`."""
    names = [stage.name for stage in plan.stages]
    for option, name in (("--from", from_stage), ("--to", to_stage)):
        if name is not None and name not in names:
            guess = did_you_mean(name, names)
            raise PlanError(f"{option} {name}: no such stage{guess} ({', '.join(names)})")
    first = names.index(from_stage) if from_stage else 0
    last = names.index(to_stage) if to_stage else len(names) - 1
    if first > last:
        raise PlanError(f"--from {from_stage} comes after --to {to_stage}")
    return list(plan.stages[: last + 1])


def stage_seed(seed: int, name: str) -> int:
    """A stage's own seed, below 2**31, from the recipe's seed and the stage's name."""
    return int(fingerprint("seed", seed, name)[:8], 16) & 0x7FFFFFFF


def _depends_on(recipe: Recipe, stage: Stage) -> list[str]:
    return [item.name for item in stage.inputs() if item.name in recipe.stages]


def _order(needs: Mapping[str, Sequence[str]]) -> list[str]:
    """Stage names with every input first, otherwise as the recipe has them."""
    order: list[str] = []
    waiting = list(needs)
    while waiting:
        ready = next((n for n in waiting if all(d in order for d in needs[n])), None)
        if ready is None:
            circle = " -> ".join(_circle(needs, waiting))
            raise PlanError(f"stages: these wait for each other: {circle}; break the circle")
        waiting.remove(ready)
        order.append(ready)
    return order


def _circle(needs: Mapping[str, Sequence[str]], waiting: Sequence[str]) -> list[str]:
    """A cycle in full, first name repeated at the end. Each waiting stage waits for another."""
    path = [waiting[0]]
    while path[-1] not in path[:-1]:
        path.append(next(name for name in needs[path[-1]] if name in waiting))
    return path[path.index(path[-1]) :]


def _planned(recipe: Recipe, order: Iterable[str], *, device: str, cores: int) -> Plan:
    prints = {
        name: fingerprint(__version__, "prompts", entry_identity(recipe, name))
        for name in recipe.prompts
    }
    texts = [(name, column, prints[name]) for name, column in vocabulary_texts(recipe)]
    prints[BASE] = fingerprint(__version__, "model", model_identity(recipe.model), *texts)
    stages = []
    for name in order:
        spec = recipe.stages[name]
        inputs = spec.inputs()
        seed = stage_seed(recipe.seed, name)
        around = (
            seed,
            [(i.role, i.column, prints[i.name]) for i in inputs if i.role != "watch"],
            [reward_identity(recipe, reward, inputs) for reward in spec.reward_names()],
            hardware_identity(recipe, spec, device=device),
        )
        content = spec_identity(spec)
        prints[name] = fingerprint(__version__, content, *around)
        early = {key: value for key, value in content.items() if key not in spec.late_keys}
        stages.append(
            StagePlan(
                name=name,
                kind=spec.kind,
                spec=spec,
                inputs=inputs,
                seed=seed,
                fingerprint=prints[name],
                work_fingerprint=fingerprint(__version__, early, *around),
            )
        )
    return Plan(
        recipe=recipe, stages=tuple(stages), fingerprints=prints, device=device, cores=cores
    )
