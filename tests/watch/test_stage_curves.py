from pathlib import Path
from typing import Any

import pytest

from pipeline.watch.curves import Marker
from pipeline.watch.stage_curves import MOST_RESETS, markers_of, stage_curves

STAGE: dict[str, Any] = {
    "kind": "grpo",
    "steps": 20,
    "updates_per_step": 1,
    "kl": 0.001,
    "reference_every": 400,
    "rewards": ["answer", {"model": "preference", "weight": 0.1, "last_fraction": 0.25}],
}


def rows(count: int) -> list[dict[str, Any]]:
    return [{"step": step, "reward": step / count} for step in range(1, count + 1)]


def test_a_reward_model_is_marked_at_the_first_row_that_has_it() -> None:
    joins = [Marker(step=16, label="preference joins")]
    assert list(markers_of(STAGE, rows(20))) == joins
    assert list(markers_of({**STAGE, "updates_per_step": 4}, rows(80))) == [
        Marker(step=61, label="preference joins")
    ]
    assert list(markers_of(STAGE, rows(15))) == []  # it has not come that far


@pytest.mark.parametrize(("kl", "count"), [(0.001, 3), (0.0, 0)])
def test_new_references_are_marked_where_there_is_a_kl(kl: float, count: int) -> None:
    stage = {**STAGE, "rewards": ["answer"], "reference_every": 5, "kl": kl}
    markers = list(markers_of(stage, rows(20)))
    assert markers == [Marker(step=s, label="new reference") for s in (5, 10, 15)[:count]]


def test_many_references_are_not_all_drawn() -> None:
    stage = {**STAGE, "rewards": ["answer"], "reference_every": 1}
    assert len(list(markers_of(stage, rows(20)))) == MOST_RESETS


def test_other_kinds_have_no_markers() -> None:
    assert list(markers_of({"kind": "sft"}, rows(3))) == []


def test_stages_are_in_their_order_and_markers_are_drawn(tmp_path: Path) -> None:
    (tmp_path / "metrics").mkdir()
    for name in ("align", "cold"):
        file = tmp_path / "metrics" / f"{name}.jsonl"
        file.write_text("".join(f'{{"step": {n}, "reward": 0.5}}\n' for n in range(1, 21)))
    recipe = {"stages": {"cold": {"kind": "sft"}, "align": STAGE}}
    curves = stage_curves(tmp_path, ["cold", "report", "align"], recipe)
    assert [curve["stage"] for curve in curves] == ["cold", "align"]
    plain, marked = (dict(curve["pictures"])["Reward"] for curve in curves)
    assert "preference joins" in marked
    assert "preference joins" not in plain
