"""Completions as packed forward passes: a prompt once for all its samples, no padding. Pure.

A completion's row is the prompt's last token and the completion but for its last: each of the row's
positions predicts one token of the completion. What stands before is the prefix, which rows share
whose prefixes are the same tokens at the same depths.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.recurrent.shared_prefix import SharedPrefix


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One sample of a step, as the optimizer uses it. _P prompt tokens, _T completion tokens."""

    prompt: tuple[int, ...]  # [_P]
    tokens: tuple[int, ...]  # [_T]
    logprobs: tuple[float, ...]  # [_T], as they were sampled
    advantage: float
    depths: tuple[int, ...] | None = None  # [_P + _T - 1] of the positions that ran
    staleness: int = 0  # updates of a whole step between the sampling weights and the trainer's

    @property
    def prefix(self) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
        """What rows may share: the prompt but its last token, and its depths."""
        before = len(self.prompt) - 1
        return self.prompt[:before], None if self.depths is None else self.depths[:before]

    @property
    def row(self) -> tuple[int, ...]:
        """[_T] the row's tokens."""
        return (self.prompt[-1], *self.tokens[:-1])


@dataclass(frozen=True, kw_only=True)
class PackedRows:
    """One forward pass: T tokens in one sequence, N of them predicting completions' tokens."""

    ids: Tensor  # [1, T]
    positions: Tensor  # [1, T]
    depths: Tensor | None  # [1, T]
    layout: SharedPrefix
    predicting: Tensor  # [N] positions in T
    targets: Tensor  # [N]
    logprobs: Tensor  # [N] float32, as they were sampled
    advantages: Tensor  # [N] float32
    rows: Tensor  # [N] which of the R rows
    lengths: Tensor  # [R]
    staleness: Tensor  # [N] their rows'
    completions: tuple[Completion, ...]


def pack(completions: Sequence[Completion], *, device: torch.device | str = "cpu") -> PackedRows:
    """One forward pass of some completions, each prefix once."""
    prefixes = list(dict.fromkeys(c.prefix for c in completions))
    place = {prefix: index for index, prefix in enumerate(prefixes)}
    lengths = [len(tokens) for tokens, _ in prefixes]
    ids = [token for tokens, _ in prefixes for token in tokens]
    positions = [at for length in lengths for at in range(length)]
    depths = [depth for _, ran in prefixes for depth in ran or ()]
    start = len(ids)
    for c in completions:
        before = len(c.prompt) - 1
        ids += c.row
        positions += range(before, before + len(c.row))
        depths += () if c.depths is None else c.depths[before:]

    def tensor(values: Sequence[int] | Sequence[float], dtype: torch.dtype = torch.long) -> Tensor:
        return torch.tensor(values, dtype=dtype, device=device)

    return PackedRows(
        ids=tensor(ids)[None],
        positions=tensor(positions)[None],
        depths=tensor(depths)[None] if depths else None,
        layout=SharedPrefix(
            lengths, [(place[c.prefix], len(c.tokens)) for c in completions], device=device
        ),
        predicting=torch.arange(start, len(ids), device=device),
        targets=tensor([token for c in completions for token in c.tokens]),
        logprobs=tensor([x for c in completions for x in c.logprobs], torch.float32),
        advantages=tensor([c.advantage for c in completions for _ in c.tokens], torch.float32),
        rows=tensor([row for row, c in enumerate(completions) for _ in c.tokens]),
        lengths=tensor([len(c.tokens) for c in completions]),
        staleness=tensor([c.staleness for c in completions for _ in c.tokens]),
        completions=tuple(completions),
    )


def budget_of(completions: Sequence[Completion], *, rows: int) -> int:
    """Tokens that `rows` padded rows would take: the room of one forward pass."""
    return rows * max(len(c.prompt) + len(c.tokens) - 1 for c in completions)


def split(completions: Sequence[Completion], *, budget: int) -> Iterator[list[Completion]]:
    """The completions in order, as many in each forward pass as `budget` tokens hold; one at
    least."""
    part: list[Completion] = []
    prefixes: set[object] = set()
    tokens = 0
    for c in completions:
        more = len(c.tokens) + (0 if c.prefix in prefixes else len(c.prompt) - 1)
        if part and tokens + more > budget:
            yield part
            part, prefixes, tokens = [], set(), 0
            more = len(c.tokens) + len(c.prompt) - 1
        part.append(c)
        prefixes.add(c.prefix)
        tokens += more
    if part:
        yield part
