"""The curves of a run's stages, in their order, with what changed on the way."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from pipeline.artifacts import MANIFEST
from pipeline.watch.curves import HELD_OUT, Marker, pictures
from pipeline.watch.run_reading import json_of, metrics_by_part

MOST_RESETS = 6
"""References that are drawn: of more a picture would show nothing else."""


def stage_curves(
    run_dir: Path, names: Sequence[str], recipe: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The pictures of every stage and part that wrote metrics, in the order of the stages."""
    curves = []
    for name in names:
        stage = (recipe.get("stages") or {}).get(name) or {}
        for part, rows in metrics_by_part(run_dir, name).items():
            if rows:
                markers = list(markers_of(stage, rows)) if part == name else []
                drawn = [
                    (_titled(run_dir, name, title), Markup(svg))
                    for title, svg in pictures(rows, markers=markers)
                ]
                curves.append({"stage": part, "pictures": drawn, "markers": markers})
    return [curve for curve in curves if curve["pictures"]]


def markers_of(stage: Mapping[str, Any], rows: Sequence[Mapping[str, float]]) -> Iterator[Marker]:
    """Where a reward model joins a GRPO stage's reward, and where its reference is replaced. Rows
    count optimizer steps, of which a step of rollouts may have several."""
    if stage.get("kind") != "grpo":
        return
    last, updates = max(row["step"] for row in rows), stage.get("updates_per_step") or 1
    for reward in stage.get("rewards") or ():
        if isinstance(reward, Mapping) and "model" in reward:
            first = -(-stage["steps"] * (1.0 - reward.get("last_fraction", 0.25)) // 1)
            entry = first * updates + 1  # its row: rows are counted from 1
            if entry <= last:
                yield Marker(step=entry, label=f"{reward['model']} joins")
    every = stage.get("reference_every")
    if every and stage.get("kl"):
        resets = range(every * updates, int(last), every * updates)
        for step in list(resets)[:MOST_RESETS]:
            yield Marker(step=step, label="new reference")


def _titled(run_dir: Path, stage: str, title: str) -> str:
    """A picture's title; held-out accuracy with the reward that counts it, once that is known."""
    manifest = run_dir / "stages" / stage / MANIFEST
    reward = json_of(manifest)["info"].get("watched_reward") if manifest.is_file() else None
    return f"{title} by {reward}" if reward and title == HELD_OUT else title
