"""The steps: journaled before the head changes, and none made twice."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.depth.rl import policy_part
from pipeline.depth.rl.policy_part import CLIP, update_of
from pipeline.errors import Stopped
from pipeline.generate.unscored import TooManyUnscored
from pipeline.recipe.depth_stage import DepthStage

MakeBench = Callable[..., Any]


def steps(bench: Any, folder: Path) -> Mapping[str, Any]:
    return policy_part.make(bench, folder / "out", warm=folder / "warm", ref_tokens=7.0, number=0)


def test_every_step_trains_on_what_its_head_sampled(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench()
    last = steps(bench, tmp_path)
    assert last["step"] == 4
    assert bench.loaded == ["0", "01", "012"]  # the warm start's own weights are served at first
    assert [u["spec"].step for u in bench.updates] == [0, 1, 2, 3]
    assert {u["spec"].references for u in bench.updates} == {None}
    assert bench.calls[-1] == "export_head"
    rows = [json.loads(line) for line in (tmp_path / "work" / "metrics.jsonl").open()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]


def test_a_stopped_run_goes_on_where_it_was(make_bench: MakeBench, tmp_path: Path) -> None:
    first = make_bench(stop_after=2)
    with pytest.raises(Stopped):
        steps(first, tmp_path)
    again = make_bench()
    steps(again, tmp_path)
    assert [u["spec"].step for u in again.updates] == [2, 3]
    assert (tmp_path / "work" / "rl-0" / "state-000004.safetensors").read_text() == "0123"


def test_a_journaled_step_is_not_sampled_again(make_bench: MakeBench, tmp_path: Path) -> None:
    first = make_bench(stop_after=2)
    with pytest.raises(Stopped):
        steps(first, tmp_path)
    (tmp_path / "work" / "rl-0" / "row-000001.json").unlink()  # killed before its row was written
    (tmp_path / "work" / "rl-0" / "state-000002.safetensors").unlink()
    again = make_bench()
    steps(again, tmp_path)
    assert [u["spec"].step for u in again.updates] == [1, 2, 3]
    assert again.sampled == 2
    assert again.updates[0]["spec"].log_prices == first.updates[1]["spec"].log_prices


def test_rewards_that_fail_stop_the_stage(make_bench: MakeBench, tmp_path: Path) -> None:
    with pytest.raises(TooManyUnscored, match="could not be scored"):
        steps(make_bench(value=None), tmp_path)


def test_the_trainer_is_told_the_recipes_settings(spec: DepthStage) -> None:
    told = update_of(spec, step=3, prices={"p": 0.5}, ref_tokens=7.0)
    assert (told.step, told.ref_tokens, told.clip) == (3, 7.0, CLIP)
    assert told.log_prices == {"p": 0.5}


def test_learning_rate_and_entropy_fall(spec: DepthStage) -> None:
    rl = spec.rl.model_copy(update={"steps": 10, "lr": 1e-3})
    spec = spec.model_copy(update={"rl": rl})
    told = [update_of(spec, step=s, prices={}, ref_tokens=1.0) for s in (0, 5)]
    assert [t.lr for t in told] == pytest.approx([1e-3, 0.55e-3])
    assert [t.entropy for t in told] == pytest.approx([0.02, 0.01])
    after = update_of(spec, step=3, prices={}, ref_tokens=1.0, progress=1.0)
    assert (after.lr, after.entropy) == (pytest.approx(1e-4), 0.0)


def test_expected_outcomes_come_with_what_the_prompts_want(
    make_bench: MakeBench, tmp_path: Path
) -> None:
    bench = make_bench()
    rl = bench.spec.rl.model_copy(update={"outcome": "expected"})
    bench.spec = bench.spec.model_copy(update={"rl": rl})
    warm = Path("data/models/tiny-depth")
    policy_part.make(bench, tmp_path / "out", warm=warm, ref_tokens=7.0, number=0)
    told = [update["spec"] for update in bench.updates]
    assert all(set(one.references) == set(one.log_prices) for one in told)
