"""Budgets against what they spend."""

import pytest

from pipeline.depth.compare.slider import slider, unseen_budgets


def test_unseen_budgets_are_the_middles_of_equal_parts() -> None:
    assert unseen_budgets([0.7, 0.2, 0.4], count=5) == pytest.approx([0.25, 0.35, 0.45, 0.55, 0.65])


TABLE = [{"budget": 0.2, "mean_depth": 1.2}, {"budget": 0.7, "mean_depth": 4.2}]


def test_a_sliders_error_is_a_share_of_its_range() -> None:
    found = slider([0.3, 0.4], [0.32, 0.39], table=TABLE)
    assert found.budget_error == pytest.approx(0.04)
    assert found.cheapest_depth == 1.2
    assert found.monotone
    assert found.budgets[0] == {"budget": 0.3, "spent": 0.32}
    assert not slider([0.3, 0.4], [0.4, 0.3], table=TABLE).monotone


def test_one_depth_at_every_price_has_nothing_to_slide() -> None:
    found = slider([], [], table=TABLE[:1])
    assert (found.budget_error, found.cheapest_depth) == (None, 1.2)
