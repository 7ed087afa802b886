"""Groups as arrays of accuracy and cost."""

import numpy as np
import pytest

from pipeline.depth.answers import answers_of
from pipeline.generate.groups import Group
from pipeline.records import Rollout, Scored


def scored(value: float | None, depths: tuple[int, ...] | None, *, sample: int = 0) -> Scored:
    count = 3 if depths is None else len(depths)
    rollout = Rollout(
        prompt_id="p",
        sample=sample,
        seed=0,
        prompt_tokens=(1, 2),
        tokens=(5,) * count,
        logprobs=(0.0,) * count,
        stop="eos",
        weight_version=0,
        depths=depths,
        flops=100.0 * sum(depths or ()),
    )
    return Scored(rollout=rollout, text="", reward=value, components={"a": value}, verdicts={})


def group(*samples: Scored) -> Group:
    return Group(prompt_id="p", samples=samples)


def test_depths_and_values_add_up() -> None:
    found = answers_of(
        [
            group(scored(1.0, (1, 3)), scored(0.5, (2,))),
            group(scored(0, (4,)), scored(1.0, (1, 1))),
        ],
        reward="a",
    )
    assert found.correct.tolist() == [[1, 0], [0, 1]]  # half right is wrong
    assert found.iterations.tolist() == [[4, 2], [4, 2]]
    assert found.mean_depth == 12 / 6
    assert found.points.tolist() == [[3, 300, 0.5], [3, 300, 0.5]]


def test_an_unscored_sample_counts_as_nothing() -> None:
    groups = [
        group(scored(None, (1,)), scored(1.0, (1,))),
        group(scored(0.0, (1,)), scored(1.0, (1,))),
        group(scored(None, (1,)), scored(None, (1,))),
    ]
    found = answers_of(groups, reward="a")
    np.testing.assert_equal(found.correct, [[np.nan, 1], [0, 1], [np.nan, np.nan]])
    np.testing.assert_equal(found.points[:, 2], [1, 0.5, np.nan])
    assert found.accuracy == pytest.approx(2 / 3)


def test_dense_rollouts_are_refused() -> None:
    with pytest.raises(ValueError, match="rollouts without depths"):
        answers_of([group(scored(1.0, None))], reward="a")


def test_points_are_means_over_samples() -> None:
    found = answers_of([group(scored(1.0, (2, 2)), scored(1.0, (4, 4)))], reward="a")
    assert np.array_equal(found.points, [[6, 600, 1]])
