"""The stage's parts in their order, what each is made from, and where it ends early."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.depth import stage
from pipeline.depth.compare.compare_part import RESULTS_FILE
from pipeline.depth.compare.contenders import Contenders
from pipeline.depth.parts import Part
from pipeline.recipe.depth_stage import DepthStage
from pipeline.recurrent.explore import RIGHT_HEAD

ROOM = {
    "verdict": "go",
    "reason": "go.",
    "accuracy": [0.2, 0.8],
    "ref_tokens": 7.0,
    "best_at_equal_cost": {"points": {"estimate": 5.0, "low": 3.0, "high": 7.0}},
    "oracle": {"points": {"estimate": 4.0}},
    "by_depth": [],
}
KEYS = {"depth_policy": {}, "depth_calibration": [], "efforts": {"low": 0.2}}
FRONTS = {
    "hull_area": 0.1, "hull_area_ci": [0, 0.2], "hull_area_by_method": {}, "hypervolume": {},
    "hypervolume_ci": {}, "iterations_saved": None, "flops_saved": None,
    "reference": {},
}  # fmt: skip
COMPARISON = {
    **FRONTS, "problems": 3, "methods": {}, "oracle": {"verdict": "go", "reason": "go."},
    "seeds": [0, 1], "transfer": {},
}  # fmt: skip


class Parts:
    """Takes the place of `parts.part`: remembers what it is asked for, and makes nothing."""

    def __init__(self, folder: Path, **room: Any) -> None:
        self.folder = folder
        self.arguments: dict[str, Mapping[str, Any]] = {}
        self.infos: dict[str, Mapping[str, Any]] = {
            "1-random-depth": {"rows": 40, "rows_too_long": 0},
            "2-headroom": ROOM | room,
            "7-calibrate": KEYS,
            "8-pareto": COMPARISON,
        }

    def part(self, _: Any, name: str, make: Callable[..., Any], **arguments: Any) -> Part:
        assert callable(make)
        self.arguments[name] = arguments
        folder = self.folder / name
        (folder / "model").mkdir(parents=True)
        for file in ("config.json", "generation_config.json"):
            (folder / "model" / file).write_text("{}")
        (folder / RESULTS_FILE).write_text("{}")
        return Part(folder=folder, info=self.infos.get(name, {}))


def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: Parts, **spec: Any) -> Any:
    model = tmp_path / "base"
    model.mkdir()
    counts = spec.pop("counts", {})
    config = {"model_type": stage.MODEL_TYPE, "max_iterations": 4} | spec.pop("config", {})
    (model / "config.json").write_text(json.dumps(config))
    (tmp_path / "out").mkdir()
    recipe = {
        "kind": "depth", "prompts": "t", "calibration": "t", "held_out": "t", "max_depth": 4,
        "max_tokens": 9, "rl": {"seeds": 2},
    }  # fmt: skip
    plan: Any = SimpleNamespace(name="depth", seed=3, spec=DepthStage.model_validate(recipe | spec))
    ctx: Any = SimpleNamespace(out=tmp_path / "out", work=tmp_path / "work")
    monkeypatch.setattr(stage, "part", parts.part)
    monkeypatch.setattr(stage, "last_part", parts.part)
    monkeypatch.setattr(stage, "model_of", lambda *_: model)
    monkeypatch.setattr(stage, "prompts_of", lambda _, entry: range(counts.get(entry, 5)))
    return stage.run(plan, ctx)


def test_every_part_is_made_from_those_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = Parts(tmp_path)
    output = run(tmp_path, monkeypatch, parts, rows="t.worked", joint={"rounds": 1})
    made = list(parts.arguments)
    assert made == sorted(made, key=lambda name: int(name[0]))
    assert [name for name in made if name[0] in "156"] == [
        "1-random-depth", "5-rl-0", "5-rl-1", "6-joint-0-tokens", "6-joint-0-head",
    ]  # fmt: skip
    of = {name: part.get("model") for name, part in parts.arguments.items()}
    assert of["2-headroom"] == of["3-labels"] == of["4-gate"] == tmp_path / "1-random-depth/model"
    assert of["4-warm-start"] == of["4-labels-only"] == tmp_path / "4-gate/model"
    assert parts.arguments["4-warm-start"]["gain"] == pytest.approx(0.6)
    assert parts.arguments["5-rl-1"]["warm"] == tmp_path / "4-warm-start/model"
    assert of["6-joint-0-tokens"] == tmp_path / "5-rl-0/model"
    assert of["7-calibrate"] == tmp_path / "6-joint-0-head/model"
    contenders: Contenders = parts.arguments["8-pareto"]["contenders"]
    assert contenders.model("labels") == tmp_path / "4-labels-only/model"
    assert len(contenders.policies) == 2
    assert output.info["depth"]["efforts"] == {"low": 0.2}
    assert output.info["depth"]["headroom"]["points_ci"] == [3.0, 7.0]
    config = json.loads((tmp_path / "out/model/config.json").read_text())
    assert config == KEYS


@pytest.mark.parametrize(
    ("joint", "made", "handed_on"),
    [(None, True, True), ({"rounds": 1}, True, False), (None, False, False)],
)
def test_the_judge_of_paths_goes_with_the_weights_that_it_knows(
    joint: Any, made: bool, handed_on: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class WithJudge(Parts):
        def part(self, bench: Any, name: str, make: Callable[..., Any], **arguments: Any) -> Part:
            part = super().part(bench, name, make, **arguments)
            if name == "4-right" and made:
                (part.model / RIGHT_HEAD).parent.mkdir()
                (part.model / RIGHT_HEAD).write_text("a head")
            return part

    run(tmp_path, monkeypatch, WithJudge(tmp_path), joint=joint)
    assert (tmp_path / "out/model" / RIGHT_HEAD).exists() == handed_on


@pytest.mark.parametrize("force", [False, True])
def test_without_headroom_the_model_stays_as_it_is(
    force: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = Parts(tmp_path, verdict="no go")
    output = run(tmp_path, monkeypatch, parts, force=force)
    assert ("8-pareto" in parts.arguments) == force
    assert ("hull_area" in output.info["depth"]) == force
    assert output.info["depth"]["headroom"]["verdict"] == "no go"
    assert (tmp_path / "out/model/config.json").is_file()


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"model_type": "llama"}, "llama model, which has no core to iterate"),
        ({"max_iterations": 3}, "max_depth=4 is over the max_iterations=3"),
    ],
)
def test_a_model_that_cannot_is_refused(
    config: dict[str, Any], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=sentence):
        run(tmp_path, monkeypatch, Parts(tmp_path), config=config)


@pytest.mark.parametrize(("entry", "count", "least"), [("t", 4, 5), ("h", 1, 2), ("e", 0, 2)])
def test_too_few_prompts_are_refused_before_any_part(
    entry: str, count: int, least: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = Parts(tmp_path)
    spec = {"held_out": "h", "pareto": {"transfer": ["e"]}, "counts": {entry: count}}
    sentence = rf"prompts\.{entry} holds {count} prompts, .* at least {least} "
    with pytest.raises(ValueError, match=sentence):
        run(tmp_path, monkeypatch, parts, **spec)
    assert not parts.arguments
