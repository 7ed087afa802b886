"""Where a dense model can be looped: block influence, and what looping a candidate core costs.

Both read the model as the plain stack that it is at one iteration, so any split of it will do. They
are forward passes: for many of them the model should be in memory whole (`folder.load_dense`), for
a few its layers may come from its files (`passes.load_for_passes`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..model import RecurrentForCausalLM

Core = tuple[int, int]
"""A candidate core: layers [first, end)."""

QUARTER = 0.26
"""Part of the layers that a suggested core has: 8 of 30."""


@dataclass(frozen=True, kw_only=True)
class Influence:
    """What was measured on a batch of text."""

    layers: tuple[float, ...]
    """By layer, 1 - mean cosine similarity of its input and output (ShortGPT, arXiv 2403.03853,
    section 3): low where the layer changes little."""
    loss: float  # mean next-token loss of one iteration, nats
    damage: dict[Core, float]
    """By candidate core, the rise of that loss, in nats, when the core runs twice with the damped
    re-entry s' = s + gate (core(s) - s)."""


@torch.no_grad()
def measure(
    model: RecurrentForCausalLM, tokens: Tensor, *, cores: Sequence[Core], gate: float
) -> Influence:
    """Measure a dense model's layers and candidate cores on tokens [B, T], T at least 2.

    The hidden states before every layer are kept, so a core costs one pass from its first layer
    to the end.
    """
    stack = _Stack(model, tokens)
    states = [stack.embedded]
    for index in range(stack.depth):
        states.append(stack.run(states[-1], index, index + 1))
    layers = tuple(
        1 - F.cosine_similarity(before.float(), after.float(), dim=-1).mean().item()
        for before, after in zip(states, states[1:], strict=False)
    )
    loss = stack.loss(states[-1])
    damage = {}
    for first, end in cores:
        again = stack.run(states[end], first, end)
        state = states[end] + gate * (again - states[end])
        damage[first, end] = stack.loss(stack.run(state, end, stack.depth)) - loss
    return Influence(layers=layers, loss=loss, damage=damage)


@torch.no_grad()
def leaving_early(model: RecurrentForCausalLM, tokens: Tensor) -> list[float]:
    """By depth from 1 to the full one, the rise of the mean next-token loss on tokens [B, T], in
    nats, when every token leaves there."""
    losses = [
        sum(model(row[None], labels=row[None], num_iterations=depth).loss.item() for row in tokens)
        for depth in range(1, model.config.max_iterations + 1)
    ]
    return [round((loss - losses[-1]) / len(tokens), 5) for loss in losses]


def candidate_cores(layers: int) -> list[Core]:
    """A coarse grid of cores, prelude and coda never empty where the layers allow it.

    Widths of about a sixth, a quarter and two fifths of the layers, first layers a fifteenth apart
    (30 layers: widths 5, 8 and 12, every second first layer).
    """
    step = max(1, round(layers / 15))
    widths = sorted({_width(layers, part) for part in (1 / 6, QUARTER, 0.4)})
    grid = [
        (first, first + width) for width in widths for first in range(step, layers - width, step)
    ]
    return grid or [(0, layers)]


def suggested_core(layers: int, damage: Mapping[Core, float]) -> Core:
    """Of the measured cores of about a quarter of the layers, the one that loops with the least
    damage; of all, where none is that wide. A narrower core is damaged less and can do less."""
    width = _width(layers, QUARTER)
    return min(damage, key=lambda core: (abs(core[1] - core[0] - width), damage[core]))


def _width(layers: int, part: float) -> int:
    return max(1, round(layers * part))


class _Stack:
    """The layers of a dense model in order, on one batch."""

    def __init__(self, model: RecurrentForCausalLM, tokens: Tensor) -> None:
        inner = model.model
        self.model, self.tokens = model, tokens
        core = list(inner.core)[: inner.config.passed_blocks]
        self.blocks = [*inner.prelude, *core, *inner.coda]
        self.depth = len(self.blocks)
        self.embedded = inner.embed_tokens(tokens) * inner.config.embedding_scale
        positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
        self.rope = inner.rotary_emb(self.embedded, positions)

    def run(self, hidden: Tensor, first: int, end: int) -> Tensor:
        """Layers [first, end) on hidden states [B, T, h]."""
        for block in self.blocks[first:end]:
            hidden = block(hidden, self.rope, None)[0]
        return hidden

    def loss(self, hidden: Tensor) -> float:
        """Mean next-token loss in nats; one sequence at a time, for the logits are large."""
        rows = []
        for state, tokens in zip(self.model.model.norm(hidden), self.tokens, strict=True):
            logits = self.model.lm_head(state[:-1]).float()
            rows.append(F.cross_entropy(logits, tokens[1:]))
        return torch.stack(rows).mean().item()
