"""The calibration's table in a model's configuration."""

import json
from pathlib import Path

import pytest

from pipeline.recipe import DepthStage
from pipeline.recurrent.effort import request_for
from pipeline.stages.depth.calibrate import configuration, write_model
from pipeline.stages.depth.calibration import Calibrated, Measured

SPEC = DepthStage.model_validate(
    {
        "kind": "depth", "prompts": "t", "calibration": "t", "held_out": "t", "max_depth": 8,
        "max_tokens": 9, "budgets": [0.25, 0.5, 0.6, 0.75],
    }
)  # fmt: skip


def measured(log_price: float, share: float) -> Measured:
    return Measured(log_price=log_price, share=share, accuracy=share, flops=1e6 * share)


CHOSEN = [Calibrated(budget=b, found=measured(4 - 8 * b, b + 0.01), met=True) for b in SPEC.budgets]


def test_efforts_are_the_ends_and_the_middle() -> None:
    keys = configuration(SPEC, CHOSEN, ends=(measured(-5, 0.95), measured(5, 0.13)))
    assert keys["efforts"] == {"low": 0.25, "medium": 0.6, "high": 0.75}
    assert [r["budget"] for r in keys["depth_calibration"]] == [0.13, 0.25, 0.5, 0.6, 0.75, 0.95]
    assert request_for(keys, effort="low").log_price == 2.0
    assert request_for(keys, budget=0.55).log_price == pytest.approx(-0.4)
    row = keys["depth_calibration"][1]
    assert row["mean_depth"] == pytest.approx(0.26 * 8)


def test_ends_that_widen_nothing_are_left_out() -> None:
    keys = configuration(SPEC, CHOSEN, ends=(measured(-5, 0.7), measured(5, 0.3)))
    assert [r["budget"] for r in keys["depth_calibration"]] == SPEC.budgets


def test_the_model_carries_its_calibration(tmp_path: Path) -> None:
    source = tmp_path / "a"
    source.mkdir()
    (source / "config.json").write_text('{"hidden_size": 4}')
    (source / "generation_config.json").write_text('{"eos_token_id": 1}')
    (source / "model.safetensors").write_text("weights")
    keys = configuration(SPEC, CHOSEN, ends=(measured(-5, 0.7), measured(5, 0.3)))
    write_model(source, tmp_path / "b", keys)
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    assert config["hidden_size"] == 4
    assert request_for(config, effort="high") == request_for(keys, effort="high")
    generation = json.loads((tmp_path / "b" / "generation_config.json").read_text())
    assert generation == {"eos_token_id": 1, "effort": "medium"}
    assert (tmp_path / "b" / "model.safetensors").read_text() == "weights"
