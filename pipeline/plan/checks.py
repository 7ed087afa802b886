"""Mistakes that a well-formed recipe can still have, each one line: `key.path: what; fix`."""

from collections.abc import Iterator, Sequence

from pipeline.plan.batches import batch_of
from pipeline.plan.model_mistakes import model_mistakes, template_mistakes
from pipeline.plan.model_origin import first_source, max_iterations, positions, runs_own_code
from pipeline.plan.row_mistakes import turn_mistakes
from pipeline.plan.stage_plan import PlanError
from pipeline.prompts import entries
from pipeline.prompts.prompt_error import PromptError
from pipeline.prompts.row_files import row_files
from pipeline.prompts.sources import check_source, column_mistake
from pipeline.recipe.hardware import Hardware
from pipeline.recipe.recipe_errors import did_you_mean
from pipeline.recipe.routing import judge_of, row_routes
from pipeline.recipe.schema import Recipe, Stage
from pipeline.recipe.stage_base import BASE, Product, Training
from rewards.registry import RewardNotFound, check

TASK_COLUMNS = ("worked", "answer", "question", "difficulty", "needed_depth", "task")


def name_mistakes(recipe: Recipe) -> Iterator[str]:
    if not recipe.stages:
        yield "stages: there are none; add one, for example r1: {kind: grpo, ...}"
    for section in ("stages", "prompts", "rewards"):
        for name in getattr(recipe, section):
            if not name or not all(c.isalnum() or c in "_-" for c in name):
                yield f"{section}.{name}: use letters, digits, _ and - in names"
    if BASE in recipe.stages or BASE in recipe.prompts:
        yield f"{BASE} names the recipe's model; give the stage or prompts another name"
    for name in sorted(set(recipe.stages) & set(recipe.prompts)):
        yield f"stages.{name}: prompts.{name} has the same name; rename one"


def file_mistakes(recipe: Recipe) -> Iterator[str]:
    yield from _prompt_mistakes(recipe)
    sources = {"model": recipe.model}
    for name, stage in recipe.stages.items():
        sources |= {f"stages.{name}.{key}": source for key, source in stage.own_models.items()}
    for key, source in sources.items():
        yield from model_mistakes(key, source)
        template = list(template_mistakes(recipe, key, source))
        yield from template or turn_mistakes(recipe, key, source)


def _prompt_mistakes(recipe: Recipe) -> Iterator[str]:
    for name, source in recipe.prompts.items():
        if source.file is not None:
            try:
                row_files(source.file)
            except PromptError as error:
                yield f"prompts.{name}.file: {error}"
                continue
        try:
            check_source(name, source, routes=row_routes(recipe, name))
        except PromptError as error:
            yield str(error)
        yield from entries.reference_mistakes(recipe, name)


def reward_mistakes(recipe: Recipe) -> Iterator[str]:
    by_row = any(source.source_column for source in recipe.prompts.values())
    for name, spec in recipe.rewards.items():
        for source, judge in spec.routes():
            key = f"rewards.{name}" if source is None else f"rewards.{name}.by_source.{source}"
            if source is not None and source not in recipe.prompts and not by_row:
                reason = _refused(recipe, source, "a prompts entry", list(recipe.prompts))
                yield f"{key}: {reason}; for values of a column, name it: source_column: COLUMN"
            try:
                check(judge.use, args=judge.args)
            except RewardNotFound as error:
                yield f"{key}: {error}"


def reference_mistakes(recipe: Recipe, name: str, stage: Stage) -> Iterator[str]:
    for item in stage.inputs():
        key = f"stages.{name}.{item.role}"
        what, allowed = _allowed(recipe, item.role)
        if item.name not in allowed:
            yield f"{key}: {_refused(recipe, item.name, what, allowed)}"
        elif item.role == "rows":
            yield from _column_mistakes(recipe, key, item.name, item.column)
        elif item.column:
            yield f"{key}: '{item.name}.{item.column}' has a column; write {item.name}"
    for reward in stage.reward_names():
        if reward not in recipe.rewards:
            guess = did_you_mean(reward, recipe.rewards)
            known = ", ".join(recipe.rewards) or "none"
            yield f"stages.{name}: there is no reward {reward!r}{guess} (rewards has {known})"
            continue
        for item in stage.inputs():
            if item.is_sampled and judge_of(recipe, reward, item.name) is None:
                routes = ", ".join(recipe.rewards[reward].by_source or ())
                yield (
                    f"stages.{name}.{item.role}: reward {reward} says nothing about {item.name}; "
                    f"add it to rewards.{reward}.by_source (which has {routes or 'none'})"
                )


def _allowed(recipe: Recipe, role: str) -> tuple[str, list[str]]:
    """What a role may name, in words and as the recipe's names."""
    match role:
        case "prompts" | "watch" | "calibration" | "held_out":
            return "a prompts entry", list(recipe.prompts)
        case "reward_model":
            return "a reward_model stage", _makers(recipe, "reward_model")
        case "rows":
            what = "PROMPTS.COLUMN or a reject stage"
            return what, [*_makers(recipe, "harvest"), *recipe.prompts]
        case "pairs":
            what = "a reject stage or a prompts entry"
            return what, [*_makers(recipe, "harvest"), *recipe.prompts]
        case _:
            return "base or a stage that makes a model", [BASE, *_makers(recipe, "policy")]


def _makers(recipe: Recipe, product: Product) -> list[str]:
    return [name for name, stage in recipe.stages.items() if stage.product == product]


def _refused(recipe: Recipe, target: str, what: str, allowed: Sequence[str]) -> str:
    known = f"wanted {what}: {', '.join(allowed) or 'the recipe has none'}"
    if target in recipe.stages:
        return f"{target} is a {recipe.stages[target].kind} stage; {known}"
    if target in recipe.prompts:
        return f"{target} is a prompts entry; {known}"
    return f"there is no {target!r}{did_you_mean(target, allowed)} ({known})"


def _column_mistakes(recipe: Recipe, key: str, target: str, column: str | None) -> Iterator[str]:
    if target in recipe.stages:
        if column:
            yield f"{key}: {target} is a reject stage and has no columns; write {target}"
    elif not column:
        usual = "worked" if recipe.prompts[target].task else "answer"
        yield f"{key}: {target} is a prompts entry; say which column, for example {target}.{usual}"
    elif recipe.prompts[target].task and column not in TASK_COLUMNS:
        guess = did_you_mean(column, TASK_COLUMNS)
        yield f"{key}: tasks have no column {column!r}{guess} (there are {', '.join(TASK_COLUMNS)})"
    elif (mistake := column_mistake(recipe.prompts[target], column)) is not None:
        yield f"{key}: {mistake}; correct the column, or complete the row"


def batch_mistakes(name: str, stage: Stage, hardware: Hardware) -> Iterator[str]:
    """Rows that cannot be split, and all else that the hardware does not allow."""
    try:
        batch_of(stage, ranks=hardware.ranks)
    except PlanError as error:
        yield f"stages.{name}: {error}"
    yield from (f"stages.{name}.{reason}" for reason in stage.refused(hardware))


def optimizer_mistakes(name: str, stage: Stage, *, device: str) -> Iterator[str]:
    """An optimizer that the device does not have."""
    if isinstance(stage, Training) and stage.optimizer == "adamw_8bit" and device == "cpu":
        yield (
            f"stages.{name}.optimizer: adamw_8bit is for GPUs, and this run is on the CPU; leave "
            "it out, or train adapters (lora), whose optimizer is small"
        )


def length_mistakes(recipe: Recipe, name: str, stage: Stage) -> Iterator[str]:
    """Completions that take all the positions of the model that samples them, or more."""
    source = first_source(recipe, name) if stage.uses_engines else None
    most = None if source is None else positions(source)
    if most is not None and stage.longest_completion >= most:
        yield (
            f"stages.{name}.max_tokens: {stage.longest_completion} leaves no room for a prompt in "
            f"the model's {most} positions; lower it"
        )


def code_mistakes(recipe: Recipe, name: str, stage: Stage) -> Iterator[str]:
    """A reward model on top of a model that brings its own code, which has no score for a text."""
    if stage.product == "reward_model" and runs_own_code(recipe, name):
        yield (
            f"stages.{name}.init: {stage.start} runs code of its own, which makes no reward model; "
            "start from a model that transformers knows"
        )


def recurrent_mistakes(recipe: Recipe, name: str, stage: Stage) -> Iterator[str]:
    """A stage that iterates a model whose core, as files and recipe say, cannot iterate so."""
    needed = stage.needed_iterations
    source = None if needed is None else first_source(recipe, name)
    deepest = None if source is None else max_iterations(source)
    if needed is None or deepest is None:
        return
    if deepest == 0:
        yield (
            f"stages.{name}.init: {stage.start} is a dense model, which has no core to iterate; "
            "start from a recurrent one: scratch with core, or a folder of `stepwell convert`"
        )
    elif needed > deepest:
        yield (
            f"stages.{name}.max_depth: {needed} is over the max_iterations={deepest} of "
            f"{stage.start}; lower it, or convert the model with more"
        )
