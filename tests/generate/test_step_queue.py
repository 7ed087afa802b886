"""One step is made while another is used; errors and late askers get theirs."""

import threading

import pytest

from pipeline.generate.journal import StepRollouts
from pipeline.generate.step_queue import StepQueue

WAIT_S = 10.0


def rollouts(step: int) -> StepRollouts:
    return StepRollouts(groups=(), metrics={"step": float(step)})


def test_a_step_is_made_in_the_background_and_once() -> None:
    may_end, calls = threading.Event(), []

    def make(step: int) -> StepRollouts:
        calls.append(step)
        assert step == 0 or may_end.wait(WAIT_S)
        return rollouts(step)

    steps = StepQueue(make)
    assert steps.take(0).metrics["step"] == 0
    steps.begin(1)  # returns although the step cannot end yet
    assert steps.take(0).metrics["step"] == 0  # another rank's, meanwhile
    may_end.set()
    assert steps.take(1).metrics["step"] == 1
    steps.begin(1)
    assert steps.take(1).metrics["step"] == 1
    assert calls == [0, 1]


def test_steps_never_overlap_each_other() -> None:
    running: list[int] = []

    def make(step: int) -> StepRollouts:
        running.append(step)
        assert running == [step]
        running.remove(step)
        return rollouts(step)

    steps = StepQueue(make)
    for step in range(20):
        steps.begin(step)
    assert steps.take(19).metrics["step"] == 19


def test_what_failed_is_raised_where_it_is_taken() -> None:
    def make(step: int) -> StepRollouts:
        raise ValueError(f"step {step} has no verdicts")

    steps = StepQueue(make)
    steps.begin(3)
    for _ in range(2):
        with pytest.raises(ValueError, match="step 3 has no verdicts"):
            steps.take(3)
