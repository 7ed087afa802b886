"""A member's outcome less the luck of its answer's draws: equal in the mean, less scattered. Pure.

Where the right answer is known (`Reference`), each of its tokens is a draw whose chance to be right
is known too. The reward that a draw brought, less what the draw was worth on average, is luck: no
depth earned it. What is left comes near the probability of the right answer at the depths that ran,
after the reasoning that was written, and needs no further rollout.

    reward  +  sum over checked tokens of  weight * (chance of the right token - 1 if drawn)

A check depends on what came before its token alone, and its weight on other members alone. So every
term is 0 in the mean whatever came before, in products with scores of decisions too: the outcome's
mean and its gradient are the reward's, exactly, however well the weights are estimated (a control
variate; with the exact weights it is a conditional expectation, Rao-Blackwell).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.depth.trainer_jobs import Reference
from pipeline.records import Rollout


@dataclass(frozen=True, kw_only=True)
class Check:
    """One token of a completion where the right one is known."""

    index: int  # in the reference's answer
    token: int  # index of the completion's token
    reference: int  # the right token there
    agrees: bool


@dataclass(frozen=True, kw_only=True)
class Draws:
    """A member's reward, and its checked tokens with the chance of the right one."""

    group: str  # `Rollout.group`
    reward: float
    checks: Sequence[Check]
    chances: Sequence[float]  # of each check, to agree


def checks_of(rollout: Rollout, reference: Reference) -> list[Check]:
    """The tokens of the answer, which begins where reasoning first ends, up to the first that is
    wrong; none where no answer began."""
    start = _after(rollout.tokens, reference.close)
    checks = []
    for index, right in enumerate(reference.answer[: len(rollout.tokens) - start]):
        agrees = rollout.tokens[start + index] == right
        checks.append(Check(index=index, token=start + index, reference=right, agrees=agrees))
        if not agrees:
            break
    return checks


def expected_outcomes(draws: Sequence[Draws]) -> list[float]:
    """Every member's outcome. It may leave [0, 1] by what the weights are off.

    What a right token is worth is the mean reward of the group's other members who wrote it there
    too, and of one more whose answer is right; a wrong one is worth nothing.
    """
    rewards: dict[tuple[str, int], list[float]] = {}
    for member in draws:
        for check in member.checks:
            if check.agrees:
                rewards.setdefault((member.group, check.index), []).append(member.reward)
    outcomes = []
    for member in draws:
        luck = 0.0
        for check, chance in zip(member.checks, member.chances, strict=True):
            agreed = rewards.get((member.group, check.index), [])
            own = int(check.agrees)
            total = sum(agreed) - own * member.reward + 1.0
            luck += total / (len(agreed) - own + 1) * (check.agrees - chance)
        outcomes.append(member.reward - luck)
    return outcomes


def _after(tokens: Sequence[int], close: Sequence[int]) -> int:
    """The index after the first `close` in the tokens, their number where there is none."""
    width = len(close)
    places = (i + width for i in range(len(tokens)) if tuple(tokens[i : i + width]) == tuple(close))
    return next(places, len(tokens))
