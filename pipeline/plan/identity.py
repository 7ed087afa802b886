"""What decides a result: the contents of everything a stage reads, for its fingerprint."""

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

from pipeline.artifacts import file_sha256
from pipeline.models.own_code import code_files
from pipeline.plan.engine_choice import planned_engines
from pipeline.plan.model_origin import stored_config
from pipeline.prompts.entries import reference_sources
from pipeline.prompts.row_files import row_files
from pipeline.recipe.model_source import ModelSource
from pipeline.recipe.prompt_source import PromptSource
from pipeline.recipe.reward_spec import Judge
from pipeline.recipe.routing import possible_judges
from pipeline.recipe.schema import Recipe, Stage
from pipeline.recipe.stage_base import Input
from pipeline.recurrent.explore import RIGHT_HEAD
from rewards.source_files import source_files

_MODEL_SUFFIXES = (".json", ".safetensors", ".bin", ".jinja", ".model", ".txt")
_SAMPLED_BYTES = 64 * 2**20  # weights above this are fingerprinted by samples
_SAMPLES = 16
_SAMPLE_BYTES = 2**20


def spec_identity(spec: Stage) -> dict[str, Any]:
    """What a stage says, without what leaves its result as it is; its own models by contents."""
    content = spec.model_dump(mode="json", exclude=set(spec.neutral_keys))
    content = {k: v for k, v in content.items() if v is not None or k not in spec.silent_keys}
    return content | {key: model_identity(source) for key, source in spec.own_models.items()}


def hardware_identity(recipe: Recipe, spec: Stage, *, device: str) -> dict[str, Any]:
    """What of the hardware changes the stage's bits; empty where it computes nothing. An engine is
    the one that samples, whether a recipe names it or leaves it to us."""
    if not spec.hardware_keys:
        return {}
    content = recipe.hardware.model_dump(include=set(spec.hardware_keys))
    if "engine" in content:
        content["engine"] = planned_engines(recipe, spec, device=device)
    return {**content, "device": device}


def reward_identity(recipe: Recipe, reward: str, inputs: Iterable[Input]) -> list[Any]:
    """A stage's reward by what it does to the prompts that the stage samples."""
    entries = [item.name for item in inputs if item.is_sampled and item.role != "watch"]
    judges = [judge for entry in entries for judge in possible_judges(recipe, reward, entry)]
    weight = recipe.rewards[reward].weight
    return [part for judge in judges for part in _judge_identity(judge, weight)]


def _judge_identity(judge: Judge, weight: float) -> list[Any]:
    """A user's code counts by the contents of its files, not by their place."""
    files = source_files(judge.use)
    code = {name: file_sha256(path) for name, path in files.items()}
    return [[code, judge.use.rpartition(":")[2]] if code else judge.use, weight, judge.args]


def entry_identity(recipe: Recipe, name: str) -> dict[str, Any]:
    """A prompts entry by its source and by the sets that it is decontaminated by."""
    references = reference_sources(recipe, name).values()
    content = prompts_identity(recipe.prompts[name], recipe.seed)
    return content | {"decontaminate": [prompts_identity(r, recipe.seed) for r in references]}


def prompts_identity(source: PromptSource, seed: int) -> dict[str, Any]:
    content = source.model_dump(mode="json", exclude={"decontaminate"})
    content["seed"] = seed if source.seed is None else source.seed
    if source.file is not None:
        content["file"] = [file_sha256(path) for path in row_files(source.file)]
    if source.hub is not None and Path(source.hub).is_dir():
        files = sorted(path for path in Path(source.hub).rglob("*") if path.is_file())
        names = [str(path.relative_to(source.hub)) for path in files]
        content["hub"] = dict(zip(names, map(file_sha256, files), strict=True))
    return content


def model_identity(source: ModelSource) -> dict[str, Any]:
    content = source.model_dump(mode="json")
    if source.path is not None:
        files = [p for p in Path(source.path).iterdir() if p.suffix in _MODEL_SUFFIXES]
        content["path"] = {p.name: _weights_digest(p) for p in sorted(files)}
        if (head := Path(source.path) / RIGHT_HEAD).is_file():
            content["right_head"] = file_sha256(head)
        if source.trust_remote_code:
            content["code"] = _code_digests(Path(source.path))
    if source.gguf is not None:
        content["gguf"] = [_weights_digest(Path(source.gguf))]
    return content


def _code_digests(folder: Path) -> dict[str, str]:
    """The files of code that run with a folder's model, by their contents."""
    names = code_files(folder, stored_config(folder) or {})
    return {name: file_sha256(folder / name) for name in names}


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
