"""Advantages of decisions against numbers worked by hand."""

import math

import pytest
import torch

from pipeline.depth.rl.advantage import Member, decision_advantages, group_scores
from pipeline.depth.rl.credit import decisions_of


def member(outcome: float, depths: list[int], *, group: str = "a", forced: bool = False) -> Member:
    return Member(
        group=group, outcome=outcome, log_price=math.log(0.5), depths=depths, forced=forced
    )


def test_forced_members_do_not_move_the_baseline() -> None:
    members = [member(1, [1]), member(0, [1]), member(0, [4], forced=True)]
    score = group_scores(members)["a"]
    assert score.baseline == 0.5
    assert score.solvability == pytest.approx(1 / 3)
    alone = group_scores([member(0.4, [4], forced=True)])["a"]
    assert alone.baseline == 0.4


def test_solvability_stays_between_zero_and_one() -> None:
    assert group_scores([member(-2, [1])])["a"].solvability == 0.0
    assert group_scores([member(3, [1])])["a"].solvability == 1.0


def test_advantages_by_hand() -> None:
    members = [member(1, [1, 3]), member(0, [2, 2]), member(0, [3, 3], forced=True)]
    made = [decisions_of(m.depths, cap=3) for m in members]
    found = decision_advantages(members, made, max_depth=3, ref_tokens=2, solvability_floor=0.0)
    # the policy's remaining iterations: after 1: 0, 2, 1, 1 (mean 1); after 2: 1, 0, 0 (mean 1/3)
    unit = 0.5 * (1 / 3) / 6
    assert found[0].tolist() == pytest.approx([0.5 + unit, 0.5 - unit, 0.5 - unit * 2 / 3])
    assert found[1].tolist() == pytest.approx([-0.5, -0.5 + unit / 3] * 2)
    assert found[2].tolist() == pytest.approx([-0.5 - unit, -0.5 - unit * 2 / 3] * 2)


def test_a_group_that_agrees_still_feels_the_price_in_proportion() -> None:
    members = [member(1, [1, 1]), member(1, [3, 3])]
    made = [decisions_of(m.depths, cap=3) for m in members]
    found = torch.cat(
        decision_advantages(members, made, max_depth=3, ref_tokens=2, solvability_floor=0.0)
    )
    assert found.abs().max() == pytest.approx(0.5 / 6)


@pytest.mark.parametrize(("floor", "weight"), [(0.0, 0.0), (0.2, 0.2), (1.0, 1.0)])
def test_a_hopeless_prompt_feels_the_floors_share_of_the_price(floor: float, weight: float) -> None:
    members = [member(0, [1]), member(0, [3])]
    made = [decisions_of(m.depths, cap=3) for m in members]
    found = torch.cat(
        decision_advantages(members, made, max_depth=3, ref_tokens=1, solvability_floor=floor)
    )
    assert found[0].item() == pytest.approx(weight * 0.5 / 3)
