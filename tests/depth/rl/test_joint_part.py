"""The joint phase's rounds: each half goes on from the other's weights, and none is made twice."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.depth.rl import joint_part
from pipeline.errors import Stopped
from pipeline.recipe.depth_parts import JointPhase
from pipeline.recipe.depth_stage import DepthStage
from pipeline.records import Prompt
from pipeline.train import training_calls
from pipeline.train.job import CHECKPOINTS, METRICS_FILE, STOP_FILE

MakeBench = Callable[..., Any]


class Trainer:
    """GRPO's double on a cluster: a row of metrics and a model; looks at its stop file."""

    def __init__(self) -> None:
        self.jobs: list[Any] = []
        self.setups: list[Any] = []
        self.served: list[Path] = []

    def serve(self, _: Any, model: Path, *, rewards: Any, version: int) -> Any:
        assert (list(rewards), version) == (["answer"], -1)
        self.served.append(model)
        return self

    def open_grpo(self, setup: Any) -> None:
        self.setups.append(setup)

    def train_on_rollouts(self, training: Any, *, poll: Any) -> dict[str, Any]:
        assert training.func is training_calls.grpo
        (job,) = training.args
        self.jobs.append(job)
        (job.work / CHECKPOINTS / "checkpoint-1").mkdir(parents=True, exist_ok=True)
        rows = [{"step": n + 1, "steps": 2, "loss": 0.1, "logprob_gap": 0.0} for n in range(2)]
        (job.work / METRICS_FILE).write_text("".join(json.dumps(row) + "\n" for row in rows))
        poll()
        if (job.work / STOP_FILE).exists():
            return {"status": "stopped", "steps": 1}
        job.out.mkdir(parents=True)
        return {"status": "done", "steps": 2, "completions": 24}


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Trainer:
    double = Trainer()
    monkeypatch.setattr(joint_part, "serve", double.serve)
    found = [Prompt(id=f"p{i}", question="?") for i in range(20)]
    monkeypatch.setattr(joint_part, "prompts_of", lambda *_: found)
    return double


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """The folder that the first round begins with."""
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "config.json").write_text("{}")
    return tmp_path / "policy"


def rounds(bench: Any, trainer: Trainer, folder: Path, *, count: int = 2) -> list[Any]:
    """The infos of the rounds, each from the model of the last; halves that are there stay."""
    bench.ctx.cluster.train_on_rollouts = trainer.train_on_rollouts
    infos, model = [], folder / "policy"
    for number in range(count):
        between, after = folder / f"tokens-{number}", folder / f"head-{number}"
        if not (between / "model" / "config.json").exists():
            infos.append(joint_part.tokens(bench, between, model=model, number=number))
            (between / "model" / "config.json").write_text("{}")
        infos.append(
            joint_part.head(
                bench, after, model=between / "model", warm=folder / "warm", ref_tokens=7.0,
                number=number,
            )
        )  # fmt: skip
        model = after / "model"
        model.mkdir(parents=True, exist_ok=True)
        (model / "config.json").write_text("{}")
    return infos


def test_halves_take_turns_on_the_newest_weights(
    make_bench: MakeBench, trainer: Trainer, policy: Path, tmp_path: Path
) -> None:
    bench = make_bench()
    infos = rounds(bench, trainer, tmp_path)
    first, between = tmp_path / "head-0" / "model", tmp_path / "tokens-0" / "model"
    assert trainer.served == [job.model for job in trainer.jobs] == [policy, first]
    assert [job.out for job in trainer.jobs] == [between, tmp_path / "tokens-1" / "model"]
    assert bench.served == [between, tmp_path / "tokens-1" / "model"]
    assert bench.loaded == ["0"]  # the second round's head goes on from the first's
    assert [u["reference"] for u in bench.updates] == [tmp_path / "warm"] * 2
    assert len({job.seed for job in trainer.jobs}) == 2
    assert [info["step"] for info in infos[1::2]] == [4 + 3, 4 + 3 + 3]
    assert infos[0] == {"steps": 2, "completions": 24}


def test_tokens_learn_from_the_policys_own_depths_alone(
    make_bench: MakeBench, trainer: Trainer, policy: Path, tmp_path: Path
) -> None:
    bench = make_bench()
    rounds(bench, trainer, tmp_path, count=1)
    (setup,), (job,) = trainer.setups, trainer.jobs
    assert setup.spec == job.spec
    assert setup.seed == job.seed
    assert (setup.depths.low, setup.depths.high) == bench.spec.rl.price
    asked = setup.depths.request
    assert (asked.rule, asked.sampled, asked.depth, asked.prompt_depth) == ("policy", True, 4, 2)
    (heads,) = bench.asked
    assert all([r.rule for r in group] == ["policy"] * 4 for group in heads.values())


def test_the_tokens_half_is_grpo_by_its_defaults(spec: DepthStage) -> None:
    phase = JointPhase(lr=1e-4, kl=0.0, token_steps=20)
    stage = joint_part.token_stage(spec.model_copy(update={"temperature": 0.7}), phase, ranks=1)
    assert (stage.lr, stage.kl, stage.temperature, stage.max_tokens) == (1e-4, 0.0, 0.7, 9)
    assert (stage.steps, stage.prompts_per_step, stage.samples_per_prompt) == (20, 3, 4)
    assert stage.reference_every is None  # a round is short: it is held to where it began
    assert stage.rewards == ["answer"]
    assert stage.save_steps == 5
    micro = {ranks: joint_part.token_stage(spec, phase, ranks=ranks) for ranks in (1, 2, 4)}
    assert {r: s.micro_batch_rows for r, s in micro.items()} == {1: 6, 2: 6, 4: 3}


def test_the_stages_metrics_count_on(
    make_bench: MakeBench, trainer: Trainer, policy: Path, tmp_path: Path
) -> None:
    bench = make_bench()
    rounds(bench, trainer, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "work" / METRICS_FILE).open()]
    assert [(row["step"], row["steps"]) for row in rows] == [(n, 10) for n in range(5, 11)]
    shown = [(row["step"], row["steps"]) for row in bench.shown]
    assert shown == [(n, 10) for n in range(5, 11)]
    assert not (tmp_path / "work" / "joint-tokens-0" / CHECKPOINTS).exists()


@pytest.mark.parametrize("stop_after", [0, 1])
def test_a_stopped_round_goes_on_where_it_was(
    make_bench: MakeBench, trainer: Trainer, policy: Path, tmp_path: Path, stop_after: int
) -> None:
    first = make_bench(stop_after=stop_after)
    with pytest.raises(Stopped):
        rounds(first, trainer, tmp_path)
    work = tmp_path / "work"
    half = work / f"joint-tokens-{stop_after}"
    assert (half / CHECKPOINTS / "checkpoint-1").is_dir()
    again = make_bench()
    rounds(again, trainer, tmp_path)
    assert len(first.updates) + len(again.updates) == 2
    assert len(trainer.jobs) == 3  # the one that was stopped went on
    assert (work / "joint-head" / "state-000002.safetensors").read_text() == "01"
    rows = [json.loads(line) for line in (work / METRICS_FILE).open()]
    assert [(row["step"], row["steps"]) for row in rows] == [(n, 10) for n in range(5, 11)]
