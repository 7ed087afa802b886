"""What rows of metrics say of a training that goes wrong, while it still can be stopped.

Each sign is told once, with what was seen and what people do about it. The bounds are ours. What
has no number at all ends the step itself (`pipeline.train.health`).
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from statistics import fmean, median

RECENT = 5  # rows of a mean
HISTORY = 20  # rows that a gradient is compared with
COLLAPSED_SHARE = 0.5  # of the best mean reward so far
LEAST_REWARD = 0.1  # below it there is nothing to collapse
LOW_ENTROPY, HIGH_ENTROPY = 0.02, 0.1  # nats a token: nearly none, and some to begin with
MASTERED = 0.9  # mean of a reward from 0 to 1: samples may well agree
LARGE_KL = 1.0  # nats a token from the reference
LARGE_GRADIENT = 100.0  # times the usual norm


@dataclass
class HealthWatch:
    """Looks at a stage's rows in their order."""

    _rewards: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    _entropies: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    _norms: deque[float] = field(default_factory=lambda: deque(maxlen=HISTORY))
    _best_reward: float = 0.0
    _first_entropy: float | None = None
    _told: set[str] = field(default_factory=set)

    def see(self, row: Mapping[str, float]) -> Iterator[str]:
        """Sentences on what this row is the first to show."""
        signs = {
            "reward": self._reward(row),
            "entropy": self._entropy(row),
            "kl": self._kl(row),
            "gradient": self._gradient(row),
            "unscored": _unscored(row),
        }
        for name, sentence in signs.items():
            if sentence is not None and name not in self._told:
                self._told.add(name)
                yield sentence

    def _reward(self, row: Mapping[str, float]) -> str | None:
        if "reward" not in row:
            return None
        self._rewards.append(row["reward"])
        mean = fmean(self._rewards)
        if len(self._rewards) == RECENT:
            self._best_reward = max(self._best_reward, mean)
        if self._best_reward < LEAST_REWARD or mean >= COLLAPSED_SHARE * self._best_reward:
            return None
        return (
            f"the reward has collapsed: {mean:.3g} over {RECENT} steps, and "
            f"{self._best_reward:.3g} at its best; people lower lr or raise kl, and look at "
            "stepwell rollouts --order worst"
        )

    def _entropy(self, row: Mapping[str, float]) -> str | None:
        if "entropy" not in row:
            return None
        self._entropies.append(row["entropy"])
        if self._first_entropy is None:
            self._first_entropy = row["entropy"]
        low = len(self._entropies) == RECENT and max(self._entropies) < LOW_ENTROPY
        lacking = _lacking(row)
        if not low or self._first_entropy < HIGH_ENTROPY or lacking is None:
            return None
        return (
            f"the entropy has collapsed: {fmean(self._entropies):.3g} nats a token, from "
            f"{self._first_entropy:.3g}, with {lacking} at {row[lacking]:.3g}: samples hardly "
            "differ, so little is learned; people raise temperature or clip, or lower lr"
        )

    def _kl(self, row: Mapping[str, float]) -> str | None:
        if row.get("kl", 0.0) <= LARGE_KL:
            return None
        return (
            f"the policy is {row['kl']:.3g} nats a token from its reference at step "
            f"{row.get('step', 0):.0f}: people lower lr, raise kl, or replace the reference "
            "(reference_every)"
        )

    def _gradient(self, row: Mapping[str, float]) -> str | None:
        if "grad_norm" not in row:
            return None
        norm, usual = row["grad_norm"], median(self._norms) if self._norms else 0.0
        enough = len(self._norms) >= HISTORY // 2
        self._norms.append(norm)
        if not enough or norm <= LARGE_GRADIENT * usual or usual == 0:
            return None
        return (
            f"the gradient's norm is {norm:.3g} at step {row.get('step', 0):.0f}, and {usual:.3g} "
            "usually; it is scaled down to 1, but people look for odd rows or rewards of that step"
        )


def _unscored(row: Mapping[str, float]) -> str | None:
    if not row.get("unscored_share", 0.0):
        return None
    return (
        f"{row['unscored_share']:.2%} of the samples of step {row.get('step', 0):.0f} have no "
        "reward and are left out: a reward failed, gave no number, or could not tell; "
        "logs/rollouts.log names each"
    )


def _lacking(row: Mapping[str, float]) -> str | None:
    """The lowest of the rewards from 0 to 1 that leave something to learn; None where there is
    none, as in an SFT, or where all are mastered: then samples agree since they are right."""
    values = {key: value for key, value in row.items() if key.startswith("reward/")}
    low = {key: value for key, value in values.items() if 0.0 <= value < MASTERED}
    return min(low, key=low.__getitem__, default=None)
