"""What a stage computes, in sequences and tokens: the quantities that an estimate prices."""

from dataclasses import dataclass

FILL = 0.5  # share of max_tokens that an average sequence uses; ours
PROMPT_TOKENS = 64  # of an average prompt, at most as many as a completion; ours
HARVESTED = 0.5  # share of prompts of which a harvest keeps a row; ours


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """Completions that engines, or a trainer, sample from a model."""

    sequences: float
    max_tokens: int
    model: str | None = None  # `base` or a stage; None: the model that the stage starts from

    @property
    def tokens(self) -> float:
        """Of all completions, prompts left out."""
        return self.sequences * FILL * self.max_tokens

    @property
    def prompt_tokens(self) -> float:
        return self.sequences * prompt_tokens(self.max_tokens)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Tokens that go forward and backward through the stage's model."""

    tokens: float
    recomputed: bool = False  # activations, by gradient checkpointing: one more forward pass
    adapted: bool = False  # adapters alone have gradients: the weights need none of their own
    frozen: tuple[str | None, ...] = ()
    """Models that read every token too, forward only: None is the one that the stage starts from
    (a reference), a name is another (a teacher)."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """Everything that a stage samples, scores by a model and trains on."""

    sampled: tuple[Sampled, ...] = ()
    scored: tuple[Sampled, ...] = ()  # completions that a reward model reads: `model` names it
    trained: tuple[Trained, ...] = ()
    overlaps: bool = False  # trains on one step while the next is sampled


@dataclass(frozen=True, kw_only=True)
class TrainerMemory:
    """What a trainer holds: weights, gradients and Adam's state, and perhaps a reference."""

    reference: bool = False  # a frozen copy of the weights beside them
    eight_bit: bool = False  # Adam's two averages
    adapter_rank: int | None = None  # of adapters, which alone have gradients and Adam's state


def prompt_tokens(max_tokens: int) -> float:
    """Tokens of an average prompt, where completions have at most `max_tokens`."""
    return min(PROMPT_TOKENS, FILL * max_tokens)
