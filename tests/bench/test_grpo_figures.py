"""The figures of the benchmark against TRL, on invented measurements."""

import doctest

import pytest

from tests.bench import grpo_figures
from tests.bench.grpo_figures import Measured, document, summary


def _side(*, began: float, step: float, right: tuple[float, ...]) -> Measured:
    ends = {str(i): began + i * step for i in range(len(right))}
    return {
        "times": {"start": 0.0, "begin": 1.0, **ends},
        "accuracies": dict(enumerate(right)),
        "rows": [{"seconds/training": step / 2, "seconds/generation": step / 2}] * len(right),
    }


def test_examples_in_the_text() -> None:
    assert doctest.testmod(grpo_figures).failed == 0


def test_ratios_are_between_the_best_of_each() -> None:
    rounds = [
        {
            "ours": _side(began=3.0, step=1.0, right=(0.5, 0.9, 0.99)),
            "ours_equal": _side(began=3.0, step=0.5, right=(0.5, 0.9, 0.99)),
            "trl_generate": _side(began=2.0, step=4.0, right=(0.5, 0.9, 0.99)),
            "trl_vllm": _side(began=2.0, step=2.0, right=(0.5, 0.6, 0.7)),
        }
    ]
    slow = [{"trl_generate": _side(began=2.0, step=9.0, right=(0.5, 0.99))}]
    answer = document(
        {"1": summary(slow, target=0.97), "2": summary(rounds, target=0.97)}, task="quickstart"
    )
    assert answer["ours_s"] == {"1": None, "2": 4.0}
    assert answer["trl_generate_s"] == {"1": 10.0, "2": 9.0}
    assert answer["trl_vllm_s"] == {"1": None, "2": None}
    assert answer["speedup"] == pytest.approx(9.0 / 4.0)
    assert answer["step_ratio"] == pytest.approx(0.5 / 2.0)
    assert answer["breakdown"]["2"]["ours"] == {"training": 0.5, "generation": 0.5}
    assert answer["by_threads"]["2"]["from_first_step_s"]["ours"] == 2.0
