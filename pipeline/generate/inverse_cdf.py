"""Tokens from logits, each drawn from its request's own random numbers."""

import torch
from torch import Tensor

from pipeline.recurrent.counter import TOKEN, uniform

BLOCK = 256  # words


def token_draws(seeds: Tensor, positions: Tensor) -> Tensor:
    """Uniform draws, float64 [N], of the tokens after positions [N], by seeds [N] of requests."""
    return uniform(seeds, positions, 0, stream=TOKEN)


def sample(
    logits: Tensor,
    *,
    temperature: Tensor,
    top_p: Tensor | None,
    greedy: Tensor | None,
    draws: Tensor,
) -> tuple[Tensor, Tensor]:
    """Tokens [N] int64, and their log-probabilities [N] float32 under what was sampled from.

    One draw per row, by the inverse CDF.

    Args:
        logits: [N, V].
        temperature: [N] float32, not 0.
        top_p: [N] float32; None where every row's is 1.
        greedy: [N] bool, rows that take the likeliest token; None: none does.
        draws: [N] float64 uniform draws, of `token_draws`.
    """
    scaled = logits.float() / temperature[:, None]
    if top_p is not None:
        scaled = nucleus(scaled, top_p)
    logprobs = scaled.log_softmax(-1)
    tokens = inverse_cdf(logprobs.exp(), draws)[:, None]
    if greedy is not None:
        tokens = torch.where(greedy[:, None], scaled.argmax(-1, keepdim=True), tokens)
    return tokens[:, 0], logprobs.gather(-1, tokens)[:, 0]


def inverse_cdf(weights: Tensor, draws: Tensor) -> Tensor:
    """[N] int64, the first index at which a row's running sum exceeds its draw's share of the sum.

    In two steps, first the block of `BLOCK` words and then the word in it, which takes one pass
    over the weights. No index of weight 0 is ever drawn.

    Args:
        weights: [N, V] float32, none negative, each row with a positive one.
        draws: [N] float64 in [0, 1).
    """
    rows, words = weights.shape
    blocks = -(-words // BLOCK)
    if words % BLOCK:
        weights = torch.nn.functional.pad(weights, (0, blocks * BLOCK - words))
    weights = weights.view(rows, blocks, BLOCK)
    ends = weights.sum(-1).double().cumsum(-1)
    target = _below(draws * ends[:, -1], ends[:, -1])[:, None]
    block = torch.searchsorted(ends, target, right=True)
    before = torch.where(block > 0, ends.gather(-1, (block - 1).clamp_min(0)), 0.0)
    inside = weights.gather(1, block[:, :, None].expand(rows, 1, BLOCK))[:, 0].double().cumsum(-1)
    word = torch.searchsorted(inside, _below(target - before, inside[:, -1:]), right=True)
    return (block * BLOCK + word)[:, 0]


def _below(target: Tensor, end: Tensor) -> Tensor:
    """The target, under the end: rounding may have put it there, past all that has weight."""
    return torch.minimum(target, torch.nextafter(end, torch.zeros_like(end)))


def nucleus(logits: Tensor, top_p: Tensor) -> Tensor:
    """Logits [N, V], minus infinity outside the smallest set of likeliest tokens whose
    probability reaches `top_p` [N] (arXiv 1904.09751, section 3.1)."""
    ordered, order = logits.sort(dim=-1, descending=True)
    before = ordered.softmax(-1).cumsum(-1).roll(1, -1)
    before[:, 0] = 0.0
    outside = (before >= top_p[:, None]) & (top_p[:, None] < 1)
    return logits.masked_fill(torch.zeros_like(outside).scatter(-1, order, outside), -torch.inf)
