"""The joint phase's rounds: both halves go on from their own last state, and none is made twice."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.depth.rl import joint_part
from pipeline.errors import Stopped
from pipeline.recipe.depth_stage import DepthStage, JointPhase

MakeBench = Callable[..., Any]


def rounds(bench: Any, folder: Path, *, count: int = 2) -> list[Any]:
    """The infos of the rounds, each from the model of the last."""
    found, model = [], folder / "policy"
    for number in range(count):
        out = folder / f"round-{number}"
        found.append(
            joint_part.make(
                bench, out, model=model, warm=folder / "warm", ref_tokens=7.0, number=number
            )
        )
        model = out / "model"
    return found


def test_halves_take_turns_on_the_newest_weights(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench()
    found = rounds(bench, tmp_path)
    turns = [c for c in bench.calls if c != "packed"]
    one = ["update", "update", "export_model", "update", "export_head"]
    assert turns == one * 2
    between = tmp_path / "work" / "joint-model"
    policy, first = tmp_path / "policy", tmp_path / "round-0" / "model"
    assert bench.served == [policy, policy, between, first, first, between]
    # nothing is sent before the first step of a half; later ones take that half's last state
    assert bench.loaded == ["0", "01", "012", "0"]
    assert [u["reference"] for u in bench.updates] == [tmp_path / "warm"] * 6
    assert [type(u["spec"]).__name__ for u in bench.updates] == (
        ["TokenUpdate", "TokenUpdate", "RlUpdate"] * 2
    )
    assert found[1]["tokens"]["step"] == 4 + 3 + 2
    assert found[1]["head"]["step"] == 4 + 3 + 3


def test_tokens_learn_from_the_policys_own_depths_alone(
    make_bench: MakeBench, tmp_path: Path
) -> None:
    bench = make_bench()
    rounds(bench, tmp_path, count=1)
    tokens, _, head = bench.asked
    assert all([r.rule for r in group] == ["policy"] * 4 for group in tokens.values())
    assert all(len({r.log_price for r in group}) == 1 for group in tokens.values())
    assert len({group[0].log_price for group in tokens.values()}) == 3
    assert all(r.sampled for group in tokens.values() for r in group)
    assert all([r.rule for r in group] == ["policy"] * 3 + ["fixed"] for group in head.values())


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4])
def test_a_stopped_round_goes_on_where_it_was(
    make_bench: MakeBench, tmp_path: Path, stop_after: int
) -> None:
    first = make_bench(stop_after=stop_after)
    with pytest.raises(Stopped):
        rounds(first, tmp_path)
    again = make_bench()
    rounds(again, tmp_path)
    work = tmp_path / "work"
    assert len(first.updates) + len(again.updates) == 6
    assert (work / "joint-tokens" / "state-000004.safetensors").read_text() == "0123"
    assert (work / "joint-head" / "state-000002.safetensors").read_text() == "01"
    assert not (work / "joint-tokens" / "state-000002.safetensors").exists()
    rows = [json.loads(line) for line in (work / "metrics.jsonl").open()]
    assert [(row["step"], row["steps"]) for row in rows] == [(n, 10) for n in range(5, 11)]


def test_the_trainer_is_told_the_recipes_settings(spec: DepthStage) -> None:
    phase = JointPhase(lr=1e-4, backprop_iterations=2, clip=0.3, kl=0.0, updates_per_step=3)
    told = joint_part.token_update_of(spec.model_copy(update={"temperature": 0.7}), phase, step=5)
    assert (told.step, told.lr, told.backprop_iterations) == (5, 1e-4, 2)
    assert joint_part.token_update_of(spec, JointPhase(), step=0).backprop_iterations == 8
    assert (told.clip, told.kl, told.updates, told.temperature) == (0.3, 0.0, 3, 0.7)
