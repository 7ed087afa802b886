"""Small recurrent models that draw their own depths."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.depth.model.head import fresh, with_head
from pipeline.models.materialize import materialize
from pipeline.recipe.model_source import ModelSource, ScratchModel
from pipeline.recurrent.model import RecurrentForCausalLM

CALIBRATION: dict[str, Any] = {
    "depth_policy": {"depth": 6, "prompt_depth": 2, "segment": 1, "sampled": False},
    "depth_calibration": [
        {"budget": b, "log_price": p, "mean_depth": 6 * b, "accuracy": 0.5, "flops": 1e6}
        for b, p in ((0.3, 2.0), (0.5, 0.0), (0.8, -2.0))
    ],
    "efforts": {"low": 0.3, "medium": 0.5, "high": 0.8},
}


@pytest.fixture(scope="session")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recurrent model of random weights whose halting head makes its tokens' depths differ."""
    sizes: dict[str, Any] = {"hidden": 32, "heads": 1, "mlp": 48, "max_position": 512}
    depths: dict[str, Any] = {"prelude": 1, "core": 1, "coda": 1, "iterations": 3}
    shape = ScratchModel(**sizes, **depths, max_iterations=8)
    plain = materialize(ModelSource(scratch=shape), tmp_path_factory.mktemp("plain"), seed=3)
    head = fresh(RecurrentForCausalLM.from_pretrained(plain).config, width=16, seed=1)
    with torch.no_grad():
        head.out.weight.mul_(12)
        head.state.weight.mul_(3)
    out = with_head(plain, tmp_path_factory.mktemp("calibrated"), head)
    for name, more in (
        ("config.json", CALIBRATION),
        ("generation_config.json", {"effort": "medium"}),
    ):
        settings = json.loads((out / name).read_text())
        (out / name).write_text(json.dumps(settings | more))
    return out
