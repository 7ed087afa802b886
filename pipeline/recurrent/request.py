"""How a request's tokens choose their number of iterations. Pure: loads no ML library.

Depth counts iterations of the core, from 1. The depth of a generated token is the depth at which
the position *before* it ran, the one whose output it was drawn from; so a completion of _T tokens
has _T depths, and the last prompt position runs at the first of them.
"""

from dataclasses import dataclass
from typing import Literal, get_args

Rule = Literal[
    "fixed", "schedule", "kl", "latent", "entropy", "second_order", "q_exit", "policy", "right"
]  # fmt: skip

RULES: tuple[str, ...] = get_args(Rule)
THRESHOLD_RULES = ("kl", "latent", "entropy", "second_order", "q_exit", "right")
"""Rules that stop where a signal crosses `threshold`; see `exits`."""

HEAD_RULES = ("policy", "right")
"""Rules that read the model's halting head, which was trained for one of them."""

READOUT_RULES = ("kl", "entropy")
"""Rules that need the coda and the head after every iteration, and pay for them."""


@dataclass(frozen=True, kw_only=True)
class DepthRequest:
    """The depth of one request's tokens. `depth` is the fixed depth, and every other rule's cap.

    Raises ValueError naming the field that is wrong.
    """

    rule: Rule = "fixed"
    depth: int
    prompt_depth: int | None = None  # of prompt positions but the last; default: `depth`
    min_depth: int = 1  # no rule stops earlier
    threshold: float | None = None  # of THRESHOLD_RULES
    schedule: tuple[int, ...] = ()  # [_T] depth by generated token; after its end: `depth`
    log_price: float = 0.0  # ln(lambda): the price of compute that the policy is told
    sampled: bool = False  # policy: draw each decision; otherwise stop where stopping is likelier
    segment: int = 1  # policy: tokens that share one decision, from the first generated token

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"rule={self.rule!r} is none of {', '.join(RULES)}")
        for name in ("depth", "min_depth", "segment"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.prompt_depth is not None and self.prompt_depth < 1:
            raise ValueError(f"prompt_depth={self.prompt_depth} must be at least 1")
        if self.min_depth > self.depth:
            raise ValueError(f"min_depth={self.min_depth} is over depth={self.depth}")
        if self.rule in THRESHOLD_RULES and self.threshold is None:
            raise ValueError(f"rule={self.rule!r} needs a threshold")
        if min(self.schedule, default=1) < 1:
            raise ValueError("every depth of a schedule must be at least 1")

    @property
    def prefill_depth(self) -> int:
        """Depth of prompt positions but the last."""
        return self.depth if self.prompt_depth is None else self.prompt_depth

    def planned(self, index: int) -> int:
        """Depth, or the cap on it, of generated token `index` (from 0)."""
        if self.rule == "schedule" and index < len(self.schedule):
            return self.schedule[index]
        return self.depth

    def plan(self, count: int) -> list[int]:
        """Depths, or the caps on them, of the first `count` generated tokens."""
        first = list(self.schedule[:count]) if self.rule == "schedule" else []
        return first + [self.depth] * (count - len(first))

    @property
    def deepest(self) -> int:
        """The most iterations that any position of the request can run."""
        return max(self.depth, self.prefill_depth, *self.schedule)
