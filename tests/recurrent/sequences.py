"""Three padded sequences and depths for them, and decoding in chunks."""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.recurrent.cache import RecurrentCache
from pipeline.recurrent.model import RecurrentForCausalLM

MakeModel = Callable[..., RecurrentForCausalLM]

LENGTHS = (9, 6, 8)
WIDTH = 9


def left_padded() -> tuple[Tensor, Tensor]:
    """Tokens [3, 9] and their mask, the shorter rows padded on the left."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, 40, (3, WIDTH), generator=generator)
    mask = torch.tensor([[0] * (WIDTH - n) + [1] * n for n in LENGTHS])
    return tokens * mask, mask


def depths_of(kind: str) -> Tensor:
    """Depths [3, 9]; by token, the sixth runs deeper than any before and the eighth shallower."""
    if kind == "uniform":
        return torch.full((3, WIDTH), 3)
    if kind == "sequence":
        return torch.tensor([1, 4, 2])[:, None].expand(3, WIDTH)
    by_token = torch.randint(1, 4, (3, WIDTH), generator=torch.Generator().manual_seed(2))
    by_token[:, 5], by_token[:, 7] = torch.tensor([5, 3, 6]), 1
    return by_token


def decoded(
    model: RecurrentForCausalLM, tokens: Tensor, mask: Tensor, depths: Tensor, *, chunks: list[int]
) -> Tensor:
    """Logits [B, T, V] of a call for every chunk of tokens, through one cache."""
    cache, logits, start = RecurrentCache(model.config), [], 0
    for end in itertools.accumulate(chunks):
        out = model(
            tokens[:, start:end],
            attention_mask=mask[:, :end],
            past_key_values=cache,
            depths=depths[:, start:end],
            use_cache=True,
        )
        logits.append(out.logits)
        start = end
    return torch.cat(logits, dim=1)
