"""A folder to hand on: weights as safetensors, tokenizer, chat template and a model card."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline.models import model_calls
from pipeline.plan.stage_plan import StagePlan
from pipeline.plan.vocabulary import is_pruned
from pipeline.recipe.dump import dump_recipe
from pipeline.recipe.export_stage import ExportStage
from pipeline.recipe.model_source import ModelSource
from pipeline.recipe.schema import Recipe
from pipeline.recipe.stage_base import BASE
from pipeline.stages.context import Output, RunContext
from pipeline.stages.support import MODEL_FOLDER, model_of
from pipeline.stages.vocabulary_use import VOCABULARY_FOLDER, pruning_text


def run(plan: StagePlan, ctx: RunContext) -> Output:
    """Export `model`; loads with `AutoModelForCausalLM.from_pretrained` and in vLLM."""
    spec = plan.spec
    assert isinstance(spec, ExportStage)
    target = ctx.out / MODEL_FOLDER
    if is_pruned(ctx.plan.recipe, spec.model):
        vocabulary = ctx.artifacts[BASE].path / VOCABULARY_FOLDER
        ctx.cluster.call(model_calls.restore, model_of(ctx, spec.model), vocabulary, target)
    else:
        shutil.copytree(model_of(ctx, spec.model), target)
    results = _results(ctx)
    (target / "README.md").write_text(model_card(ctx, spec.model, results))
    (target / "recipe.yaml").write_text(dump_recipe(ctx.plan.recipe))
    (target / "results.json").write_text(json.dumps(results, indent=1))
    return Output(kind="export", info={"model": spec.model, "folder": MODEL_FOLDER})


def model_card(ctx: RunContext, name: str, results: list[dict[str, Any]]) -> str:
    """The card: how the model was made, from what data, and what it scored."""
    recipe = ctx.plan.recipe
    stages = "\n".join(
        f"| {s.name} | {s.kind} | {', '.join(dict.fromkeys(i.name for i in s.inputs))} |"
        for s in ctx.plan.stages
    )
    data = "\n".join(
        f"| {key} | {_source(source.model_dump(exclude_defaults=True))} |"
        for key, source in recipe.prompts.items()
    )
    scores = "\n".join(
        f"| {r['model']} | {r['prompts']} | {r['accuracy']:.1%} "
        f"({r['ci_low']:.1%} to {r['ci_high']:.1%}) | {r['mean_tokens']:.0f} |"
        for r in results
    )
    licence = shared_licence(_model_sources(recipe))
    licence_line = f"license: {licence}\n" if licence else ""
    return (
        f"---\n{licence_line}library_name: transformers\npipeline_tag: text-generation\n---\n\n"
        f"# {recipe.name}: {name}\n\n"
        f"Made by Stepwell from `recipe.yaml` (in this folder), seed {recipe.seed}.\n\n"
        f"## Stages\n\n| stage | kind | reads |\n|---|---|---|\n{stages}\n\n"
        f"{_vocabulary_section(ctx, name)}"
        f"## Data\n\n| name | source |\n|---|---|\n{data}\n\n"
        f"## Results\n\n| model | prompts | accuracy (95 % interval) | mean tokens |\n"
        f"|---|---|---|---|\n{scores or '| not evaluated | | | |'}\n"
    )


def _vocabulary_section(ctx: RunContext, name: str) -> str:
    if not is_pruned(ctx.plan.recipe, name):
        return ""
    info = ctx.artifacts[BASE].manifest.info
    return (
        f"## Vocabulary\n\nIt was trained, sampled and scored with its vocabulary "
        f"{pruning_text(info)}. This folder has the full vocabulary again: rows of tokens that "
        "stayed are trained, the others are the base model's.\n\n"
    )


def shared_licence(sources: Sequence[ModelSource]) -> str | None:
    """The licence that the cards of all these models state, or None: then it is not ours to name.

    A card is the README.md beside the weights, its licence the `license` of the YAML at its head.
    """
    licences = {_card_licence(source) for source in sources}
    return licences.pop() if len(licences) == 1 else None


def _card_licence(source: ModelSource) -> str | None:
    card = Path(source.path) / "README.md" if source.path is not None else None
    if card is None or not card.is_file():
        return None
    before, _, rest = card.read_text().partition("---\n")
    try:
        head = None if before else yaml.safe_load(rest.partition("\n---")[0])
    except yaml.YAMLError:  # a card is anybody's text
        return None
    licence = head.get("license") if isinstance(head, dict) else None
    return licence if isinstance(licence, str) else None


def _model_sources(recipe: Recipe) -> list[ModelSource]:
    """Every model that the recipe begins from: its base, and each student of a distillation."""
    own = [source for stage in recipe.stages.values() for source in stage.own_models.values()]
    return [recipe.model, *own]


def _source(values: dict[str, Any]) -> str:
    return ", ".join(f"{key}: {value}" for key, value in values.items())


def _results(ctx: RunContext) -> list[dict[str, Any]]:
    reports = [s.name for s in ctx.plan.stages if s.spec.product == "report"]
    return [
        result
        for name in reports
        if name in ctx.artifacts
        for result in ctx.artifacts[name].manifest.info["results"]
    ]
