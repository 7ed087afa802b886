"""All checks in their order: what takes long works meanwhile in processes of its own."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.cli.doctor.check import Check, wrong
from pipeline.cli.doctor.data_checks import gold_checks, hub_check, load_entries, note_checks
from pipeline.cli.doctor.libraries import Trial, library_checks, started
from pipeline.cli.doctor.machine import machine_checks
from pipeline.cli.doctor.model_checks import Reading, model_checks, questions_of
from pipeline.cli.doctor.recipe_checks import gpus_wanted, recipe_checks, row_counts
from pipeline.plan.engine_choice import first_engine
from pipeline.plan.model_origin import first_source, max_iterations
from pipeline.plan.stage_plan import Plan
from pipeline.recipe.hub_reach import needs_hub

Tell = Callable[[str], None]


def examine(
    plan: Plan | None = None,
    *,
    mistakes: str = "",
    probe: bool = False,
    tell: Tell = lambda _: None,
) -> Iterator[Check]:
    """Checks as they are found; with a plan also of what its recipe needs.

    Args:
        mistakes: why there is no plan, a line each.
        probe: sample from the base and look at the rewards.
        tell: is told what is waited for.
    """
    trials = started(recurrent=plan is None or _serves_recurrent(plan))
    try:
        tell("the machine")
        isolated = True
        for check in machine_checks():
            isolated = isolated and not (check.name == "isolation" and check.status != "fine")
            yield check
        yield from (wrong("recipe", line) for line in mistakes.splitlines())
        if plan is not None:
            yield from _of_recipe(plan, isolated=isolated, probe=probe, tell=tell)
        tell("torch, transformers, ray, trl, deepspeed, vllm")
        yield from library_checks(
            trials,
            gpus=0 if plan is None else gpus_wanted(plan),
            recurrent=plan is not None and _serves_recurrent(plan),
            environment=os.environ,
        )
    finally:
        _end(trials)


def _of_recipe(plan: Plan, *, isolated: bool, probe: bool, tell: Tell) -> Iterator[Check]:
    recipe = plan.recipe
    yield Check(name="recipe", status="fine", why=f"{recipe.name}: {len(plan.stages)} stages")
    yield from recipe_checks(plan, run_dir=Path("runs") / recipe.name, isolated=isolated)
    tell("the data")
    silent = hub_check() if needs_hub(recipe) else None
    if silent is not None:
        os.environ["HF_HUB_OFFLINE"] = "1"  # for the processes that read models, too
        yield silent
    reading = Reading.started(plan)
    entries = {}
    for check, name, rows in load_entries(recipe, hub_answers=silent is None):
        entries[name] = rows
        yield check
    yield from row_counts(recipe, entries)
    yield from note_checks(recipe)
    questions = questions_of(plan, entries)
    reading.ask(questions)
    tell("golds and rewards")
    yield from gold_checks(recipe, entries)
    tell(f"the model's files: {', '.join(q.source.place for q in questions)}")
    for question, facts in zip(questions, reading.answers(len(questions)), strict=True):
        yield from model_checks(plan, question, facts)
    if probe:
        from pipeline.cli.doctor.signal_probe import probe_checks

        tell("16 samples of the base")
        with tempfile.TemporaryDirectory(prefix="stepwell-doctor-") as folder:
            yield from probe_checks(plan, entries, folder=Path(folder))


def _serves_recurrent(plan: Plan) -> bool:
    """Whether an engine of vLLM will hold a recurrent model."""
    if first_engine(plan.recipe, device=plan.device) != "vllm":
        return False
    sources = [
        first_source(plan.recipe, stage.name) for stage in plan.stages if stage.spec.uses_engines
    ]
    return any(source is not None and max_iterations(source) for source in sources)


def _end(trials: list[Trial]) -> None:
    for trial in trials:
        if trial.process.poll() is None:
            trial.process.kill()
            trial.process.wait()
