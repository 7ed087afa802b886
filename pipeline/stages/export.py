"""A folder to hand on: weights as safetensors, tokenizer, chat template and a model card."""

import json
import shutil
from typing import Any

from pipeline.models import model_calls
from pipeline.plan.stage_plan import StagePlan
from pipeline.plan.vocabulary import is_pruned
from pipeline.recipe.dump import dump_recipe
from pipeline.recipe.export_stage import ExportStage
from pipeline.recipe.stage_base import BASE
from pipeline.stages.context import Output, RunContext
from pipeline.stages.model_card import model_card
from pipeline.stages.support import MODEL_FOLDER, model_of
from pipeline.stages.vocabulary_use import VOCABULARY_FOLDER


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
    (target / "README.md").write_text(model_card(ctx, spec.model, target, results))
    (target / "recipe.yaml").write_text(dump_recipe(ctx.plan.recipe))
    (target / "results.json").write_text(json.dumps(results, indent=1))
    return Output(kind="export", info={"model": spec.model, "folder": MODEL_FOLDER})


def _results(ctx: RunContext) -> list[dict[str, Any]]:
    reports = [s.name for s in ctx.plan.stages if s.spec.product == "report"]
    return [
        result
        for name in reports
        if name in ctx.artifacts
        for result in ctx.artifacts[name].manifest.info["results"]
    ]
