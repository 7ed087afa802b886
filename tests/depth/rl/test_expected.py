"""Expected outcomes: the reward's mean and gradient, exactly, with less of the tokens' luck."""

import itertools
import math
import random
import statistics
from collections.abc import Iterator

import pytest

from pipeline.depth.rl.expected import Draws, checks_of, expected_outcomes
from pipeline.depth.trainer_jobs import Reference
from pipeline.records import Rollout

CLOSE, END = 9, 1
REFERENCE = Reference(answer=(3, END), close=(CLOSE,))


def written(*tokens: int) -> Rollout:
    return Rollout(
        prompt_id="p",
        sample=0,
        seed=0,
        prompt_tokens=(2,),
        tokens=tokens,
        logprobs=(0.0,) * len(tokens),
        stop="eos",
        weight_version=0,
    )


def places(run: Rollout, reference: Reference = REFERENCE) -> list[tuple[int, int, bool]]:
    return [(c.token, c.reference, c.agrees) for c in checks_of(run, reference)]


def test_checks_go_from_where_reasoning_first_ends_to_the_first_wrong_token() -> None:
    assert places(written(5, CLOSE, 3, END)) == [(2, 3, True), (3, END, True)]
    assert places(written(6, 6, CLOSE, 4, END)) == [(3, 3, False)]
    assert places(written(7, CLOSE, CLOSE, 3)) == [(2, 3, False)]
    assert places(written(5, CLOSE, 3)) == [(2, 3, True)]  # cut off
    assert places(written(6, 6)) == places(written(6, CLOSE)) == []
    assert places(written(5, CLOSE, 3, END), Reference(answer=(), close=())) == []


# One member is a depth, 0 or 1, and then tokens whose chances depend on it: a step of reasoning
# that is right (5) or not (6), and an answer that is right (3), wrong (4) or too long.

STEP = {0: 0.3, 1: 0.9}
ANSWER = {(0, True): 0.7, (1, True): 0.95, (0, False): 0.2, (1, False): 0.1}
DEEP = 0.4  # chance of depth 1


def members(group: str) -> Iterator[tuple[float, int, Draws]]:
    """(probability, depth, member) of all that one member can be."""
    for depth, right_step, answer in itertools.product((0, 1), (True, False), ("3", "4", "long")):
        step = STEP[depth]
        right = ANSWER[depth, right_step]
        share = {"3": right, "4": (1 - right) * 0.6, "long": (1 - right) * 0.4}[answer]
        tail = {"3": (3, END), "4": (4, END), "long": (4, 4, END)}[answer]
        run = written(5 if right_step else 6, CLOSE, *tail)
        checks = checks_of(run, REFERENCE)
        chances = [right if c.index == 0 else 1.0 for c in checks]
        probability = (DEEP if depth else 1 - DEEP) * (step if right_step else 1 - step) * share
        draws = Draws(group=group, reward=float(answer == "3"), checks=checks, chances=chances)
        yield probability, depth, draws


@pytest.mark.parametrize("groups", [("a", "a"), ("a", "b"), ("a", "a", "b")])
def test_mean_and_gradient_are_the_rewards(groups: tuple[str, ...]) -> None:
    """By enumeration of all that small batches can do, for the first member's depth."""
    sampled, expected = [0.0, 0.0], [0.0, 0.0]
    scatter = [0.0, 0.0]
    for batch in itertools.product(*(list(members(group)) for group in groups)):
        probability = math.prod(p for p, _, _ in batch)
        score = 1 / DEEP if batch[0][1] else -1 / (1 - DEEP)  # d ln P / d DEEP
        outcomes = expected_outcomes([draws for _, _, draws in batch])
        for sums, value in ((sampled, batch[0][2].reward), (expected, outcomes[0])):
            sums[0] += probability * value
            sums[1] += probability * value * score
        scatter[0] += probability * batch[0][2].reward ** 2
        scatter[1] += probability * outcomes[0] ** 2
    assert expected == pytest.approx(sampled)
    assert scatter[1] - expected[0] ** 2 < 0.7 * (scatter[0] - sampled[0] ** 2)


def test_with_exact_weights_the_outcome_is_the_chance_of_the_right_answer() -> None:
    """Answers that are paid for their first token alone: nothing else is left to chance."""
    drawn = random.Random(3)
    every = list(members("a"))
    batch = drawn.choices(every, weights=[p for p, _, _ in every], k=400)
    outcomes = expected_outcomes([draws for _, _, draws in batch])
    chances = [draws.chances[0] for _, _, draws in batch]
    rewards = [draws.reward for _, _, draws in batch]
    assert outcomes == pytest.approx(chances)
    assert statistics.fmean(outcomes) == pytest.approx(statistics.fmean(rewards), abs=0.05)
    assert statistics.pvariance(rewards) > 2 * statistics.pvariance(outcomes)
