"""GRPO's advantages and losses in closed form. The variants against TRL: test_grpo_trainer."""

import math

import pytest
import torch

from pipeline.recipe.grpo_stage import Variant
from pipeline.train.grpo_loss import (
    TRUNCATION_CAP,
    Objective,
    Tokens,
    Totals,
    advantages,
    flat_share,
    loss,
)
from pipeline.train.token_logprobs import token_logprobs

NAN = math.nan


def one_token(*, new: float, old: float, engine: float, advantage: float) -> Tokens:
    def value(number: float) -> torch.Tensor:
        return torch.tensor([number])

    return Tokens(
        logprobs=value(new),
        old=value(old),
        engine=value(engine),
        advantages=value(advantage),
        rows=torch.tensor([0]),
        lengths=torch.tensor([1]),
    )


def test_an_unscored_completion_is_no_part_of_its_group() -> None:
    rewards = torch.tensor([1.0, 0.0, NAN, 0.0, NAN, NAN, NAN, 1.0])
    values = advantages(rewards, group=4, variant="dr_grpo").tolist()
    assert values[:4] == pytest.approx([2 / 3, -1 / 3, 0.0, -1 / 3])
    assert values[4:] == [0.0] * 4  # one alone is its own mean


def test_deviations_are_of_the_group_or_of_the_batch() -> None:
    rewards = torch.tensor([1.0, 0.0, 1.0, 1.0])
    spread = math.sqrt(0.5) + 1e-4
    by_group = advantages(rewards, group=2, variant="grpo").tolist()
    assert by_group == pytest.approx([0.5 / spread, -0.5 / spread, 0.0, 0.0])
    whole = rewards.std().item() + 1e-4
    by_batch = advantages(rewards, group=2, variant="cispo").tolist()
    assert by_batch == pytest.approx([0.5 / whole, -0.5 / whole, 0.0, 0.0])


def test_groups_without_two_scored_rewards_are_flat() -> None:
    assert flat_share(torch.tensor([1.0, 1.0, 0.0, 1.0, NAN, NAN, NAN, 3.0]), group=2) == 0.75


@pytest.mark.parametrize(
    ("ratio", "advantage", "counted"),
    [(1.0, 2.0, 1.0), (1.5, 2.0, 1.2), (1.5, -2.0, 1.5), (0.5, 2.0, 0.5), (0.5, -2.0, 0.8)],
)
def test_a_ratio_counts_within_its_clip_where_that_lowers_the_gain(
    ratio: float, advantage: float, counted: float
) -> None:
    objective = Objective.of(variant="grpo", clip=0.2, kl=0.0, max_tokens=8)
    tokens = one_token(new=math.log(ratio) - 1, old=-1.0, engine=-1.0, advantage=advantage)
    result = loss(tokens, objective, Totals(rows=1, tokens=1))
    assert result.loss.item() == pytest.approx(-counted * advantage)
    assert bool(result.clipped) == (counted != ratio)


@pytest.mark.parametrize("apart", [-1.0, 0.3, 5.0])
def test_a_token_counts_as_often_as_the_trainer_would_sample_it_up_to_a_cap(apart: float) -> None:
    objective = Objective.of(variant="dapo", clip=None, kl=0.0, max_tokens=8)
    tokens = one_token(new=-1.0, old=-1.0, engine=-1.0 - apart, advantage=1.0)
    result = loss(tokens, objective, Totals(rows=1, tokens=1))
    assert result.loss.item() == pytest.approx(-min(math.exp(apart), TRUNCATION_CAP))


@pytest.mark.parametrize("variant", ["grpo", "dapo", "dr_grpo", "gspo", "cispo"])
def test_passes_add_up_to_the_step(variant: Variant) -> None:
    """The loss of all rows in one pass, and the sum of two passes with half of them."""
    generator = torch.Generator().manual_seed(3)
    lengths = torch.tensor([3, 1, 4, 2])
    rows = torch.arange(4).repeat_interleave(lengths)
    draw = lambda: -torch.rand(10, generator=generator)  # noqa: E731
    new, old, engine, reference = (draw() for _ in range(4))
    gains = torch.tensor([1.0, -0.5, 0.0, 2.0])[rows]
    objective = Objective.of(variant=variant, clip=0.1, kl=0.3, max_tokens=8)
    totals = Totals(rows=4, tokens=10)

    def part(first: int, end: int) -> torch.Tensor:
        inside = (rows >= first) & (rows < end)
        return loss(
            Tokens(
                logprobs=new[inside],
                old=old[inside],
                engine=engine[inside],
                advantages=gains[inside],
                rows=rows[inside] - first,
                lengths=lengths[first:end],
                reference=reference[inside],
            ),
            objective,
            totals,
        ).loss

    assert (part(0, 2) + part(2, 4)).item() == pytest.approx(part(0, 4).item(), rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_log_probabilities_have_their_own_gradient(temperature: float) -> None:
    torch.manual_seed(5)
    logits = torch.randn(6, 9, requires_grad=True)
    targets, weight = torch.arange(6), torch.linspace(-1, 2, 6)
    expected = (logits / temperature).log_softmax(-1).gather(1, targets[:, None])[:, 0]
    (gradient,) = torch.autograd.grad((expected * weight).sum(), logits)
    logprobs, _ = token_logprobs(logits, targets, temperature=temperature)
    torch.testing.assert_close(logprobs, expected)
    torch.testing.assert_close(torch.autograd.grad((logprobs * weight).sum(), logits)[0], gradient)
