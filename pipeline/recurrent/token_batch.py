"""New tokens with what they attend to: positions, masks, caps, and the cache behind them.

Read `prepare` first, which makes a `TokenBatch` of a call's arguments; then `TokenBatch.part`, by
which a call runs some of its tokens before the others; masks come last.

Shapes: B sequences, T new tokens, S attended tokens, h hidden size.
"""

import dataclasses

import torch
from torch import Tensor, nn

from .blocks import KeyValue
from .cache import RecurrentCache
from .request import DepthRequest
from .shared_prefix import SharedPrefix


def prepare(
    embedded: Tensor,
    *,
    attention_mask: Tensor | None,
    position_ids: Tensor | None,
    cache: RecurrentCache | None,
    layout: SharedPrefix | None = None,
) -> "TokenBatch":
    """The batch of embeddings [B, T, h] behind a cache; see `RecurrentModel.forward`.

    Raises ValueError for a mask that does not cover the cached and the new tokens.
    """
    if layout is not None:
        assert position_ids is not None  # they begin anew in every row
        return TokenBatch(embedded, None, position_ids, None, 0, layout=layout)
    past = cache.get_seq_length() if cache is not None else 0
    rows, new, _ = embedded.shape
    if attention_mask is not None and attention_mask.shape != (rows, past + new):
        raise ValueError(
            f"attention_mask has the shape {tuple(attention_mask.shape)}; this model takes "
            f"[B, S], here [{rows}, {past + new}]"
        )
    packed = None
    if position_ids is not None and attention_mask is None and past == 0:
        packed = _packed(position_ids.expand(rows, new))
    if attention_mask is not None and bool(attention_mask.all()):
        attention_mask = None
    if position_ids is None and attention_mask is not None:
        position_ids = (attention_mask.long().cumsum(-1) - 1).clamp_min(0)[:, -new:]
    elif position_ids is None:
        position_ids = torch.arange(past, past + new, device=embedded.device)[None]
    position_ids = position_ids.expand(rows, new)
    return TokenBatch(embedded, attention_mask, position_ids, cache, past, packed)


@dataclasses.dataclass
class TokenBatch:
    """New tokens, and the tokens before them in the cache."""

    embedded: Tensor  # [B, T, h], scaled
    attention_mask: Tensor | None  # [B, S]
    position_ids: Tensor  # [B, T]
    cache: RecurrentCache | None
    offset: int  # tokens in the cache before these
    packed: Tensor | None = None  # [B, T] which of a row's packed sequences
    layout: SharedPrefix | None = None  # of rows that stand in one sequence

    def __post_init__(self) -> None:
        self.rows, self.new, _ = self.embedded.shape
        self.mask: Tensor | SharedPrefix | None = self.layout
        if self.layout is not None:
            return
        self.mask = _mask(self.attention_mask, past=self.offset, new=self.new, like=self.embedded)
        if self.packed is not None:
            together = (self.packed[:, :, None] == self.packed[:, None])[:, None]
            self.mask = together & torch.ones_like(together).tril()

    def part(self, start: int, end: int) -> "TokenBatch":
        """Some of the new tokens, those before them being in the cache by then."""
        offset = self.offset + start
        mask = self.attention_mask
        return TokenBatch(
            self.embedded[:, start:end],
            None if mask is None else mask[:, : offset + end - start],
            self.position_ids[:, start:end],
            self.cache,
            offset,
        )

    def caps(self, depths: Tensor) -> Tensor | int:
        """Depths [B] or [B, T] as the deepest iteration of every position: one number, or [B, T].

        Raises ValueError for a shape that does not fit and for depths under 1.
        """
        if depths.dim() == 1:
            depths = depths[:, None]
        try:
            depths = depths.to(self.embedded.device).long().expand(self.rows, self.new)
        except RuntimeError as error:
            raise ValueError(
                f"depths of shape {tuple(depths.shape)} fit no batch of {self.rows} sequences "
                f"of {self.new} new tokens; give [B] or [B, T]"
            ) from error
        low, high = (int(x) for x in torch.aminmax(depths))
        if low < 1:
            raise ValueError(f"depths hold {low}; every position runs at least 1 iteration")
        return high if low == high else depths

    def next_cap(self, request: DepthRequest) -> tuple[Tensor | int, bool]:
        """The cap of this single position, and whether it is a depth that its segment decided."""
        assert self.cache is not None  # a depth request brings one along
        index = self.cache.generated
        self.cache.generated += 1
        if request.rule == "policy" and index % request.segment:
            assert self.cache.segment_depths is not None
            return self.cache.segment_depths, True
        return request.planned(index), False

    def dense(
        self, block: nn.Module, layer: int, hidden: Tensor, rope: KeyValue, *, write: bool = True
    ) -> Tensor:
        """A prelude or coda block, through the cache where there is one."""
        past = None if self.cache is None else self.cache.dense(layer, length=self.offset)
        hidden, keys, values = block(hidden, rope, self.mask, past)
        if self.cache is not None and write:
            self.cache.write_dense(layer, keys, values)
        return hidden

    def newest(self, state: Tensor) -> Tensor:
        """The newest token's state [B, 1, h]; where that is padding, the last token's before."""
        assert self.cache is not None
        newest, last = state[:, -1:], self.cache.last_state
        if self.attention_mask is None or last is None:
            return newest
        return torch.where(self.attention_mask[:, -1, None, None].bool(), newest, last)

    def warm(self, state: Tensor) -> Tensor:
        """A first state [B, 1, h], or the last token's where there is one."""
        if self.cache is None or self.cache.last_state is None:
            return state
        if self.attention_mask is None:
            return self.cache.last_state
        began = self.attention_mask[:, : self.offset].bool().any(-1)
        return torch.where(began[:, None, None], self.cache.last_state, state)


def _mask(attention_mask: Tensor | None, *, past: int, new: int, like: Tensor) -> Tensor | None:
    """Boolean [B or 1, 1, T, S]; None where plain causal attention, or one query, does."""
    if attention_mask is None and (past == 0 or new == 1):
        return None
    rows = torch.arange(past, past + new, device=like.device)[:, None]
    columns = torch.arange(past + new, device=like.device)[None]
    allowed = (columns <= rows)[None, None]
    if attention_mask is None:
        return allowed
    # a padded query attends to itself: attention over nothing is NaN
    return allowed & attention_mask.bool()[:, None, None] | (columns == rows)


def _packed(position_ids: Tensor) -> Tensor | None:
    """[B, T] which of its row's sequences each position belongs to; None: one sequence a row."""
    jumps = (position_ids.diff(dim=-1) != 1).long()
    if not bool(jumps.any()):
        return None
    return torch.cat((torch.zeros_like(position_ids[:, :1]), jumps.cumsum(-1)), dim=-1)
