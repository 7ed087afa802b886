"""A step without numbers is left out from the last checkpoint on, or ends the run."""

import math
from typing import Any

import pytest
from transformers import TrainerCallback

from pipeline.errors import Diverged, RunFailed
from pipeline.train import sft_trainer
from pipeline.train.health import MOST_SKIPPED, SKIPPED_FILE, skipped_steps
from pipeline.train.job import DONE, METRICS_FILE, read_metrics
from tests.train.conftest import MakeJob


class Poison(TrainerCallback):
    """Makes the gradients of some steps NaN, every time that they come."""

    def __init__(self, *steps: int) -> None:
        self.steps, self.hooks = steps, []

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
        if state.global_step + 1 in self.steps:
            weight = next(model.parameters())
            self.hooks.append(weight.register_hook(lambda gradient: gradient * math.nan))

    def on_step_end(self, *_: Any, **__: Any) -> None:
        while self.hooks:
            self.hooks.pop().remove()


def trained(job: Any, rows: Any, *steps: int) -> list[str]:
    """Train as a run does: again after each step without numbers; what was said of them."""
    sentences = []
    while True:
        try:
            assert sft_trainer.train(job, rows, callbacks=[Poison(*steps)])["status"] == DONE
            return sentences
        except Diverged as error:
            sentences.append(str(error))


def test_a_poisoned_step_is_left_out(make_job: MakeJob, sft_rows: Any) -> None:
    job = make_job(epochs=2)  # ten steps, a checkpoint at every fourth
    (sentence,) = trained(job, sft_rows, 6)
    assert sentence.startswith("step 6: grad_norm nan; back to the last checkpoint")
    assert "people lower lr" in sentence
    assert skipped_steps(job.work) == {6}
    rows = read_metrics(job.work / METRICS_FILE)
    assert [row["step"] for row in rows] == list(range(1, 11))
    assert all(math.isfinite(row["loss"]) for row in rows)


def test_a_resume_skips_the_same(make_job: MakeJob, sft_rows: Any) -> None:
    one, two = make_job("one", epochs=2), make_job("two", epochs=2)
    trained(one, sft_rows, 6)
    two.work.mkdir(parents=True)
    (two.work / SKIPPED_FILE).write_text("[6]")
    assert trained(two, sft_rows) == []
    name = "model.safetensors"
    assert (one.out / name).read_bytes() == (two.out / name).read_bytes()


def test_more_than_a_few_are_no_accident(make_job: MakeJob, sft_rows: Any) -> None:
    job = make_job(epochs=2)
    with pytest.raises(RunFailed, match="after 3 steps that were skipped") as failure:
        trained(job, sft_rows, *range(2, 3 + MOST_SKIPPED))
    assert not isinstance(failure.value, Diverged)
    assert not job.out.exists()


def test_a_recipe_may_have_it_stop(make_job: MakeJob, sft_rows: Any) -> None:
    job = make_job(epochs=1, on_divergence="stop")
    with pytest.raises(RunFailed, match="step 2: grad_norm nan; people lower lr"):
        trained(job, sft_rows, 2)
    assert skipped_steps(job.work) == frozenset()
