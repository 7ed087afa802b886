"""A calibrated model in training: real rollouts of the native engine, at its default effort."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipeline.generate.chat import load_chat
from pipeline.generate.client import Slice, Weights, slice_of
from pipeline.generate.journal import Journal
from pipeline.generate.native_engine import NativeEngine
from pipeline.generate.service import RewardUse, RolloutService
from pipeline.generate.steps import GrpoRollouts
from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.recipe.sft_stage import SftStage
from pipeline.records import Prompt
from pipeline.recurrent.effort import CALIBRATION, default_request, request_for
from pipeline.train import sft_trainer
from pipeline.train.grpo_trainer import train
from pipeline.train.job import METRICS_FILE, TrainJob, read_metrics
from pipeline.train.logprob_gap import LogprobGapError
from rewards.api import Reward, Sample
from tests.generate.engine_settings import cpu_settings
from tests.train.pushed import joined

MakeJob = Callable[..., TrainJob]


@pytest.fixture(scope="session")
def calibrated(recurrent_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model as a depth stage leaves it: sampled at the effort `medium`, at 1 to 5 iterations
    a token, where its configuration says 4."""
    folder = tmp_path_factory.mktemp("calibrated") / "model"
    shutil.copytree(recurrent_model, folder)
    policy = {"depth": 5, "prompt_depth": 2, "segment": 1, "sampled": False}
    rows = [{"budget": 0.3, "log_price": 1.0}, {"budget": 0.9, "log_price": -1.0}]
    efforts = {"low": 0.3, "medium": 0.6, "high": 0.9}
    keys = {"depth_policy": policy, "depth_calibration": rows, "efforts": efforts}
    for name, more in (("config.json", keys), ("generation_config.json", {"effort": "medium"})):
        settings = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(settings | more))
    return folder


class EvenTokens:
    """A pool whose reward is the share of even characters."""

    def submit(self, ref: str, sample: Sample, *, args: Any, base: Path | None) -> Future[Reward]:
        text = sample.completion
        done: Future[Reward] = Future()
        value = sum(ord(c) % 2 == 0 for c in text) / max(len(text), 1)
        done.set_result(Reward(value=value, verdict="scored"))
        return done


class Native:
    """A rollout client over a native engine in this process, which hands depths on or not."""

    def __init__(self, job: TrainJob, *, with_depths: bool = True) -> None:
        spec = job.spec
        assert isinstance(spec, GrpoStage)
        settings = cpu_settings(tokens=64, sequences=64, gib=0.1, engine="native")
        self.engine = NativeEngine(job.model, settings, version=-1)
        self.with_depths = with_depths
        use = RewardUse(name="answer", ref="even", weight=1.0, args={})
        self.service = RolloutService(
            [self.engine],
            load_chat(job.model),
            EvenTokens(),
            rewards=[use],
            preface={"train": ()},
            base=Path("."),
            max_model_tokens=64,
        )
        self.rollouts = GrpoRollouts(
            self.service,
            Journal(job.work / "journal"),
            spec,
            [Prompt(id=f"p{i}", question=f"say {'x' * (i % 5)}{i}") for i in range(40)],
            seed=job.seed,
            preference=None,
            watch=[],
            watch_reward="answer",
        )

    def push_weights(self, weights: Weights, *, version: int, rank: int) -> None:
        self.engine.load_weights(joined(weights).items(), version=version)

    def slice(self, step: int, *, rank: int, ranks: int) -> Slice:
        part = slice_of(self.rollouts.step(step), rank=rank, ranks=ranks)
        return part if self.with_depths else dataclasses.replace(part, depths=None)


@pytest.fixture
def grpo_job(make_job: MakeJob, calibrated: Path) -> MakeJob:
    def build(name: str = "job", **keywords: Any) -> TrainJob:
        options: dict[str, Any] = {
            "lr": 3e-3, "steps": 4, "prompts_per_step": 4, "samples_per_prompt": 6,
            "micro_batch_rows": 12, "max_tokens": 8, "kl": 0.0, "resample_rounds": 0,
        }  # fmt: skip
        spec = GrpoStage(kind="grpo", prompts="train", rewards=["answer"], **options | keywords)
        return dataclasses.replace(make_job(name, spec=spec), model=calibrated)

    return build


def config_of(folder: Path, name: str = "config.json") -> dict[str, Any]:
    return json.loads((folder / name).read_text())


def test_engine_and_trainer_agree_on_a_calibrated_model(grpo_job: MakeJob) -> None:
    """Every step at the newest weights, whose depths its frozen head chooses anew."""
    job = grpo_job()
    rollouts = Native(job)
    train(job, rollouts=rollouts)
    rows = read_metrics(job.work / METRICS_FILE)
    assert max(row["logprob_gap"] for row in rows) < 1e-4
    depths = {d for row in rollouts.slice(0, rank=0, ranks=1).depths or () for d in row}
    assert len(depths) > 2
    before, after = (load_file(f / "model.safetensors") for f in (job.model, job.out))
    halting = [name for name in before if "halting" in name]
    assert halting
    assert all(torch.equal(before[name], after[name]) for name in halting)
    core = "model.core.0.mlp.down_proj.weight"
    assert float((before[core] - after[core]).abs().max()) > 1e-3


def test_at_other_depths_than_sampled_it_is_stopped(grpo_job: MakeJob) -> None:
    job = grpo_job()
    with pytest.raises(LogprobGapError, match="did not run at these depths"):
        train(job, rollouts=Native(job, with_depths=False))


def test_tokens_learn_what_pays(grpo_job: MakeJob) -> None:
    job = grpo_job(steps=20, lr=5e-3)
    train(job, rollouts=Native(job))
    rewards = [row["reward"] for row in read_metrics(job.work / METRICS_FILE)]
    assert sum(rewards[:3]) / 3 < 0.6
    assert sum(rewards[-3:]) / 3 > 0.85


def test_new_weights_have_no_calibration(
    grpo_job: MakeJob, make_job: MakeJob, calibrated: Path, sft_rows: Path
) -> None:
    """Whatever trains them: nothing was measured on these."""
    files = config_of(calibrated), config_of(calibrated, "generation_config.json")
    assert default_request(*files).rule == "policy"
    grpo = grpo_job(steps=1)
    train(grpo, rollouts=Native(grpo))
    spec = SftStage(kind="sft", rows="x", epochs=0.5, batch_rows=8, micro_batch_rows=8)
    sft = dataclasses.replace(make_job("sft", spec=spec), model=calibrated)
    sft_trainer.train(sft, sft_rows)
    for job in (grpo, sft):
        config = config_of(job.out)
        assert not config.keys() & CALIBRATION
        assert config["halting_width"] == 8
        generation = config_of(job.out, "generation_config.json")
        assert "effort" not in generation
        assert default_request(config, generation).depth == config["num_iterations"]
        with pytest.raises(ValueError, match="no depth_policy"):
            request_for(config, effort="low")
