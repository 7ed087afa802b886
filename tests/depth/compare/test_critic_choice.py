"""A depth a request: what the critic and the regression choose, and what a choice costs: its
matrices, what it waits for, and where that goes."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

from pipeline.depth.answers import Answers
from pipeline.depth.bench import Measurement
from pipeline.depth.compare.critic_choice import (
    CRITIC_FILE,
    REGRESSION_FILE,
    best_depths,
    choice_flops,
    look_flops,
    shifted_depths,
    with_flops,
)
from pipeline.depth.labels import critic, request_depth
from pipeline.measure.energy import Energy
from pipeline.recurrent.shape import RecurrentShape

SHAPE = RecurrentShape(
    hidden=8,
    mlp=16,
    heads=2,
    kv_heads=2,
    head_size=4,
    prelude=1,
    core=1,
    coda=1,
    vocabulary=10,
    injection="none",
    num_iterations=4,
    max_iterations=4,
)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    save_file(critic.Critic(8, 4).state_dict(), tmp_path / critic.CRITIC)
    return tmp_path / critic.CRITIC


def test_the_file_is_the_trainers() -> None:
    assert critic.CRITIC == CRITIC_FILE
    assert request_depth.REGRESSION == REGRESSION_FILE


def test_a_look_is_its_two_matrices(weights: Path) -> None:
    assert look_flops(weights) == 2 * (8 * critic.WIDTH + critic.WIDTH * 4)


@pytest.mark.parametrize(("depth", "waited"), [(1, 2), (2, 1), (3, 0), (4, 0)])
def test_a_shallow_request_waits_for_the_critics_state(
    weights: Path, depth: int, waited: int
) -> None:
    """One block of h 8 on a token that attends to 5: four projections, an MLP, the attention."""
    block = 2 * (4 * 8 * 8 + 3 * 8 * 16 + 2 * 8 * 5)
    found = choice_flops(weights, SHAPE, prompt_tokens=5, prompt_depth=3, depth=depth)
    assert found == look_flops(weights) + waited * block


def test_every_completion_pays_and_joules_follow() -> None:
    ones = np.ones((2, 3))
    answers = Answers(correct=ones, iterations=ones, tokens=ones, flops=100 * ones)
    energy = Energy(joules=6.0, source="analytic", seconds=1.0)
    measured = Measurement(groups=[], answers=answers, energy=energy)
    found = with_flops(measured, np.array([10.0, 30.0]))
    assert found.answers.flops.tolist() == [[110.0] * 3, [130.0] * 3]
    assert found.energy.joules == pytest.approx(7.2)
    assert replace(found.answers, flops=answers.flops) == answers


def test_choices_follow_the_price() -> None:
    accuracy = np.array([[0.2, 0.5, 0.9], [0.9, 0.9, 0.9]])
    assert best_depths(accuracy, log_price=math.log(0.01)) == [3, 1]
    assert best_depths(accuracy, log_price=math.log(2.0)) == [1, 1]


def test_expected_depths_are_shifted_to_whole_ones_within_reach() -> None:
    expected = np.array([1.4, 2.6, 3.9])
    assert shifted_depths(expected, 0.0, deepest=4) == [1, 3, 4]
    assert shifted_depths(expected, 1.0, deepest=4) == [2, 4, 4]
    assert shifted_depths(expected, -9.0, deepest=4) == [1, 1, 1]
