"""What a run took, stage by stage: seconds by phase, FLOPs of training, joules, money."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.measure.energy import DEVICE_CLASSES
from pipeline.measure.ledger import PREFIX
from pipeline.stages.launch_record import launches_of
from pipeline.watch.curves import AREAS, STACKED
from pipeline.watch.run_reading import json_of, metrics_by_part

HOUR_S = 3600.0
_COLOURS = dict(zip(STACKED, AREAS, strict=True))


def costs_of(
    run_dir: Path, stages: Sequence[Mapping[str, Any]], recipe: Mapping[str, Any]
) -> dict[str, Any]:
    """A row a stage that took time: `seconds`, `phases` (name, seconds, share, colour), `flops` of
    its training and `joules`, with `source`; and the sums. Joules of an evaluation are those that
    it found; of a training an estimate by its FLOPs. Money where the recipe has a price."""
    hardware, device = recipe.get("hardware") or {}, _device(run_dir, recipe)
    evaluated = _evaluated(run_dir, recipe)
    rows = []
    for stage in stages:
        if not stage["seconds"]:
            continue
        flops = _training_flops(run_dir, stage["name"]) * hardware.get("ranks", 1)
        joules, source = evaluated.get(stage["name"], (None, None))
        if joules is None and flops:
            assumed = DEVICE_CLASSES["h100" if device == "cuda" else "cpu"]
            joules, source = flops * assumed.joules_per_flop, "analytic"
        rows.append(
            {
                "name": stage["name"],
                "seconds": stage["seconds"],
                "phases": _phases(stage.get("phase_seconds") or {}, stage["seconds"]),
                "flops": flops or None,
                "joules": joules,
                "source": source,
            }
        )
    seconds = sum(row["seconds"] for row in rows)
    return {
        "rows": rows,
        "seconds": seconds,
        "longest": max((row["seconds"] for row in rows), default=0.0),
        "flops": sum(row["flops"] or 0.0 for row in rows) or None,
        "joules": sum(row["joules"] or 0.0 for row in rows) or None,
        "dollars": _dollars(recipe, seconds) if device == "cuda" else None,
        "legend": [
            (phase, _COLOURS[phase])
            for phase in STACKED
            if any(name == phase for row in rows for name, *_ in row["phases"])
        ],
    }


def _phases(seconds: Mapping[str, float], total: float) -> list[tuple[str, float, float, str]]:
    """Of a stage whose phases nobody counted: none."""
    return [
        (phase, seconds[phase], seconds[phase] / total, _COLOURS[phase])
        for phase in STACKED
        if seconds.get(phase)
    ]


def _training_flops(run_dir: Path, stage: str) -> float:
    """Of one rank, over the rows that say how fast it trained and how long."""
    return sum(
        1e9 * row["training_gflops_per_s"] * row[f"{PREFIX}training"]
        for rows in metrics_by_part(run_dir, stage).values()
        for row in rows
        if "training_gflops_per_s" in row and f"{PREFIX}training" in row
    )


def _evaluated(run_dir: Path, recipe: Mapping[str, Any]) -> dict[str, tuple[float, str]]:
    """Joules of every evaluate stage's answers, with their source."""
    found: dict[str, tuple[float, str]] = {}
    for name, stage in (recipe.get("stages") or {}).items():
        rows = json_of(run_dir / "stages" / name / "results.json")
        known = [row for row in rows if row.get("joules_per_answer") is not None]
        if stage.get("kind") == "evaluate" and known:
            answers = [row["problems"] * row.get("samples_per_prompt", 1) for row in known]
            joules = sum(
                row["joules_per_answer"] * n for row, n in zip(known, answers, strict=True)
            )
            found[name] = joules, ", ".join(sorted({row["energy_source"] for row in known}))
    return found


def _device(run_dir: Path, recipe: Mapping[str, Any]) -> str:
    """cpu or cuda: the recipe's, or what `auto` became."""
    device = (recipe.get("hardware") or {}).get("device", "auto")
    launches = launches_of(run_dir)
    if device != "auto" or not launches:
        return device
    return launches[-1].get("chosen", {}).get("hardware.device", device)


def _dollars(recipe: Mapping[str, Any], seconds: float) -> float | None:
    """Of the GPUs that a plan counts (`pipeline.plan.placement.gpus_of`)."""
    hardware = recipe.get("hardware") or {}
    price = hardware.get("dollars_per_gpu_hour")
    if price is None:
        return None
    engines = hardware.get("engines", 1) * hardware.get("gpus_per_engine", 1)
    rewards = [r for s in (recipe.get("stages") or {}).values() for r in s.get("rewards") or ()]
    scorer = any(isinstance(reward, Mapping) for reward in rewards)
    return price * (hardware.get("ranks", 1) + engines + scorer) * seconds / HOUR_S
