"""Whether this machine has what a recipe's own settings want: told from the plan alone."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.cli.doctor.check import GIB, Check
from pipeline.cli.doctor.machine import machine_gib, ray_token, version_of
from pipeline.plan.estimate import estimate
from pipeline.plan.notes import notes_of
from pipeline.plan.placement import gpus_of
from pipeline.plan.stage_plan import Plan
from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.recipe.schema import Recipe
from pipeline.records import Prompt
from rewards.sandbox.languages import on_this_machine

CODE = ("builtin:code_tests",)
_REACH = "from pipeline.cluster.ray_session import check_reachable as c; c({!r}); print('answers')"


def recipe_checks(plan: Plan, *, run_dir: Path, isolated: bool) -> Iterator[Check]:
    """Memory, disk, folder, batches, precision, end of turn, trackers, Ray, programs.

    `isolated`: whether programs of a model can be run here without harm.
    """
    recipe = plan.recipe
    yield enough_memory(plan)
    yield from enough_disk(plan, run_dir)
    yield batches(plan)
    yield from precision(plan)
    yield from (
        Check(
            name="model notes", status="warning", why=note, fix="change it, or leave it on purpose"
        )
        for note in notes_of(recipe)
    )
    yield from (tracker(name) for name in recipe.report_to)
    yield from existing_ray(recipe, os.environ)
    yield from programs(recipe, isolated=isolated)


def gpus_wanted(plan: Plan) -> int:
    """GPUs that must be in this machine itself."""
    elsewhere = plan.recipe.hardware.ray_address is not None
    return 0 if plan.device == "cpu" or elsewhere else gpus_of(plan.recipe)


def enough_memory(plan: Plan) -> Check:
    """The largest training stage and the engines' caches, on this machine if it is a CPU run."""
    guess = estimate(plan.recipe, device=plan.device)
    hardware = plan.recipe.hardware
    largest = max((stage.memory_gib or 0.0 for stage in guess.stages), default=0.0)
    needed = hardware.ranks * largest + hardware.engines * hardware.kv_cache_gib
    if plan.device == "cuda":
        why = f"{largest:.3g} GiB per trainer GPU (estimate)"
        return Check(name="recipe memory", status="fine", why=why)
    there = machine_gib()
    fits = needed <= 0.8 * there
    return Check(
        name="recipe memory",
        status="fine" if fits else "warning" if needed <= there else "wrong",
        why=f"{needed:.3g} of {there:.3g} GiB (estimate)",
        fix="" if fits else "take a smaller model, fewer ranks, lora, or sharding: zero2",
    )


def enough_disk(plan: Plan, run_dir: Path) -> Iterator[Check]:
    """Whether the run folder can be made and what it grows to has room."""
    place = run_dir.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        yield Check(
            name="run folder",
            status="wrong",
            why=f"{run_dir} cannot be made: {place} "
            + ("cannot be written" if place.is_dir() else "is a file"),
            fix="start where you may write, or run with --run-dir",
        )
        return
    needed = estimate(plan.recipe, device=plan.device).disk_gib
    free = shutil.disk_usage(place).free / GIB
    if needed is None:
        yield Check(name="run folder", status="fine", why=f"{run_dir}, {free:.1f} GiB free")
        return
    fits = needed <= free
    yield Check(
        name="run folder",
        status="fine" if fits else "wrong",
        why=f"grows to about {needed:.2g} GiB of {free:.1f} free in {place}",
        fix="" if fits else "free some, or run with --run-dir on another disk",
    )


def batches(plan: Plan) -> Check:
    """How steps are split, as the plan has it; uneven ones are refused by the plan."""
    texts = [f"{s.name}: {s.spec.short_batch}" for s in plan.stages if s.spec.short_batch]
    return Check(name="batches", status="fine", why="; ".join(texts) or "nothing is trained")


def row_counts(recipe: Recipe, entries: Mapping[str, Sequence[Prompt]]) -> Iterator[Check]:
    """Entries of files with fewer rows than one batch takes."""
    for name, stage in recipe.stages.items():
        items = [item for item in stage.inputs() if item.role in ("prompts", "rows", "pairs")]
        own = [item.name for item in items if item.name in recipe.prompts]
        if not own or len(own) < len(items):
            continue
        sources = [recipe.prompts[entry] for entry in own]
        if any(source.hub is not None for source in sources):
            continue
        counts = [
            s.size if s.task or s.gym else len(entries.get(e, ()))
            for e, s in zip(own, sources, strict=True)
        ]
        total = sum(count or 0 for count in counts)
        batch = stage.prompts_per_step if isinstance(stage, GrpoStage) else stage.rows_per_update
        if batch is not None and 0 < total < batch:
            key = "prompts_per_step" if isinstance(stage, GrpoStage) else "batch_rows"
            yield Check(
                name="batches",
                status="warning",
                why=f"stages.{name}: {', '.join(own)} has {total} rows, fewer than {key}={batch}",
                fix=f"a step meets rows twice, or holds fewer: lower {key}, or give more rows",
            )


def precision(plan: Plan) -> Iterator[Check]:
    """bfloat16 on a CPU, which computes it by way of float32."""
    sources = {"model": plan.recipe.model}
    for stage in plan.stages:
        sources |= {f"stages.{stage.name}.{k}": m for k, m in stage.spec.own_models.items()}
    for key, source in sources.items():
        if plan.device == "cpu" and source.dtype == "bfloat16":
            yield Check(
                name="precision",
                status="warning",
                why=f"{key}.dtype is bfloat16 on a CPU, several times slower without bf16 units",
                fix=f"write {key}.dtype: float32",
            )


def tracker(name: str) -> Check:
    """Whether a tracker of `report_to` is installed."""
    version = version_of(name)
    return Check(
        name=name,
        status="fine" if version else "wrong",
        why=version or "none",
        fix="" if version else f"report_to names it: pip install {name}",
    )


def existing_ray(recipe: Recipe, environment: Mapping[str, str]) -> Iterator[Check]:
    """The cluster of `hardware.ray_address`: its token here, and whether it answers."""
    from pipeline.cli.doctor.check import tried

    address = recipe.hardware.ray_address
    if address is None:
        return
    token = ray_token(environment, home=Path.home(), joins=True)
    if token.status != "fine":
        yield token
    reached = tried("ray cluster", _REACH.format(address))
    if reached.status == "fine":
        yield Check(name="ray cluster", status="fine", why=f"{address} answers")
    else:
        why = reached.why.partition(": ")[2] or reached.why
        fix = "correct hardware.ray_address, or leave it out to start Ray here"
        yield Check(name="ray cluster", status="wrong", why=why, fix=fix)


def programs(recipe: Recipe, *, isolated: bool) -> Iterator[Check]:
    """Rewards that run programs: something must isolate them, and know their language."""
    for name, spec in recipe.rewards.items():
        for _, judge in spec.routes():
            if judge.use not in CODE:
                continue
            if not isolated and judge.args.get("isolation") != "none":
                yield Check(
                    name="programs",
                    status="wrong",
                    why=f"rewards.{name} runs a model's programs, and nothing isolates them here",
                    fix="install bubblewrap (apt-get install bubblewrap), or write isolation: none",
                )
            language = judge.args.get("language", "python")
            if isinstance(language, str) and on_this_machine().get(language, "") is None:
                yield Check(
                    name="programs",
                    status="wrong",
                    why=f"rewards.{name} runs programs in {language}, which is not installed",
                    fix="install it; the line of languages above says how",
                )
