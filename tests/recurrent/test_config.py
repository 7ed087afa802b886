"""The configuration refuses what cannot be built, and says which field to change."""

import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.errors import StrictDataclassError

from pipeline.recurrent.config import RecurrentConfig


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"core_layers": 0}, "core_layers=0 must be at least 1"),
        ({"prelude_layers": -1}, "prelude_layers=-1 must be at least 0"),
        ({"coda_layers": -1}, "coda_layers=-1 must be at least 0"),
        ({"num_key_value_heads": 3}, "num_key_value_heads=3 must divide num_attention_heads=8"),
        ({"head_dim": 15}, "head_dim=15 must be even"),
        ({"num_iterations": 9}, "num_iterations=9 must lie between 1 and max_iterations=8"),
        ({"num_iterations": 0}, "num_iterations=0 must lie between"),
        ({"iteration_norm": True}, "iteration_norm and exit_norm exclude each other"),
        ({"injection": "none"}, 'through state_init="input"'),
        ({"backprop_iterations": 0}, "backprop_iterations=0 must be at least 1, or null"),
        ({"kv_planes": 0}, "kv_planes=0 must be at least 1, or null"),
        ({"kv_planes": 2, "tie_iterations": False}, "set kv_planes to null"),
        ({"halting_width": -4}, "halting_width=-4 must be at least 1, or null"),
        ({"num_experts": 0}, "num_experts=0 must be at least 1, or null"),
        ({"num_experts": 2, "experts_per_token": 3}, "experts_per_token=3 must lie between 1 and"),
        ({"injection": "sum"}, "injection"),
        ({"block_style": "post"}, "block_style"),
        ({"state_init": "one"}, "state_init"),
        ({"hidden_size": "wide"}, "hidden_size"),
    ],
)
def test_what_cannot_be_built_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, StrictDataclassError), match=message):
        RecurrentConfig(**changes)


def test_heads_default_to_an_even_split() -> None:
    config = RecurrentConfig(hidden_size=96, num_attention_heads=6)
    assert (config.head_dim, config.num_key_value_heads) == (16, 6)
    assert config.num_hidden_layers == 4


def test_untied_iterations_have_blocks_of_their_own() -> None:
    config = RecurrentConfig(core_layers=2, max_iterations=3, num_iterations=3)
    assert [config.blocks_of(i) for i in (1, 3)] == [slice(0, 2)] * 2
    untied = RecurrentConfig(
        core_layers=2, max_iterations=3, num_iterations=3, tie_iterations=False
    )
    assert [untied.blocks_of(i) for i in (1, 3)] == [slice(0, 2), slice(4, 6)]
    assert (config.num_hidden_layers, untied.num_hidden_layers) == (4, 8)


def test_a_saved_configuration_comes_back(tmp_path: Path) -> None:
    config = RecurrentConfig(
        injection="gated", block_style="pre", halting_width=8, backprop_iterations=2, kv_planes=1
    )
    config.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["model_type"] == "stepwell_recurrent"
    assert RecurrentConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()
