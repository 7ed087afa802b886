"""Attention of many rows that stand one after another in a single sequence, prompts once.

    tokens   [ prefix of A | prefix of B | row A1 | row A2 | row B1 | ... ]   no padding
    A1 sees    prefix of A, and itself causally; nothing else

Linear layers, norms and the head work on the tokens as they stand. Attention alone gathers rows of
similar length into padded batches. Any model of transformers' attention interface can be called so
(`layout=`, with `IMPLEMENTATION` as its attention), and `RecurrentForCausalLM` too.

Shapes: T tokens, G prefixes, R rows, P and S longest prefix and row, H query heads, K KV heads, D
head size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface

IMPLEMENTATION = "shared_prefix"


@dataclass(frozen=True)
class _Rows:
    """Rows of similar length, padded at the right: where their and their prefixes' tokens are."""

    tokens: Tensor  # [R, S], 0 at padding
    keys: Tensor  # [R, P + S], of their prefix's tokens and their own; P is 0 where none has one
    allowed: Tensor | None  # [R, 1, S, P + S]; None where plain causal attention does
    order: Tensor  # [n] flat indices [R * S] of what is no padding

    @property
    def prefix(self) -> int:
        """P."""
        return self.keys.shape[1] - self.tokens.shape[1]


class SharedPrefix:
    """Who attends to whom in one packed sequence."""

    def __init__(
        self,
        prefixes: Sequence[int],
        rows: Sequence[tuple[int | None, int]],
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        """`prefixes`: lengths; `rows`: (index of the prefix or None, length), in token order."""
        starts = _starts(prefixes, at=0)
        row_starts = _starts([length for _, length in rows], at=sum(prefixes))
        self.tokens = sum(prefixes) + sum(length for _, length in rows)
        spans = [
            (start, length, (0, 0)) for start, length in zip(starts, prefixes, strict=True)
        ] + [
            (start, length, (0, 0) if of is None else (starts[of], prefixes[of]))
            for start, (of, length) in zip(row_starts, rows, strict=True)
        ]
        self.batches = [_padded(batch, device) for batch in _by_length(spans)]
        self._queries = torch.cat([batch.tokens.flatten() for batch in self.batches])
        self._keys = torch.cat([batch.keys.flatten() for batch in self.batches])
        first = _starts([batch.tokens.numel() for batch in self.batches], at=0)
        outputs = torch.cat(
            [start + batch.order for start, batch in zip(first, self.batches, strict=True)]
        )
        self._back = outputs[self._queries[outputs].argsort()]  # [T] where tokens' outputs are

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        scale: float | None = None,
        window: int | None = None,
        cap: float | None = None,
    ) -> Tensor:
        """Attention of q [1, H, T, D] over k and v [1, K, T, D]: [1, T, H, D].

        `window`: the tokens, itself included, that one attends to at most; None: all.
        `cap`: bounds the logits by a tanh (Gemma 2, arXiv 2408.00118, section 2); None: no bound.
        """
        grouped = q.shape[1] != k.shape[1]
        tokens = [batch.tokens for batch in self.batches]
        keys = [batch.keys for batch in self.batches]
        parts = zip(
            self.batches,
            _batches(q, self._queries, tokens),
            _batches(k, self._keys, keys),
            _batches(v, self._keys, keys),
            strict=True,
        )
        pieces = []
        for batch, queries, seen, values in parts:
            mask = batch.allowed if window is None else _windowed(batch, window)
            out = _attention(queries, seen, values, mask, scale=scale, cap=cap, grouped=grouped)
            pieces.append(out.transpose(1, 2).flatten(0, 1))
        return _taken(torch.cat(pieces), self._back)[None]


def _batches(x: Tensor, index: Tensor, shapes: Sequence[Tensor]) -> list[Tensor]:
    """Tokens of x [1, heads, T, D] at an index of all batches: [R, heads, S, D] of each."""
    taken = _taken(x[0].transpose(0, 1), index).split([shape.numel() for shape in shapes])
    return [
        part.unflatten(0, shape.shape).transpose(1, 2)
        for part, shape in zip(taken, shapes, strict=True)
    ]


def _taken(x: Tensor, index: Tensor) -> Tensor:
    """`x[index]` of x [n, heads, D] and index [m]. On CPU the gradient of an embedding's rows takes
    a fraction of the time of an index's."""
    return F.embedding(index, x.flatten(1)).unflatten(-1, x.shape[1:])


def _attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    *,
    scale: float | None,
    cap: float | None,
    grouped: bool,
) -> Tensor:
    """Attention of q [R, H, S, D] over k and v [R, K, P + S, D]; causal without a mask.

    On CUDA no fused kernel takes a mask and grouped heads together (flash attention has no masks,
    the memory-efficient one no groups), and the one that is left holds all logits [R, H, S, P + S]:
    keys and values are repeated there. That has not been run yet.
    """
    if grouped and (cap is not None or (mask is not None and q.is_cuda)):
        times = q.shape[1] // k.shape[1]
        k, v, grouped = k.repeat_interleave(times, 1), v.repeat_interleave(times, 1), False
    if cap is None:
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=grouped
        )
    logits = q @ k.transpose(2, 3) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if mask is None:
        mask = torch.ones(logits.shape[-2:], dtype=torch.bool, device=q.device).tril()
    bounded = (torch.tanh(logits / cap) * cap).masked_fill(~mask, -torch.inf)
    return bounded.softmax(-1, dtype=torch.float32).to(q.dtype) @ v


def _starts(lengths: Sequence[int], *, at: int) -> list[int]:
    starts = []
    for length in lengths:
        starts.append(at)
        at += length
    return starts


_Span = tuple[int, int, tuple[int, int]]  # start, length, (start, length) of its prefix


def _by_length(spans: Sequence[_Span]) -> list[list[_Span]]:
    """Rows of a batch are at most twice as long as its shortest; those without tokens go."""
    batches: dict[tuple[int, int], list[_Span]] = {}
    for span in spans:
        if span[1]:
            batches.setdefault((span[1].bit_length(), span[2][1].bit_length()), []).append(span)
    return [batches[key] for key in sorted(batches)]


def _padded(spans: Sequence[_Span], device: torch.device | str) -> _Rows:
    starts, lengths = (torch.tensor([span[i] for span in spans], device=device) for i in (0, 1))
    own = torch.arange(int(lengths.max()), device=device)
    inside = own < lengths[:, None]  # [R, S]
    tokens = torch.where(inside, starts[:, None] + own, 0)
    order = inside.flatten().nonzero()[:, 0]
    before = torch.tensor([span[2] for span in spans], device=device)  # [R, 2]
    longest = int(before[:, 1].max())
    if not longest:
        return _Rows(tokens, tokens, None, order)
    at = torch.arange(longest, device=device)
    in_prefix = at < before[:, 1:]  # [R, P]
    prefix = torch.where(in_prefix, before[:, :1] + at, 0)
    causal = (own[:, None] >= own).expand(len(spans), -1, -1)
    allowed = torch.cat((in_prefix[:, None].expand(-1, len(own), -1), causal), dim=-1)
    return _Rows(tokens, torch.cat((prefix, tokens), dim=1), allowed[:, None], order)


def _windowed(batch: _Rows, window: int) -> Tensor | None:
    """The batch's mask within a sliding window; a row's first position follows its prefix."""
    own = torch.arange(batch.tokens.shape[1], device=batch.tokens.device)
    if batch.allowed is None:
        apart = own[:, None] - own
        return None if len(own) <= window else ((apart >= 0) & (apart < window))[None, None]
    width = batch.prefix
    length = batch.allowed[:, 0, 0, :width].sum(-1)  # [R]
    queries = length[:, None] + own  # [R, S]
    keys = torch.cat(
        (torch.arange(width, device=own.device).expand(len(length), -1), queries), dim=1
    )
    return batch.allowed & (queries[:, :, None] - keys[:, None] < window)[:, None]


def _interface(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    layout: SharedPrefix | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention as a model of transformers calls it."""
    if layout is None:
        raise ValueError(f"attention {IMPLEMENTATION!r} needs layout= of every call")
    out = layout.attend(query, key, value, scale=scaling, window=sliding_window, cap=softcap)
    return out, None


AttentionInterface.register(IMPLEMENTATION, _interface)
