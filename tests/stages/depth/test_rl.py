"""The steps: journaled before the head changes, and none made twice."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.generate.groups import Group
from pipeline.generate.rollouts import RolloutError, Sampling
from pipeline.recipe import DepthStage
from pipeline.records import Prompt, Rollout, Scored, read_scored
from pipeline.stages.context import Stopped
from pipeline.stages.depth.rl import Steps, update_of

SPEC = DepthStage.model_validate(
    {
        "kind": "depth", "prompts": "t", "calibration": "t", "held_out": "t", "max_depth": 4,
        "max_tokens": 9,
        "rl": {"steps": 4, "prompts_per_step": 3, "samples_per_prompt": 4, "forced": 1},
    }
)  # fmt: skip


class Bench:
    """A bench whose engines and trainers write down what they are asked."""

    def __init__(self, folder: Path, *, stop_after: int = 99, value: float | None = 1.0) -> None:
        self.spec = SPEC
        self.plan: Any = SimpleNamespace(name="depth", seed=3, spec=SPEC)
        self.calls: list[str] = []
        self.loaded: list[Any] = []
        self.value = value
        self.sampled = 0
        self.updates: list[Any] = []
        self.ctx: Any = SimpleNamespace(
            work=folder / "work",
            run_dir=folder,
            plan=SimpleNamespace(
                device="cpu",
                recipe=SimpleNamespace(
                    hardware=SimpleNamespace(threads_per_rank=1),
                    model=SimpleNamespace(dtype="float32"),
                ),
            ),
            cluster=SimpleNamespace(call=self.call),
            console=SimpleNamespace(log=lambda _: None, metrics=lambda *_: None),
            stopping=lambda: len(self.updates) >= stop_after,
        )

    def serving(self, model: Path) -> Any:
        return SimpleNamespace(sample=self.sample, load_weights=self.loaded.append)

    def forget(self) -> None:
        pass

    def sampling(self, samples: int) -> Sampling:
        return Sampling(samples=samples, temperature=1.0, top_p=1.0, max_tokens=9)

    def sample(self, prompts: list[Prompt], *, depths: Any, **_: Any) -> list[Group]:
        self.sampled += 1
        return [
            Group(
                prompt_id=p.id,
                samples=tuple(self.scored(p, i) for i, _ in enumerate(depths[p.id])),
            )
            for p in prompts
        ]

    def scored(self, prompt: Prompt, sample: int) -> Scored:
        rollout = Rollout(
            prompt_id=prompt.id,
            sample=sample,
            seed=0,
            prompt_tokens=(1,),
            tokens=(2,),
            logprobs=(0.0,),
            stop="eos",
            weight_version=0,
            depths=(2,),
        )
        return Scored(
            rollout=rollout, text="", reward=self.value, components={"a": self.value}, verdicts={}
        )

    def call(self, target: str, *arguments: Any, **keywords: Any) -> Any:
        name = target.rpartition(":")[2]
        self.calls.append(name)
        if name == "update":
            self.updates.append(keywords)
            assert len(read_scored(arguments[1])) == 12  # the journal is there before
            before = "" if keywords["state"] is None else keywords["state"].read_text()
            keywords["new_state"].write_text(before + str(keywords["spec"].step))
            return {"policy": 0.5, "depth_mean": 2.0, "alarms": []}
        if name == "packed":
            return arguments[0].read_text()
        return None


@pytest.fixture(autouse=True)
def prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Prompt(id=f"p{i}", question="?") for i in range(20)]
    monkeypatch.setattr("pipeline.stages.depth.rl.prompts_of", lambda *_: found)


def steps(bench: Any, folder: Path) -> Steps:
    (folder / "work").mkdir(exist_ok=True)
    return Steps(bench, warm=folder / "warm", ref_tokens=7.0, number=0)


def test_every_step_trains_on_what_its_head_sampled(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    last = steps(bench, tmp_path).run(tmp_path / "out")
    assert last["step"] == 4
    assert bench.loaded == ["0", "01", "012"]  # the warm start's own weights are served at first
    assert [u["spec"].step for u in bench.updates] == [0, 1, 2, 3]
    assert bench.calls[-1] == "export_head"
    rows = [json.loads(line) for line in (tmp_path / "work" / "metrics.jsonl").open()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]


def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path) -> None:
    first = Bench(tmp_path, stop_after=2)
    with pytest.raises(Stopped):
        steps(first, tmp_path).run(tmp_path / "out")
    again = Bench(tmp_path)
    steps(again, tmp_path).run(tmp_path / "out")
    assert [u["spec"].step for u in again.updates] == [2, 3]
    assert (tmp_path / "work" / "rl-0" / "state-000004.safetensors").read_text() == "0123"


def test_a_journaled_step_is_not_sampled_again(tmp_path: Path) -> None:
    first = Bench(tmp_path, stop_after=2)
    with pytest.raises(Stopped):
        steps(first, tmp_path).run(tmp_path / "out")
    (tmp_path / "work" / "rl-0" / "row-000001.json").unlink()  # killed before its row was written
    (tmp_path / "work" / "rl-0" / "state-000002.safetensors").unlink()
    again = Bench(tmp_path)
    steps(again, tmp_path).run(tmp_path / "out")
    assert [u["spec"].step for u in again.updates] == [1, 2, 3]
    assert again.sampled == 2
    assert again.updates[0]["spec"].log_prices == first.updates[1]["spec"].log_prices


def test_rewards_that_fail_stop_the_stage(tmp_path: Path) -> None:
    with pytest.raises(RolloutError, match="could not be scored"):
        steps(Bench(tmp_path, value=None), tmp_path).run(tmp_path / "out")


def test_the_trainer_is_told_the_recipes_settings() -> None:
    told = update_of(SPEC, step=3, prices={"p": 0.5}, ref_tokens=7.0)
    assert (told.step, told.ref_tokens, told.clip) == (3, 7.0, SPEC.rl.clip)
    assert told.log_prices == {"p": 0.5}
