"""What a stage computes, in sequences and tokens: the quantities that an estimate prices."""

from dataclasses import dataclass

FILL = 0.5  # share of max_tokens that an average sequence uses; ours
BLOCK_TOKENS = 32  # of an engine's cache that samples share whole (`CPU_BLOCK_TOKENS` of vLLM here)
PROMPT_TOKENS = 64  # of an average prompt, at most as many as a completion; ours
DIFFERING = 0.5  # share of groups whose rewards differ, which alone teach; measured .3 to .8
RESAMPLED = 0.3  # share of a step that is sampled anew in each round; measured on the quickstart
HARVESTED = 0.5  # share of prompts of which a harvest keeps a row; ours


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Tokens of a mean prompt and completion, and of the longest, where the recipe's own tasks tell
    them; else what follows from `max_tokens`."""

    prompt: float | None = None
    completion: float | None = None
    longest: float | None = None
    shown: bool = False  # by examples in the prompt: a model need not have learned how to answer

    def completion_tokens(self, max_tokens: int) -> float:
        return FILL * max_tokens if self.completion is None else min(self.completion, max_tokens)

    def longest_tokens(self, max_tokens: int) -> float:
        return max_tokens if self.longest is None else min(self.longest, max_tokens)

    def prompt_tokens(self, max_tokens: int) -> float:
        return min(PROMPT_TOKENS, FILL * max_tokens) if self.prompt is None else self.prompt

    def row_tokens(self, max_tokens: int) -> float:
        """Of a row to learn, prompt and completion, of which `max_tokens` counts both."""
        if self.prompt is None or self.completion is None:
            return FILL * max_tokens
        return min(self.prompt + self.completion, max_tokens)

    def longest_row_tokens(self, max_tokens: int) -> float:
        if self.prompt is None or self.longest is None:
            return max_tokens
        return min(self.prompt + self.longest, max_tokens)


UNKNOWN = Lengths()


def prompt_reads(prompt_tokens: float, *, samples: int, block_tokens: int = BLOCK_TOKENS) -> float:
    """Tokens that the samples of one prompt read of it: whole blocks once, the rest each. The
    native engine's blocks are single tokens.

    >>> prompt_reads(70, samples=8)  # 2 blocks of 32, and 6 tokens of each sample
    112.0
    >>> prompt_reads(70, samples=8, block_tokens=1)
    77.0
    """
    shared = float((max(prompt_tokens - 1, 0) // block_tokens) * block_tokens)
    return shared + samples * (prompt_tokens - shared)


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """Completions that engines, or a trainer, sample from a model."""

    sequences: float
    max_tokens: int
    model: str | None = None  # `base` or a stage; None: the model that the stage starts from
    lengths: Lengths = UNKNOWN
    samples: int = 1  # of a prompt, which an engine reads once

    @property
    def tokens(self) -> float:
        """Of all completions, prompts left out."""
        return self.sequences * self.lengths.completion_tokens(self.max_tokens)

    @property
    def prompt_tokens(self) -> float:
        """Of all prompts, one for all its samples."""
        return self.sequences / self.samples * self.lengths.prompt_tokens(self.max_tokens)

    def read_tokens(self, *, block_tokens: int = BLOCK_TOKENS) -> float:
        """Of prompts that engines read: samples share whole blocks, and each reads the rest."""
        prompt = self.lengths.prompt_tokens(self.max_tokens)
        reads = prompt_reads(prompt, samples=self.samples, block_tokens=block_tokens)
        return self.sequences / self.samples * reads


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
class Rows:
    """The rows of a stage's forward passes in training, in tokens."""

    longest: float  # of a row, its prompt left out where it is shared
    mean: float
    prompt: float = 0.0  # that samples share; 0: every row has its own
    samples: int = 1  # that share it
    fills: bool = False  # a pass has room for its longest rows, and more shorter ones fill it
    whole_logits: bool = False  # of a pass at once; else the head's are computed in tiles
    sequences: int = 1  # of a row: a pair has two


@dataclass(frozen=True, kw_only=True)
class Work:
    """Everything that a stage samples, scores by a model and trains on."""

    sampled: tuple[Sampled, ...] = ()
    scored: tuple[Sampled, ...] = ()  # completions that a reward model reads: `model` names it
    trained: tuple[Trained, ...] = ()
    syncs: float = 0.0  # of the weights to the engines, in steps
    overlaps: bool = False  # trains on one step while the next is sampled


@dataclass(frozen=True, kw_only=True)
class TrainerMemory:
    """What a trainer holds: weights, gradients and Adam's state, and perhaps a reference."""

    reference: bool = False  # a frozen copy of the weights beside them
    eight_bit: bool = False  # Adam's two averages
    adapter_rank: int | None = None  # of adapters, which alone have gradients and Adam's state
