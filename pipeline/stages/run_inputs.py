"""What a run reads: the base model and the prompts, as artifacts of its folder."""

import json
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.artifacts import Artifact, fresh_folder, publish, write_atomic
from pipeline.errors import RunFailed, WrongInput
from pipeline.measure.drops import drop_rows
from pipeline.models import model_calls
from pipeline.plan.stage_plan import Plan, StagePlan
from pipeline.plan.vocabulary import vocabulary_texts
from pipeline.prompts.entries import load_entry
from pipeline.prompts.findings import recipe_findings
from pipeline.recipe.stage_base import BASE
from pipeline.records import Prompt, read_prompts, write_prompts
from pipeline.stages.context import Cluster, Console
from pipeline.stages.drop_log import log_drops
from pipeline.stages.prompt_room import PromptRoom, prompt_room
from pipeline.stages.run_folder import FINDINGS_FILE, RunFolder, standing
from pipeline.stages.support import MODEL_FOLDER, PROMPTS_FILE
from pipeline.stages.vocabulary_use import prune_base, pruning_text


def run_inputs(
    plan: Plan,
    stages: Sequence[StagePlan],
    folder: RunFolder,
    *,
    cluster: Cluster,
    console: Console,
) -> Iterator[tuple[str, Artifact]]:
    """By name, the base model and every prompts entry that the stages need.

    What is odd about prompts that are new is logged, and kept in the run folder.

    Raises WrongInput or RunFailed for a model that cannot be loaded, PromptError for prompts.
    """
    artifacts: dict[str, Artifact] = {}
    fresh: dict[str, list[Prompt]] = {}
    for name in _needed(plan, stages):
        path = folder.input(name)
        fingerprint = plan.fingerprints[name]
        if (artifact := standing(path, fingerprint, tell=console.log)) is not None:
            artifacts[name] = artifact
            yield name, artifact
            continue
        draft = fresh_folder(folder.work(f".input-{name}"))
        info: dict[str, Any] = {}
        if name == BASE:
            console.log("loading the base model")
            info = _load_base(plan, draft, artifacts, cluster)
            if "tokens" in info:
                console.log(f"the base model's vocabulary: {pruning_text(info)}")
        else:
            entry = load_entry(plan.recipe, name)
            write_prompts(entry.prompts, draft / PROMPTS_FILE)
            fresh[name] = entry.prompts
            info = {"rows": len(entry.prompts), "drops": drop_rows(entry.drops)}
            log_drops(f"prompts.{name}", info, console)
        kind = "checkpoint" if name == BASE else "prompts"
        artifacts[name] = publish(
            draft, path, kind=kind, stage=name, fingerprint=fingerprint, info=info
        )
        yield name, artifacts[name]
    if fresh:
        _log_findings(plan, folder, console, fresh | _stored_prompts(artifacts, besides=fresh))


def measured_room(
    plan: Plan, artifacts: Mapping[str, Artifact], *, log: Callable[[str], None]
) -> PromptRoom:
    """What the prompts need of the engines. Raises PlanError where some do not fit."""
    prompts = {
        name: read_prompts(artifacts[name].path / PROMPTS_FILE)
        for name in plan.recipe.prompts.keys() & artifacts.keys()
    }
    return prompt_room(plan, artifacts[BASE].path / MODEL_FOLDER, prompts, log=log)


def _needed(plan: Plan, stages: Sequence[StagePlan]) -> list[str]:
    inputs = [item.name for stage in stages for item in stage.inputs]
    # a reward model reads its harvest's questions, so sampled prompts are always at hand
    every = [item for stage in plan.stages for item in stage.inputs]
    sampled = [item.name for item in every if item.role == "prompts"]
    # prompts are measured with the base's tokenizer
    texts = [name for name, _ in vocabulary_texts(plan.recipe)]
    needed = {*inputs, *sampled, *texts} - {BASE} - {stage.name for stage in plan.stages}
    return [*sorted(needed), BASE]


def _load_base(
    plan: Plan, draft: Path, prompts: Mapping[str, Artifact], cluster: Cluster
) -> dict[str, Any]:
    """Fill the base's draft; returns what its artifact says."""
    source = plan.recipe.model
    pruned = source.vocabulary == "pruned"
    folder = draft / ("full" if pruned else MODEL_FOLDER)
    try:
        cluster.call(model_calls.materialize, source, folder, seed=plan.recipe.seed)
        return prune_base(plan, draft, folder, prompts, cluster=cluster) if pruned else {}
    except (RunFailed, WrongInput) as error:
        named = source.model_dump(exclude_unset=True, exclude={"dtype", "chat_template"})
        where = ", ".join(f"{key} {value}" for key, value in named.items())
        kind = WrongInput if isinstance(error, WrongInput) else RunFailed
        raise kind(f"the base model ({where}) cannot be loaded: {error}") from error


def _stored_prompts(
    artifacts: Mapping[str, Artifact], *, besides: Container[str]
) -> dict[str, list[Prompt]]:
    return {
        name: read_prompts(artifact.path / PROMPTS_FILE)
        for name, artifact in artifacts.items()
        if artifact.manifest.kind == "prompts" and name not in besides
    }


def _log_findings(
    plan: Plan, folder: RunFolder, console: Console, prompts: Mapping[str, Sequence[Prompt]]
) -> None:
    findings = recipe_findings(plan.recipe, prompts)
    for finding in findings:
        console.log(f"{finding.level}: {finding.sentence}")
    documents = [finding.document() for finding in findings]
    write_atomic(folder.path / FINDINGS_FILE, json.dumps(documents, indent=1))
