"""Tokens from logits, each drawn from its request's own random numbers."""

import numpy as np
import torch
from torch import Tensor

from pipeline.recurrent.counter import TOKEN, uniform


def token_draws(seed: int, *, first: int, count: int) -> np.ndarray:
    """Uniform draws, float64 [count], of the tokens after positions `first` and on."""
    positions = torch.arange(first, first + count)
    return uniform(torch.tensor(seed), positions, 0, stream=TOKEN).numpy()


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
    cdf = logprobs.double().exp_().cumsum(-1)
    # a draw may round up to the CDF's end, past the last token that has any probability
    mass = torch.nextafter(cdf[:, -1], torch.zeros_like(cdf[:, -1]))
    target = torch.minimum(draws * cdf[:, -1], mass)
    tokens = torch.searchsorted(cdf, target[:, None], right=True)
    if greedy is not None:
        tokens = torch.where(greedy[:, None], scaled.argmax(-1, keepdim=True), tokens)
    return tokens[:, 0], logprobs.gather(-1, tokens)[:, 0]


def nucleus(logits: Tensor, top_p: Tensor) -> Tensor:
    """Logits [N, V], minus infinity outside the smallest set of likeliest tokens whose
    probability reaches `top_p` [N] (arXiv 1904.09751, section 3.1)."""
    ordered, order = logits.sort(dim=-1, descending=True)
    before = ordered.softmax(-1).cumsum(-1).roll(1, -1)
    before[:, 0] = 0.0
    outside = (before >= top_p[:, None]) & (top_p[:, None] < 1)
    return logits.masked_fill(torch.zeros_like(outside).scatter(-1, order, outside), -torch.inf)
