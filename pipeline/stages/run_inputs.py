"""What a run reads: the base model and the prompts, as artifacts of its folder."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.artifacts import Artifact, fresh_folder, open_artifact, publish
from pipeline.errors import RunFailed
from pipeline.models import model_calls
from pipeline.plan.stage_plan import Plan, StagePlan
from pipeline.prompts.sources import load_prompts
from pipeline.recipe.routing import row_routes
from pipeline.recipe.stage_base import BASE
from pipeline.records import read_prompts, write_prompts
from pipeline.stages.context import Cluster, Console
from pipeline.stages.prompt_room import PromptRoom, prompt_room, sampled_entries
from pipeline.stages.run_folder import RunFolder, set_aside
from pipeline.stages.support import MODEL_FOLDER, PROMPTS_FILE


def run_inputs(
    plan: Plan,
    stages: Sequence[StagePlan],
    folder: RunFolder,
    *,
    cluster: Cluster,
    console: Console,
) -> Iterator[tuple[str, Artifact]]:
    """By name, the base model and every prompts entry that the stages need.

    Raises RunFailed for a model that cannot be loaded, PromptError for prompts.
    """
    for name in _needed(plan, stages):
        path = folder.input(name)
        fingerprint = plan.fingerprints[name]
        if path.exists():
            artifact = open_artifact(path)
            if artifact.manifest.fingerprint == fingerprint:
                yield name, artifact
                continue
            set_aside(path)
        draft = fresh_folder(folder.work(f".input-{name}"))
        if name == BASE:
            console.log("loading the base model")
            _load_base(plan, draft, cluster)
        else:
            _load_prompts(plan, name, draft)
        kind = "checkpoint" if name == BASE else "prompts"
        yield name, publish(draft, path, kind=kind, stage=name, fingerprint=fingerprint)


def measured_room(
    plan: Plan, artifacts: Mapping[str, Artifact], *, log: Callable[[str], None]
) -> PromptRoom:
    """What the prompts need of the engines. Raises PlanError where some do not fit."""
    prompts = {
        name: read_prompts(artifacts[name].path / PROMPTS_FILE)
        for name in sampled_entries(plan).keys() & artifacts.keys()
    }
    return prompt_room(plan, artifacts[BASE].path / MODEL_FOLDER, prompts, log=log)


def _needed(plan: Plan, stages: Sequence[StagePlan]) -> list[str]:
    inputs = [item.name for stage in stages for item in stage.inputs]
    # a reward model reads its harvest's questions, so sampled prompts are always at hand
    every = [item for stage in plan.stages for item in stage.inputs]
    sampled = [item.name for item in every if item.role == "prompts"]
    # prompts are measured with the base's tokenizer
    return sorted({BASE, *inputs, *sampled} - {stage.name for stage in plan.stages})


def _load_base(plan: Plan, draft: Path, cluster: Cluster) -> None:
    source = plan.recipe.model
    try:
        cluster.call(model_calls.materialize, source, draft / MODEL_FOLDER, seed=plan.recipe.seed)
    except RunFailed as error:
        named = source.model_dump(exclude_unset=True, exclude={"dtype", "chat_template"})
        where = ", ".join(f"{key} {value}" for key, value in named.items())
        raise RunFailed(f"the base model ({where}) cannot be loaded: {error}") from error


def _load_prompts(plan: Plan, name: str, draft: Path) -> None:
    source = plan.recipe.prompts[name]
    routes = row_routes(plan.recipe, name)
    seed = plan.recipe.seed if source.seed is None else source.seed
    write_prompts(load_prompts(name, source, seed=seed, routes=routes), draft / PROMPTS_FILE)
