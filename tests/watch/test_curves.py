import math
from typing import Any

import numpy as np
import pytest

from pipeline.measure.ledger import PHASES, PREFIX
from pipeline.watch.curves import AREAS, PANELS, _smoothed, pictures


def rows(count: int, **values: float) -> list[dict[str, Any]]:
    return [{"step": step, "steps": count, **values} for step in range(1, count + 1)]


def test_only_panels_with_metrics_are_drawn() -> None:
    assert [title for title, _ in pictures(rows(3, loss=1.0))] == ["Loss"]
    titles = [t for t, _ in pictures(rows(3, loss=1.0, reward=1.0, **{"reward/answer": 1.0}))]
    assert titles == ["Reward", "Reward components"]
    assert pictures(rows(3, lr=1e-4)) == []


@pytest.mark.parametrize("count", [1, 2, 40])
@pytest.mark.parametrize("value", [0.0, 0.5, math.nan])
def test_every_panel_survives_flat_and_missing_values(count: int, value: float) -> None:
    keys = ("reward", "held_out_accuracy", "logprob_gap")
    for _, svg in pictures(rows(count, **dict.fromkeys(keys, value))):
        assert svg.startswith("<svg")


def test_components_are_named_in_the_legend() -> None:
    svg = dict(pictures(rows(2, **{"reward/answer": 1.0, "reward/format": 0.5})))
    assert "answer" in svg["Reward components"]
    assert "format" in svg["Reward components"]


def test_all_phases_that_took_time_stand_on_each_other_in_their_own_colours() -> None:
    title = "Where a step's seconds go"
    spent = {f"{PREFIX}{phase}": 1.0 for phase in PHASES}
    whole = dict(pictures(rows(3, **spent)))[title]
    part = dict(pictures(rows(3, **(spent | {f"{PREFIX}sync": 0.0}))))[title]
    assert all(f">{phase}<" in whole for phase in PHASES)
    assert ">sync<" not in part
    assert AREAS[-1] in part  # what is idle keeps its colour
    assert len(set(AREAS)) == len(PHASES)
    for count in (1, 2, 40):
        assert "<svg" in dict(pictures(rows(count, **dict.fromkeys(spent, 0.0))))[title]


def test_smoothing_keeps_lines_and_ends() -> None:
    line = np.arange(50.0)
    assert np.allclose(_smoothed(line), line)
    noisy = np.random.default_rng(0).normal(size=200)
    assert _smoothed(noisy).std() < noisy.std() / 2


def test_panels_have_titles_of_their_own() -> None:
    assert len({panel.title for panel in PANELS}) == len(PANELS)
