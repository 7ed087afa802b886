"""Ouro's checkpoints against their semantics written out."""

from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.recurrent.convert.checkpoint import ConversionError
from pipeline.recurrent.convert.folder import (
    convert_published,
)
from pipeline.recurrent.model import RecurrentForCausalLM
from tests.recurrent.convert.checkpoints import (
    configured,
    logits,
    tokens_of,
)
from tests.recurrent.convert.references import (
    ouro_checkpoint,
    ouro_states,
)


def test_ouro_gives_the_logits_of_its_semantics(tmp_path: Path) -> None:
    source, weights, settings = ouro_checkpoint(tmp_path / "ouro")
    done = convert_published(source, tmp_path / "ours")
    assert done.split == (0, 2, 0)
    config = done.config
    assert (config.num_iterations, config.max_iterations) == (4, 4)
    tokens = tokens_of(90, length=20)
    states = ouro_states(weights, settings, tokens)
    for depth, state in enumerate(states, start=1):
        expected = state @ weights["lm_head.weight"].T
        assert expected.std() > 0.1
        result = logits(tmp_path / "ours", tokens, num_iterations=depth)
        assert (result - expected).abs().max() < 1e-4
    model = RecurrentForCausalLM.from_pretrained(tmp_path / "ours")
    assert model.config.to_dict()["early_exit_threshold"] == 0.9
    assert model.model.exit_gate is not None
    assert torch.equal(model.model.exit_gate.weight, weights["model.early_exit_gate.weight"])
    assert torch.equal(model.model.exit_gate.bias, weights["model.early_exit_gate.bias"])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"use_sliding_window": True}, "sliding-window"),
        ({"attention_bias": True}, "attention_bias"),
        ({"total_ut_steps": None}, "no total_ut_steps"),
        ({"num_hidden_layers": 3}, r"nothing fills model\.core\.2"),
    ],
)
def test_what_ouros_mapping_does_not_know_is_refused(
    tmp_path: Path, settings: dict[str, Any], says: str
) -> None:
    source, _, _ = ouro_checkpoint(tmp_path / "ouro")
    with pytest.raises(ConversionError, match=says):
        convert_published(configured(source, **settings), tmp_path / "ours")
