"""What a plan's processes hold, part by part, in text and as a document."""

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.plan.estimate import Estimate, StageEstimate
from pipeline.plan.gpu_memory import gpu_memory_gib
from pipeline.plan.memory import EngineMemory, RankMemory
from pipeline.plan.stage_memory import colocated_gib
from pipeline.plan.stage_plan import Plan
from pipeline.recipe.hardware import Hardware, Layout

LEAST_GIB = 0.005  # of a part that is named


def memory_lines(plan: Plan, guess: Estimate) -> Iterator[str]:
    """One line a stage that trains or samples, for people, and one that compares layouts."""
    each = "GPU" if plan.device == "cuda" else "process"
    for stage in guess.stages:
        if stage.rank is not None:
            yield f"{stage.name}: a trainer's {each} holds {_rank_text(stage.rank)}"
    engines = [stage.engine for stage in guess.stages if stage.engine is not None]
    if engines:
        largest = max(engines, key=lambda engine: engine.total)
        yield f"an engine's {each} holds {_engine_text(largest)}"
    layouts = layouts_document(plan, guess)
    if layouts is not None:
        yield _layouts_text(layouts, chosen=_of(plan).layout)


def memory_document(stage: StageEstimate) -> dict[str, Any]:
    """Parts of one stage, GiB."""
    return {
        "rank": None if stage.rank is None else stage.rank.document(),
        "engine": None if stage.engine is None else stage.engine.document(),
    }


def layouts_document(plan: Plan, guess: Estimate) -> dict[str, Any] | None:
    """GPUs and their largest need where trainers and engines have GPUs of their own, and where they
    share them by turns; None on a CPU, or where nothing does both."""
    both = [
        colocated_gib(stage.rank, stage.engine)
        for stage in guess.stages
        if stage.rank is not None and stage.engine is not None
    ]
    if plan.device != "cuda" or not both:
        return None
    hardware = _of(plan)
    engines = hardware.engines * hardware.gpus_per_engine
    scorer = int(plan.recipe.has_reward_model)
    needs = [s.rank.total for s in guess.stages if s.rank is not None]
    needs += [s.engine.total for s in guess.stages if s.engine is not None]
    return {
        "gpu_memory_gib": gpu_memory_gib(hardware),
        "separate": {"gpus": hardware.ranks + engines + scorer, "gib": max(needs)},
        "colocated": {
            "gpus": max(hardware.ranks, engines) + scorer,
            "gib": max(both),
        },
    }


def _layouts_text(layouts: Mapping[str, Any], *, chosen: Layout) -> str:
    separate, colocated = layouts["separate"], layouts["colocated"]
    texts: dict[Layout, str] = {
        "separate": f"{separate['gpus']} GPU(s), {separate['gib']:.3g} GiB on the fullest",
        "colocated": (
            f"{colocated['gpus']} GPU(s), {colocated['gib']:.3g} GiB without an engine's cache"
        ),
    }
    (other,) = texts.keys() - {chosen}
    return f"layout {chosen}: {texts[chosen]}; {other} would take {texts[other]}"


def _of(plan: Plan) -> Hardware:
    return plan.recipe.hardware


def _rank_text(rank: RankMemory) -> str:
    parts = {key: gib for key, gib in rank.document().items() if key != "total"}
    known = {key: gib for key, gib in parts.items() if gib is not None and gib >= LEAST_GIB}
    missing = "" if rank.activations is not None else "; activations not known"
    return f"{rank.total:.3g} GiB: {_listed(known)}{missing}"


def _engine_text(engine: EngineMemory) -> str:
    parts = {
        "weights": engine.weights,
        "cache": engine.cache,
        "activations": engine.working,
        "process": engine.process,
    }
    text = f"{engine.total:.3g} GiB: {_listed(parts)}"
    if engine.sequences is None:
        return text
    return f"{text}; the cache has room for {engine.sequences:,.0f} sequences of full length"


def _listed(parts: dict[str, float]) -> str:
    return ", ".join(f"{key} {gib:.2f}" for key, gib in parts.items() if gib >= LEAST_GIB)
