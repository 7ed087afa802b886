"""Rows of text -> token rows in training order. Pure: a function of the rows and the seed."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from math import ceil

from transformers import PreTrainedTokenizerBase

IGNORED = -100  # label of a token without loss


@dataclass(frozen=True, kw_only=True)
class TokenRow:
    """One training example."""

    input_ids: list[int]
    labels: list[int]  # `IGNORED` where the token carries no loss


def text_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of rendered texts, without special tokens of the tokenizer's own."""
    if not texts:
        return []
    return tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False)[
        "input_ids"
    ]


def token_rows(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    completions: Sequence[str],
    *,
    completion_only: bool,
) -> list[TokenRow]:
    """Prompt, completion and end of sequence as training examples.

    Prompt and completion are tokenized apart, as they are when the model generates.
    """
    eos = tokenizer.eos_token_id
    rows = []
    for prompt, completion in zip(
        text_ids(tokenizer, prompts), text_ids(tokenizer, completions), strict=True
    ):
        answer = [*completion, eos]
        hidden = [IGNORED] * len(prompt) if completion_only else prompt
        rows.append(TokenRow(input_ids=prompt + answer, labels=hidden + answer))
    return rows


def steps_for(rows: int, *, epochs: float, batch_rows: int) -> int:
    """Optimizer steps that show every row `epochs` times, rounded up."""
    return max(ceil(rows * epochs / batch_rows - 1e-9), 1)


def row_order(
    lengths: Sequence[int], *, steps: int, batch_rows: int, seed: int, shuffle: bool = True
) -> list[int]:
    """Indices of the rows of all steps, `batch_rows` each.

    Epochs follow each other, each shuffled anew or all in the order given, and may end inside a
    batch; the last batch is filled from one more epoch. Rows of a batch come longest first, so
    that the forward passes it is split into pad little.
    """
    stream = _shuffled_epochs(len(lengths), seed) if shuffle else cycle(range(len(lengths)))
    order: list[int] = []
    for _ in range(steps):
        batch = [next(stream) for _ in range(batch_rows)]
        order += sorted(batch, key=lambda index: -lengths[index])
    return order


def _shuffled_epochs(rows: int, seed: int) -> Iterator[int]:
    epoch = 0
    while True:
        indices = list(range(rows))
        random.Random(f"{seed}/{epoch}").shuffle(indices)
        yield from indices
        epoch += 1
