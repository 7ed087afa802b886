"""The calibration's table in a model's configuration."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from pipeline.depth.calibrate.calibrate_part import configuration, write_model
from pipeline.depth.calibrate.price_table import PricePoint
from pipeline.recipe.depth_stage import DepthStage
from pipeline.recurrent.effort import request_for

SPEC = DepthStage.model_validate(
    {
        "kind": "depth", "prompts": "t", "calibration": "t", "held_out": "t", "max_depth": 8,
        "max_tokens": 9, "budgets": [0.25, 0.5, 0.6, 0.75],
    }
)  # fmt: skip


def measured(log_price: float, share: float) -> PricePoint:
    return PricePoint(log_price=log_price, share=share, accuracy=share, flops=1e6 * share)


SEEN = [measured(-5.0, 0.9), measured(-1.0, 0.6), measured(1.0, 0.2), measured(2.0, 0.2)]


def test_efforts_are_the_named_budgets_ends_and_middle() -> None:
    keys = configuration(SPEC, SEEN)
    assert keys.efforts == {"low": 0.25, "medium": 0.6, "high": 0.75}
    assert [r["budget"] for r in keys.depth_calibration] == [0.2, 0.6, 0.9]
    assert request_for(asdict(keys), effort="medium").log_price == -1.0
    assert request_for(asdict(keys), budget=0.4).log_price == pytest.approx(0.0)
    assert keys.depth_calibration[1]["mean_depth"] == pytest.approx(0.6 * 8)


def test_without_budgets_efforts_are_shares_of_the_reach() -> None:
    keys = configuration(SPEC.model_copy(update={"budgets": None}), SEEN)
    assert list(keys.efforts.values()) == pytest.approx([0.27, 0.55, 0.83])


def test_noise_that_rises_is_one_row() -> None:
    seen = [measured(-5.0, 0.9), measured(0.0, 0.4), measured(1.0, 0.5), measured(2.0, 0.2)]
    keys = configuration(SPEC, seen)
    assert [r["budget"] for r in keys.depth_calibration] == pytest.approx([0.2, 0.45, 0.9])


def test_the_model_carries_its_calibration(tmp_path: Path) -> None:
    source = tmp_path / "a"
    source.mkdir()
    (source / "config.json").write_text('{"hidden_size": 4}')
    (source / "generation_config.json").write_text('{"eos_token_id": 1}')
    (source / "model.safetensors").write_text("weights")
    keys = configuration(SPEC, SEEN)
    write_model(source, tmp_path / "b", keys)
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    assert config["hidden_size"] == 4
    assert request_for(config, effort="high") == request_for(asdict(keys), effort="high")
    generation = json.loads((tmp_path / "b" / "generation_config.json").read_text())
    assert generation == {"eos_token_id": 1, "effort": "medium"}
    assert (tmp_path / "b" / "model.safetensors").read_text() == "weights"
