"""A bench whose engines and trainers write down what they are asked."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.generate.groups import Group
from pipeline.generate.service import Sampling
from pipeline.recipe.schema import DepthStage
from pipeline.records import Prompt, Rollout, Scored, read_scored

MakeBench = Callable[..., Any]


@pytest.fixture
def spec() -> DepthStage:
    return DepthStage.model_validate(
        {
            "kind": "depth", "prompts": "t", "calibration": "t", "held_out": "t", "max_depth": 4,
            "max_tokens": 9,
            "rl": {"steps": 4, "prompts_per_step": 3, "samples_per_prompt": 4, "forced": 1},
            "joint": {"rounds": 2, "token_steps": 2, "head_steps": 1},
        }
    )  # fmt: skip


@pytest.fixture
def make_bench(spec: DepthStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeBench:
    """One on `tmp_path`, with twenty prompts; `stop_after`: updates until the user wants an end."""
    found = [Prompt(id=f"p{i}", question="?") for i in range(20)]
    monkeypatch.setattr("pipeline.depth.rl.course.prompts_of", lambda *_: found)
    (tmp_path / "work").mkdir(exist_ok=True)
    return lambda **options: Bench(spec, tmp_path, **options)


class Bench:
    """The double of `pipeline.depth.bench.Bench`."""

    def __init__(
        self, spec: DepthStage, folder: Path, *, stop_after: int = 99, value: float | None = 1.0
    ) -> None:
        self.spec = spec
        self.plan: Any = SimpleNamespace(name="depth", seed=3, spec=spec)
        self.calls: list[str] = []
        self.served: list[Path] = []
        self.asked: list[Any] = []
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
        self.served.append(model)
        return SimpleNamespace(sample=self.sample, load_weights=self.loaded.append)

    def forget(self) -> None:
        pass

    def sampling(self, samples: int) -> Sampling:
        return Sampling(samples=samples, temperature=1.0, top_p=1.0, max_tokens=9)

    def sample(self, prompts: list[Prompt], *, depths: Any, **_: Any) -> list[Group]:
        self.sampled += 1
        self.asked.append(depths)
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
