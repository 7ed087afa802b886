"""A stage without signal: steps in which no group had two different rewards, so nothing is learned.

GRPO's advantage of a sample is its distance from its group's mean (DeepSeekMath, arXiv 2402.03300,
section 4.1.1): where all rewards of a group are equal, it is zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

FIRST_WARNING = 3  # steps without signal in a row; ours
AGAIN = 10  # times as many until the next one


@dataclass
class SignalWatch:
    """Counts a stage's steps without signal, and says when there are many in a row."""

    steps: int = 0
    flat_steps: int = 0
    _in_a_row: int = 0
    _next_warning: int = field(default=FIRST_WARNING)

    def see(self, row: Mapping[str, float]) -> str | None:
        """A sentence when this row of metrics makes it too many; rows of another kind say nothing.

        `zero_variance_share` is the share of the step's groups whose rewards are all equal.
        """
        if "zero_variance_share" not in row:
            return None
        self.steps += 1
        if row["zero_variance_share"] < 1.0:
            self._in_a_row, self._next_warning = 0, FIRST_WARNING
            return None
        self.flat_steps += 1
        self._in_a_row += 1
        if self._in_a_row < self._next_warning:
            return None
        self._next_warning *= AGAIN
        value = f", all about {row['reward']:.3g}" if "reward" in row else ""
        return (
            f"no signal in {self._in_a_row} steps in a row: every sample of a prompt got the same "
            f"reward{value}, so nothing is learned; {_advice(row.get('reward'))}"
        )

    def summary(self) -> str | None:
        """A sentence for the end, where most steps had no signal."""
        if 2 * self.flat_steps <= self.steps:
            return None
        return (
            f"{self.flat_steps} of {self.steps} steps had no signal: nothing was learned in them; "
            "see stepwell rollouts"
        )


def _advice(reward: float | None) -> str:
    look = "see what the rewards say with stepwell rollouts"
    if reward is None:
        return look
    return (
        f"{look}, take easier prompts or a warmer start"
        if reward <= 0
        else (f"{look}, take harder prompts or rewards that tell samples apart")
    )
