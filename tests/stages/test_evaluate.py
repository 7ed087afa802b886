"""What an evaluation asks of a model, and what its answers took."""

import json
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.generate.chat import load_chat
from pipeline.generate.groups import Group
from pipeline.generate.journal import Journal
from pipeline.generate.native_engine import NativeEngine
from pipeline.generate.service import RewardUse, RolloutService
from pipeline.measure.energy import Energy
from pipeline.prompts.tasks import generate
from pipeline.recipe.evaluate_stage import EvaluateStage
from pipeline.records import Prompt, Rollout, Scored, read_scored
from pipeline.stages import evaluate
from pipeline.stages.evaluate import asked_depth, compute, summary
from rewards.api import Reward, Sample
from rewards.text_format import exact_match
from tests.generate.engine_settings import cpu_settings

DEPTH_MODEL = Path(__file__).parents[2] / "data" / "models" / "tiny-depth"


def stage(**keys: Any) -> EvaluateStage:
    return EvaluateStage.model_validate(
        {"kind": "evaluate", "models": ["base"], "prompts": "t", **keys}
    )


def group(*depths: int) -> Group:
    rollout = Rollout(
        prompt_id="p",
        sample=0,
        seed=0,
        prompt_tokens=(1,),
        tokens=(2,) * len(depths),
        logprobs=(0.0,) * len(depths),
        stop="eos",
        weight_version=0,
        depths=depths,
        flops=1e9 * sum(depths),
    )
    scored = Scored(rollout=rollout, text="", reward=1.0, components={}, verdicts={})
    return Group(prompt_id="p", samples=(scored,))


def test_a_depth_or_an_effort_is_asked(tmp_path: Path) -> None:
    config = {
        "depth_policy": {"depth": 6, "prompt_depth": 2, "segment": 1, "sampled": False},
        "depth_calibration": [{"budget": 0.3, "log_price": 0.5}],
        "efforts": {"low": 0.3},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert asked_depth(stage(), tmp_path) is None
    fixed = asked_depth(stage(depth=3), tmp_path)
    assert fixed is not None
    assert (fixed.rule, fixed.depth, fixed.prefill_depth) == ("fixed", 3, 3)
    low = asked_depth(stage(effort="low"), tmp_path)
    assert low is not None
    assert (low.rule, low.log_price) == ("policy", 0.5)


def test_a_model_without_calibration_knows_no_effort(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="a depth stage writes it"):
        asked_depth(stage(effort="low"), tmp_path)


def test_depth_is_by_token_and_energy_by_answer() -> None:
    groups = [group(1, 1, 1), group(5)]
    measured = Energy(joules=8.0, source="rapl", seconds=1.0)
    found = compute(groups, 8e9, measured, device="cpu")
    assert found == {
        "mean_depth": 2.0,
        "flops_per_answer": 4e9,
        "joules_per_answer": 4.0,
        "energy_source": "rapl",
    }
    assert compute(groups, 8e9, None, device="cpu")["energy_source"] == "analytic"


def test_an_engines_start_is_not_in_the_answers_energy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    class Meter:
        energy = Energy(joules=6.0, source="rapl", seconds=1.0)

        def __enter__(self) -> "Meter":
            events.append("meter")
            return self

        def __exit__(self, *_: Any) -> None:
            pass

        def add_flops(self, flops: float) -> None:
            events.append("flops")

    def sample(_: Any, __: Any, serve: Any, *___: Any, **____: Any) -> list[Group]:
        serve()
        scored = replace(group(1, 3).samples[0], components={"answer": 1.0})
        return [Group(prompt_id="p", samples=(scored,))]

    (tmp_path / "out").mkdir()
    monkeypatch.setattr(evaluate, "serve", lambda *_, **__: events.append("serve") or "serving")
    monkeypatch.setattr(evaluate, "EnergyMeter", lambda _: Meter())
    monkeypatch.setattr(evaluate, "sample_in_chunks", sample)
    monkeypatch.setattr(evaluate, "model_of", lambda *_: tmp_path)
    monkeypatch.setattr(evaluate, "prompts_of", lambda *_: [Prompt(id="p", question="?")])
    plan: Any = SimpleNamespace(name="final", seed=3, spec=stage())
    ctx: Any = SimpleNamespace(
        work=tmp_path / "work",
        out=tmp_path / "out",
        plan=SimpleNamespace(device="cpu"),
        console=SimpleNamespace(stage=lambda *_, note: events.append(note)),
        journal=lambda folder, *, stage: Journal(folder),
    )
    (result,) = evaluate.run(plan, ctx).info["results"]
    assert result["joules_per_answer"] == 6.0
    assert events == ["base, model 1 of 1", "serve", "meter", "flops"]


def judged(*values: float | None) -> Group:
    samples = tuple(
        replace(group(1).samples[0], reward=value, components={"answer": value}) for value in values
    )
    return Group(prompt_id="p", samples=samples)


def test_pass_at_k_is_of_prompts_with_k_scored_samples() -> None:
    spec = stage(samples_per_prompt=2, pass_k=[1, 2])
    found = summary([judged(1.0, 0.0), judged(0.0, None), judged(None, None)], spec)
    assert found["pass_at"] == {"1": 0.25, "2": 1.0}
    assert found["pass_at_problems"] == {"1": 2, "2": 1}
    assert (found["accuracy"], found["unscored"], found["problems"]) == (0.25, 3, 2)
    none = summary([judged(1.0, None)], spec)
    assert none["pass_at"] == {"1": 1.0, "2": None}
    with pytest.raises(ValueError, match="scored none of 2"):
        summary([judged(None, None)], spec)


class Inline:
    """A verifier pool that judges at once."""

    def submit(self, _: str, sample: Sample, **__: Any) -> Future[Reward]:
        future: Future[Reward] = Future()
        future.set_result(exact_match(sample))
        return future


def test_a_real_model_explores_as_the_stage_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stage, the service and the native engine, without their processes."""
    settings = cpu_settings(tokens=160, sequences=16)
    service = RolloutService(
        [NativeEngine(DEPTH_MODEL, settings, version=0)],
        load_chat(DEPTH_MODEL),
        Inline(),
        rewards=[RewardUse(name="answer", ref="exact_match", weight=1.0, args={})],
        preface={"t": ()},
        base=tmp_path,
        max_model_tokens=160,
    )
    serving = SimpleNamespace(sample=partial(service.sample, step=None, version=0))
    problems = generate("shuffles", size=5, split="test", seed=3, difficulty=(3, 4))
    prompts = [
        Prompt(id=str(n), question=p.question, answer=p.answer) for n, p in enumerate(problems)
    ]
    monkeypatch.setattr(evaluate, "serve", lambda *_, **__: serving)
    monkeypatch.setattr(evaluate, "model_of", lambda *_: DEPTH_MODEL)
    monkeypatch.setattr(evaluate, "prompts_of", lambda *_: prompts)

    def evaluated(name: str, explore: dict[str, float] | None) -> tuple[Any, list[Rollout]]:
        keys = {"samples_per_prompt": 2, "max_tokens": 64, "depth": 3, "explore": explore}
        plan: Any = SimpleNamespace(name=name, seed=3, spec=stage(**keys))
        ctx: Any = SimpleNamespace(
            work=tmp_path / name / "work",
            out=tmp_path / name,
            plan=SimpleNamespace(device="cpu"),
            console=SimpleNamespace(stage=lambda *_, **__: None, metrics=lambda *_: None),
            stopping=lambda: False,
        )
        ctx.out.mkdir()
        (result,) = evaluate.run(plan, ctx).info["results"]
        return result, [s.rollout for s in read_scored(ctx.out / "base.parquet")]

    one, plain = evaluated("plain", None)
    assert "explore" not in one
    for noise in (0.0, 0.4):
        result, rollouts = evaluated(f"noise-{noise}", {"paths": 3, "noise": noise})
        assert result["explore"] == {"paths": 3, "noise": noise, "keep": 0.5}
        assert (result["accuracy"] == one["accuracy"]) or noise
        assert result["mean_depth"] == one["mean_depth"] == 3.0
        alike = [replace(a, flops=b.flops) == b for a, b in zip(plain, rollouts, strict=True)]
        assert all(alike) == (noise == 0.0)
        assert result["flops_per_answer"] > 1.3 * one["flops_per_answer"]
