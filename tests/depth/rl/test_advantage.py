"""Advantages of decisions against numbers worked by hand."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from pipeline.depth.model.decisions import decisions_of
from pipeline.depth.rl.advantage import Member, baselines_of, decision_advantages, solvability


def member(outcome: float, depths: list[int], *, group: str = "a") -> Member:
    return Member(group=group, outcome=outcome, log_price=math.log(0.5), depths=depths)


def test_a_member_is_compared_with_the_others_of_its_group() -> None:
    members = [member(2, [1]), member(0, [1]), member(0.4, [2]), member(7, [4], group="b")]
    assert baselines_of(members) == pytest.approx([0.2, 1.2, 1.0, 0.0])


def test_solvability_stays_between_zero_and_one() -> None:
    assert solvability([member(-2, [1])]) == 0.0
    assert solvability([member(3, [1])]) == 1.0
    assert solvability([]) == 0.0


def test_advantages_by_hand() -> None:
    members = [member(1, [1, 3]), member(0, [2, 2]), member(0, [3, 3])]
    made = [decisions_of(m.depths, cap=3) for m in members]
    found = decision_advantages(members, made, max_depth=3, ref_tokens=2, solvability_floor=0.0)
    # remaining iterations after 1 and after 2: 0, 2 and 1; 1, 1 and 0, 0; 2, 2 and 1, 1
    unit = 0.5 / 6  # of price; times what the others say of the prompt: 0, 1/2, 1/2
    assert found[0].tolist() == pytest.approx([1.0] * 3)
    for number, (after_one, after_two) in {1: (1 - 6 / 4, 0 - 1), 2: (2 - 1, 1 - 1 / 3)}.items():
        assert found[number].tolist() == pytest.approx(
            [-0.5 - unit / 2 * after_one, -0.5 - unit / 2 * after_two] * 2
        )


@pytest.mark.parametrize("outcome", [1, 2])
def test_a_group_that_agrees_still_feels_the_price_in_proportion(outcome: float) -> None:
    """Once, also where rewards go over 1."""
    members = [member(outcome, [1, 1]), member(outcome, [3, 3])]
    made = [decisions_of(m.depths, cap=3) for m in members]
    found = torch.cat(
        decision_advantages(members, made, max_depth=3, ref_tokens=2, solvability_floor=0.0)
    )
    assert found.tolist() == pytest.approx([2 * 0.5 / 6] * 2 + [-2 * 0.5 / 6, -0.5 / 6] * 2)


@pytest.mark.parametrize(("floor", "weight"), [(0.0, 0.0), (0.2, 0.2), (1.0, 1.0)])
def test_a_hopeless_prompt_feels_the_floors_share_of_the_price(floor: float, weight: float) -> None:
    members = [member(0, [1]), member(0, [3])]
    made = [decisions_of(m.depths, cap=3) for m in members]
    found = torch.cat(
        decision_advantages(members, made, max_depth=3, ref_tokens=1, solvability_floor=floor)
    )
    assert found[0].item() == pytest.approx(2 * weight * 0.5 / 3)


LOGITS = (0.4, -0.7)  # of going on after iterations 1 and 2
RIGHT = {1: 0.2, 2: 0.5, 3: 0.9}  # outcome by a completion's mean depth, between its neighbours


def outcome(depths: tuple[int, ...]) -> float:
    mean = sum(depths) / len(depths)
    low = min(int(mean), 2)
    return RIGHT[low] + (RIGHT[low + 1] - RIGHT[low]) * (mean - low)


def chance(depths: tuple[int, ...], logits: Tensor, *, cap: int) -> Tensor:
    """Of these depths of a completion's tokens, which do not see each other."""
    go = torch.sigmoid(logits)
    by_depth = {d: go[: d - 1].prod() * (1 - go[d - 1] if d < cap else 1.0) for d in range(1, cap)}
    by_depth[cap] = go[: cap - 1].prod()
    return torch.stack([by_depth[depth] for depth in depths]).prod()


@pytest.mark.parametrize(("cap", "tokens", "size"), [(2, 1, 2), (2, 1, 3), (3, 2, 2), (3, 1, 4)])
@pytest.mark.parametrize("floor", [0.0, 0.3, 1.0])
def test_the_expected_gradient_is_that_of_outcome_less_price_times_iterations(
    cap: int, tokens: int, size: int, floor: float
) -> None:
    """By enumeration of all that a group of `size` completions may do, against the derivative of
    the objective: in a small group a baseline that holds the member itself would show by a half."""
    price, ref_tokens = 0.8, tokens
    every = list(itertools.product(range(1, cap + 1), repeat=tokens))
    logits = torch.tensor(LOGITS[: cap - 1], dtype=torch.double, requires_grad=True)
    chances = torch.stack([chance(depths, logits, cap=cap) for depths in every])
    outcomes = torch.tensor([outcome(depths) for depths in every], dtype=torch.double)
    iterations = torch.tensor([float(sum(depths)) for depths in every], dtype=torch.double)
    reached = (chances * outcomes).sum()
    weight = (floor + (1 - floor) * reached).detach()
    objective = reached - price * weight * (chances * iterations).sum() / (cap * ref_tokens)
    (analytic,) = torch.autograd.grad(objective, logits)

    go = torch.sigmoid(logits.detach())
    expected = torch.zeros_like(analytic)
    for group in itertools.product(range(len(every)), repeat=size):
        members = [
            Member(
                group="a", outcome=float(outcomes[i]), log_price=math.log(price),
                depths=every[i],
            )
            for i in group
        ]  # fmt: skip
        made = [decisions_of(m.depths, cap=cap) for m in members]
        advantages = decision_advantages(
            members, made, max_depth=cap, ref_tokens=ref_tokens, solvability_floor=floor
        )
        together = chances.detach()[list(group)].prod()
        for decided, advantage in zip(made, advantages, strict=True):
            at = decided.iteration - 1
            score = decided.goes_on.double() - go[at]  # d log chance / d logit
            expected.index_add_(0, at, together * advantage.double() * score / size)
    assert expected.tolist() == pytest.approx(analytic.tolist(), abs=1e-6)
