"""Rows of text -> token rows in training order. Pure: a function of the rows and the seed."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from math import ceil

from pipeline.generate.chat import Chat

IGNORED = -100  # label of a token without loss


@dataclass(frozen=True, kw_only=True)
class TokenRow:
    """One training example."""

    input_ids: list[int]
    labels: list[int]  # `IGNORED` where the token carries no loss


def token_rows(
    chat: Chat,
    prompts: Sequence[str],
    completions: Sequence[str],
    *,
    completion_only: bool,
    further: Sequence[Sequence[str]] | None = None,
) -> list[TokenRow]:
    """Prompt, completion and end of turn as training examples.

    Prompt and completion are tokenized apart, as they are when the model generates. `further` has
    a conversation's later turns by row: what stands before an answer, the answer, and so on; each
    answer is a completion with its end of turn.
    """
    rows = []
    for prompt, completion, more in zip(
        chat.prompts_ids(prompts),
        chat.completions_ids(completions),
        further or [()] * len(prompts),
        strict=True,
    ):
        befores = [prompt, *chat.continuations_ids(more[::2])]
        answers = [completion, *chat.completions_ids(more[1::2])]
        row = TokenRow(input_ids=[], labels=[])
        for before, answer in zip(befores, answers, strict=True):
            row.input_ids.extend([*before, *answer, chat.row_end])
            hidden = [IGNORED] * len(before) if completion_only else before
            row.labels.extend([*hidden, *answer, chat.row_end])
        rows.append(row)
    return rows


def too_long_share(too_long: int, rest: int) -> dict[str, float]:
    """What metrics say of the rows that were left out for their length."""
    return {"too_long_share": too_long / (too_long + rest)}


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
