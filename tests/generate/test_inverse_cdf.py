"""Tokens from logits: frequencies, top-p, greedy rows, and draws at the ends."""

import math

import pytest
import torch

from pipeline.generate.inverse_cdf import BLOCK, inverse_cdf, nucleus, sample, token_draws

LOGITS = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()


def test_tokens_come_as_often_as_they_are_likely() -> None:
    drawn = token_draws(torch.tensor(7), torch.arange(20000))
    logits, ones = LOGITS.expand(20000, -1), torch.ones(20000)
    tokens, logprobs = sample(logits, temperature=ones, top_p=None, greedy=None, draws=drawn)
    shares = tokens.bincount(minlength=4) / 20000
    assert torch.allclose(shares, LOGITS.exp(), atol=0.015)
    assert torch.allclose(logprobs, LOGITS[tokens])


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    kept = nucleus(LOGITS.flip(0).expand(4, -1), torch.tensor([0.4, 0.6, 0.8, 1.0])).isfinite()
    assert kept.sum(-1).tolist() == [1, 2, 3, 4]
    assert kept[1].tolist() == [False, False, True, True]


def test_no_draw_takes_a_token_without_probability() -> None:
    logits = torch.tensor([[-torch.inf, 1.0, 2.0, -torch.inf]]).expand(2, -1)
    ends = torch.tensor([0.0, 1 - 2.0**-53], dtype=torch.float64)
    tokens, _ = sample(logits, temperature=torch.ones(2), top_p=None, greedy=None, draws=ends)
    assert tokens.tolist() == [1, 2]


def test_greedy_rows_stand_among_others() -> None:
    drawn = torch.tensor([0.99, 0.99], dtype=torch.float64)
    greedy = torch.tensor([True, False])
    tokens, _ = sample(
        LOGITS.expand(2, -1), temperature=torch.ones(2), top_p=None, greedy=greedy, draws=drawn
    )
    assert tokens.tolist() == [0, 3]


def test_draws_do_not_depend_on_where_counting_starts() -> None:
    whole = token_draws(torch.tensor(3), torch.arange(10))
    assert (token_draws(torch.tensor(3), torch.arange(4, 10)) == whole[4:]).all()


@pytest.mark.parametrize("words", [3, BLOCK, BLOCK + 1, 5 * BLOCK - 7])
def test_the_blocks_are_the_whole_sum_in_two_steps(words: int) -> None:
    """Against the running sum of the whole row in float64; blocks full and not."""
    generator = torch.Generator().manual_seed(words)
    weights = torch.randn(512, words, generator=generator).mul(3).softmax(-1)
    draws = torch.rand(512, generator=generator, dtype=torch.float64)
    cdf = weights.double().cumsum(-1)
    expected = torch.searchsorted(cdf, (draws * cdf[:, -1])[:, None], right=True)[:, 0]
    drawn = inverse_cdf(weights, draws)
    beside = drawn != expected  # only where the draw is at a word's end, to float32's rounding
    assert beside.float().mean() < 0.01
    ends = cdf.gather(1, torch.minimum(drawn, expected)[:, None])[:, 0]
    assert ((draws * cdf[:, -1] - ends).abs()[beside] < 1e-6).all()


@pytest.mark.parametrize("draw", [0.0, 0.5, 1 - 2.0**-53])
def test_weightless_blocks_are_never_drawn(draw: float) -> None:
    weights = torch.zeros(1, 4 * BLOCK + 9)
    weights[0, [BLOCK + 3, 3 * BLOCK - 1]] = 0.5
    word = inverse_cdf(weights, torch.tensor([draw], dtype=torch.float64))
    assert word.item() == (BLOCK + 3 if draw < 0.5 else 3 * BLOCK - 1)


def test_a_large_vocabulary_is_drawn_as_its_distribution_says() -> None:
    """Pearson's chi-square of 100,000 draws over 2,000 words, at five standard deviations."""
    words, count = 2000, 100_000
    logits = torch.randn(words, generator=torch.Generator().manual_seed(1))
    draws = token_draws(torch.tensor(11), torch.arange(count))
    tokens = inverse_cdf(logits.softmax(-1).expand(count, -1), draws)
    expected = count * logits.softmax(-1)
    statistic = ((tokens.bincount(minlength=words) - expected) ** 2 / expected).sum().item()
    assert abs(statistic - (words - 1)) < 5 * math.sqrt(2 * (words - 1))
