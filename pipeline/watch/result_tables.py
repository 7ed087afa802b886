"""The results of a run as tables: each model beside the base and beside what it was made from."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.errors import WrongInput
from pipeline.measure.paired import paired_test
from pipeline.recipe.stage_base import BASE
from pipeline.watch.evaluations import Evaluation, common_prompts, evaluations_of
from pipeline.watch.run_reading import json_of

LINEAGE = ("init", "teacher")
"""Keys of a stage that name the model which its own is to beat."""


def result_tables(run_dir: Path, recipe: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One table per set of prompts: its rows, and which k of pass@k any of them has.

    A row has `over_base` and `over_before`, paired tests with the name of the other model (`over`),
    where the run still has the answers of both; `over_before` is of the model that the stage began
    from, of its teacher, or else of the row before. Where that is the base it has the one alone.
    """
    rows: Sequence[dict[str, Any]] = json_of(run_dir / "results.json")
    evaluations = _by_row(run_dir, rows)
    tables = []
    for prompts in dict.fromkeys(row["prompts"] for row in rows):
        mine = [
            (row, evaluation)
            for row, evaluation in zip(rows, evaluations, strict=True)
            if row["prompts"] == prompts
        ]
        ks = sorted({int(k) for row, _ in mine for k in row.get("pass_at") or {}} - {1})
        for index, (row, _) in enumerate(mine):
            row["pass_at"] = {int(k): v for k, v in (row.get("pass_at") or {}).items()}
            row |= _tests(index, mine, recipe)
        tested = any(row["over_base"] or row["over_before"] for row, _ in mine)
        tables.append(
            {"prompts": prompts, "rows": [row for row, _ in mine], "ks": ks, "tested": tested}
        )
    return tables


def _by_row(run_dir: Path, rows: Sequence[Mapping[str, Any]]) -> list[Evaluation | None]:
    """The evaluation behind each row of the results; None where it cannot be read."""
    try:
        waiting = [e for e in evaluations_of(run_dir) if e.counts]
    except WrongInput:  # damaged, or answers that are gone: the results stand without tests
        return [None] * len(rows)
    found: list[Evaluation | None] = []
    for row in rows:
        named = (row["model"], row["prompts"])
        match = next((e for e in waiting if (e.model, e.prompts) == named), None)
        if match is not None:
            waiting.remove(match)
        found.append(match)
    return found


def _tests(
    index: int,
    rows: Sequence[tuple[Mapping[str, Any], Evaluation | None]],
    recipe: Mapping[str, Any],
) -> dict[str, Any]:
    row, evaluation = rows[index]
    base = _named(BASE, rows, besides=index)
    before = _before(index, rows, recipe)
    is_base = before is not None and before[0]["model"] == BASE
    return {
        "over_base": None if row["model"] == BASE else _test(base, evaluation),
        "over_before": None if is_base or row["model"] == BASE else _test(before, evaluation),
    }


def _before(
    index: int,
    rows: Sequence[tuple[Mapping[str, Any], Evaluation | None]],
    recipe: Mapping[str, Any],
) -> tuple[Mapping[str, Any], Evaluation | None] | None:
    stage = (recipe.get("stages") or {}).get(rows[index][0]["model"]) or {}
    for key in LINEAGE:
        if stage.get(key) and (row := _named(stage[key], rows, besides=index)) is not None:
            return row
    return rows[index - 1] if index else None


def _named(
    model: str, rows: Sequence[tuple[Mapping[str, Any], Evaluation | None]], *, besides: int
) -> tuple[Mapping[str, Any], Evaluation | None] | None:
    others = (pair for place, pair in enumerate(rows) if place != besides)
    return next((pair for pair in others if pair[0]["model"] == model), None)


def _test(
    other: tuple[Mapping[str, Any], Evaluation | None] | None, evaluation: Evaluation | None
) -> dict[str, Any] | None:
    if other is None or other[1] is None or evaluation is None:
        return None
    names = common_prompts(other[1], evaluation)
    if not names:
        return None
    test = paired_test([other[1].counts[n] for n in names], [evaluation.counts[n] for n in names])
    return {"over": other[0]["model"], **asdict(test)}
