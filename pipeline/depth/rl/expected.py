"""A member's outcome less the luck of its tokens' draws: equal in the mean, less scattered. Pure.

Where what a member writes is known (`Reference`), each of its tokens is a draw whose chance to be
the reference's is known too. The reward that a draw brought, less what the draw was worth on
average, is luck: no depth earned it. What is left comes near the probability of the right answer
at the depths that ran, and needs no further rollout.

    reward  +  sum over checked tokens of  weight * (chance of the reference's token - 1 if drawn)

A check depends on what came before its token alone, and its weight on other members alone. So every
term is 0 in the mean whatever came before, in products with scores of decisions too: the outcome's
mean and its gradient are the reward's, exactly, however well the weights are estimated (a control
variate; with the exact weights it is a conditional expectation, Rao-Blackwell).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.depth.trainer_jobs import Reference
from pipeline.records import Rollout


@dataclass(frozen=True, kw_only=True)
class Check:
    """One token of a completion where the reference says what comes next."""

    part: str  # reasoning or answer
    index: int  # in that part of the reference
    token: int  # index of the completion's token
    reference: int  # the token that the reference has there
    agrees: bool


@dataclass(frozen=True, kw_only=True)
class Draws:
    """A member's reward, and its checked tokens with the chance of the reference's."""

    group: str  # `Rollout.group`
    reward: float
    checks: Sequence[Check]
    chances: Sequence[float]  # of each check, to agree


def checks_of(rollout: Rollout, reference: Reference) -> list[Check]:
    """The tokens whose reference is known: from the start, and after reasoning first ends, both up
    to the first that differs."""
    start = _after(rollout.tokens, reference.close)
    return [
        *_compared("reasoning", rollout.tokens, 0, reference.reasoning),
        *_compared("answer", rollout.tokens, start, reference.answer),
    ]


def expected_outcomes(draws: Sequence[Draws]) -> list[float]:
    """Every member's outcome. It may leave [0, 1] by what the weights are off."""
    groups: dict[str, _Rewards] = {}
    whole: dict[str, _Rewards] = {}
    batch = _Rewards()
    for member in draws:
        groups.setdefault(member.group, _Rewards()).note_checks(member)
        for rewards in (batch, whole.setdefault(member.group, _Rewards())):
            rewards.note(_WHOLE, _agrees_in_reasoning(member), member.reward)
    return [
        member.reward - _luck(member, groups[member.group], batch.without(whole[member.group]))
        for member in draws
    ]


def _luck(member: Draws, group: "_Rewards", elsewhere: "_Rewards") -> float:
    """What the draws of a member's tokens brought, beyond what they were worth on average.

    What agreeing is worth is known from the group's other members, and from one member more, who
    stands for what is known elsewhere: of reasoning, the batch's other groups; an answer is right
    where it agrees.
    """
    own = _Rewards()
    own.note_checks(member)
    others = group.without(own)
    reasoning = tuple(elsewhere.mean(_WHOLE, agrees, default=agrees) for agrees in (True, False))
    luck = 0.0
    for check, chance in zip(member.checks, member.chances, strict=True):
        place = check.part, check.index
        right, wrong = reasoning if check.part == "reasoning" else (1.0, 0.0)
        weight = others.mean(place, True, and_one=right) - others.mean(place, False, and_one=wrong)
        luck += weight * (check.agrees - chance)
    return luck


Place = tuple[str, int]
_WHOLE: Place = ("reasoning", -1)  # all of it


class _Rewards:
    """Rewards of members who agree with the reference at a place, and of those who differ."""

    def __init__(self) -> None:
        self._sums: dict[tuple[Place, bool], tuple[float, int]] = {}

    def note(self, place: Place, agrees: bool, reward: float) -> None:
        total, count = self._sums.get((place, agrees), (0.0, 0))
        self._sums[place, agrees] = total + reward, count + 1

    def note_checks(self, member: Draws) -> None:
        for check in member.checks:
            self.note((check.part, check.index), check.agrees, member.reward)

    def without(self, others: "_Rewards") -> "_Rewards":
        """The same but for some of the members."""
        left = _Rewards()
        for key, (total, count) in self._sums.items():
            theirs, number = others._sums.get(key, (0.0, 0))
            left._sums[key] = total - theirs, count - number
        return left

    def mean(
        self, place: Place, agrees: bool, *, default: float = 0.0, and_one: float | None = None
    ) -> float:
        """Of those members, and of one more whose reward is `and_one`; `default` of none."""
        total, count = self._sums.get((place, agrees), (0.0, 0))
        if and_one is not None:
            total, count = total + and_one, count + 1
        return total / count if count else default


def _compared(
    part: str, tokens: Sequence[int], start: int, reference: Sequence[int]
) -> Iterator[Check]:
    for index, (token, wanted) in enumerate(zip(tokens[start:], reference, strict=False)):
        yield Check(
            part=part,
            index=index,
            token=start + index,
            reference=wanted,
            agrees=token == wanted,
        )
        if token != wanted:
            return


def _after(tokens: Sequence[int], close: Sequence[int]) -> int:
    """The index after the first `close` in the tokens, their number where there is none."""
    width = len(close)
    places = (i + width for i in range(len(tokens)) if tuple(tokens[i : i + width]) == tuple(close))
    return next(places, len(tokens))


def _agrees_in_reasoning(member: Draws) -> bool:
    return all(check.agrees for check in member.checks if check.part == "reasoning")
