"""Budgets against what they spend."""

import pytest

from pipeline.depth.compare.slider import slider, unseen_budgets


def test_unseen_budgets_are_the_middles_of_equal_parts() -> None:
    assert unseen_budgets([0.7, 0.2, 0.4], count=5) == pytest.approx([0.25, 0.35, 0.45, 0.55, 0.65])


def test_a_sliders_error_is_a_share_of_its_range() -> None:
    found = slider([0.3, 0.4], [0.32, 0.39], reach=0.5)
    assert found.budget_error == pytest.approx(0.04)
    assert found.monotone
    assert found.budgets[0] == {"budget": 0.3, "spent": 0.32}
    assert not slider([0.3, 0.4], [0.4, 0.3], reach=0.5).monotone
