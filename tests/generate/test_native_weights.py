"""The native engine's weights: new ones, parts of them, and what it refuses."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.generate.engine import Part, WeightVersionError
from pipeline.generate.native_engine import NativeEngine
from pipeline.generate.weights import folder_weights, pack, unpack
from pipeline.recurrent.model import RecurrentForCausalLM
from pipeline.recurrent.request import DepthRequest
from tests.generate.native_requests import SETTINGS, build, gap, mixed, ruled, run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("native"))


@pytest.fixture(scope="module")
def model(folder: Path) -> RecurrentForCausalLM:
    return RecurrentForCausalLM.from_pretrained(folder).eval()


@pytest.fixture(scope="module")
def engine(folder: Path) -> NativeEngine:
    return NativeEngine(folder, SETTINGS, version=0)


def test_new_weights_are_used_and_old_versions_refused(
    folder: Path, model: RecurrentForCausalLM
) -> None:
    engine = NativeEngine(folder, SETTINGS, version=0)
    changed = RecurrentForCausalLM.from_pretrained(folder).eval()
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=draw)
    engine.load_weights(unpack(pack(changed.state_dict())), version=1)
    rollouts = run(engine, mixed(9), version=1)
    assert {r.weight_version for r in rollouts} == {1}
    assert gap(changed, rollouts) < 1e-5
    assert gap(model, rollouts) > 1e-2
    with pytest.raises(WeightVersionError, match="holds weight version 1, rollouts of 0"):
        next(engine.generate(mixed(1), version=0))
    engine.load_weights(folder_weights(folder), version=2)  # a tied head comes along
    assert gap(model, run(engine, mixed(9), version=2)) < 1e-5
    with pytest.raises(ValueError, match=r"hold model.nowhere of shape \(1,\)"):
        engine.load_weights([("model.nowhere", torch.zeros(1))], version=3)
    for version in (2, 3):
        with pytest.raises(WeightVersionError, match="holds a part of new weights"):
            next(engine.generate(mixed(1), version=version))


def test_a_part_of_new_weights_is_served_by_nobody(folder: Path) -> None:
    engine, other = (NativeEngine(folder, SETTINGS, version=0) for _ in range(2))
    weights = [(name, tensor + 0.01) for name, tensor in folder_weights(folder)]
    other.load_weights(weights, version=1)
    for parts in (1, 2, 3):  # of three: two syncs that break off, then all of it again
        for number in range(parts):
            part = Part(first=number == 0, last=number == 2)
            engine.load_weights(weights[number::3], version=1, part=part)
            if part.last:
                break
            for version in (0, 1):
                with pytest.raises(WeightVersionError, match="send all of them again"):
                    next(engine.generate(mixed(1), version=version))
    rows = [run(one, mixed(9), version=1) for one in (engine, other)]
    assert rows[0] == rows[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt_tokens": ()}, "at least one prompt token"),
        ({"max_tokens": 64}, "over max_model_tokens=64"),
        ({"depth": DepthRequest(depth=7)}, "over the model's max_iterations=6"),
    ],
)
def test_impossible_requests_are_refused(
    engine: NativeEngine, change: dict[str, object], message: str
) -> None:
    request = dataclasses.replace(mixed(1)[0], **change)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        next(engine.generate([request], version=0))


def test_rules_without_their_weights_are_refused(tmp_path: Path) -> None:
    build(tmp_path)
    model = RecurrentForCausalLM.from_pretrained(tmp_path)
    config = model.config
    config.halting_width, config.exit_gate = None, False
    RecurrentForCausalLM(config).save_pretrained(tmp_path)
    engine = NativeEngine(tmp_path, SETTINGS, version=0)
    for rule, lack in (
        ("policy", "a halting policy"),
        ("right", "a halting policy"),
        ("q_exit", "an exit gate"),
    ):
        with pytest.raises(ValueError, match=lack):
            next(engine.generate(ruled(rule, 1), version=0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kv_planes": 2}, "set kv_planes to null"),
        ({"warm_start": True}, "set warm_start to false"),
        ({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "static"),
    ],
)
def test_models_that_it_cannot_serve_exactly_are_refused(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    build(tmp_path, **options)
    with pytest.raises(ValueError, match=message):
        NativeEngine(tmp_path, SETTINGS, version=0)
