"""Huginn's checkpoints against the published code's logits, and its semantics written out."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from pipeline.recurrent.convert.checkpoint import ConversionError
from pipeline.recurrent.convert.folder import (
    convert_published,
)
from pipeline.recurrent.convert.huginn import halves
from tests.recurrent.convert.checkpoints import (
    configured,
    logits,
    tokens_of,
)
from tests.recurrent.convert.references import (
    huginn_checkpoint,
    huginn_logits,
)

ROOT = Path(__file__).resolve().parents[3]


HUGINN_TINY = ROOT.parent / "shared/data/huginn_tiny"


@pytest.mark.skipif(not HUGINN_TINY.is_dir(), reason="the published code's logits are not here")
def test_huginn_gives_the_published_codes_logits(tmp_path: Path) -> None:
    done = convert_published(HUGINN_TINY, tmp_path / "ours", state_init="zero")
    assert (done.split, done.max_logit_diff, done.left_out) == ((2, 3, 1), None, ())
    settings = json.loads((HUGINN_TINY / "config.json").read_text())
    weights = load_file(HUGINN_TINY / "model.safetensors")
    recorded = load_file(HUGINN_TINY / "expected.safetensors")
    for depth in (1, 2, 4, 8):
        expected = recorded[f"logits_r{depth}"]
        result = logits(tmp_path / "ours", recorded["input_ids"], num_iterations=depth)
        assert (result - expected).abs().max() < 1e-4
        ours = huginn_logits(weights, settings, recorded["input_ids"], depth)
        assert (ours - expected).abs().max() < 1e-4  # the test's own reference holds too


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"qk_bias": False, "tie_embeddings": False},
        {"injection_type": "add", "n_layers_in_recurrent_block": 1, "n_layers_in_coda": 1},
    ],
)
def test_huginn_variants(tmp_path: Path, changes: dict[str, Any]) -> None:
    source, weights, settings = huginn_checkpoint(tmp_path / "huginn", **changes)
    done = convert_published(source, tmp_path / "ours", state_init="zero")
    assert done.config.vocab_size == 128  # padded, as the logits are
    assert (done.config.num_iterations, done.config.max_iterations) == (3, 8)
    tokens = tokens_of(90, length=20)
    for depth in (1, 3):
        expected = huginn_logits(weights, settings, tokens, depth)
        assert expected.std() > 0.1
        result = logits(tmp_path / "ours", tokens, num_iterations=depth)
        assert (result - expected).abs().max() < 1e-4


def test_huginns_initial_state_is_zero_or_as_published(tmp_path: Path) -> None:
    source, _, _ = huginn_checkpoint(tmp_path / "huginn")
    assert convert_published(source, tmp_path / "zero").config.state_init == "zero"
    config = convert_published(source, tmp_path / "ours", state_init="normal").config
    assert (config.state_init, config.state_init_std) == ("normal", pytest.approx(0.2 * 5.0))
    unsaid = configured(source, init_values=None)
    config = convert_published(unsaid, tmp_path / "plain").config
    assert config.embedding_scale == pytest.approx(48**0.5)
    assert config.state_init_std == pytest.approx(0.4**0.5)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"bias": True}, "bias=True"),
        ({"norm_class_name": "LayerNorm"}, "norm_class_name='LayerNorm'"),
        ({"nonlin_name": "Tanh"}, "nonlin_name='Tanh'"),
        ({"rope_base": None}, "no rope_base"),
        ({"state_init": "embed"}, "state_init='embed'"),
        ({"n_layers_in_coda": 2}, "no place for transformer.coda.2"),
        ({"n_layers_in_coda": 4}, "nothing fills model.coda.3"),
    ],
)
def test_what_huginns_mapping_does_not_know_is_refused(
    tmp_path: Path, settings: dict[str, Any], says: str
) -> None:
    source, _, _ = huginn_checkpoint(tmp_path / "huginn")
    with pytest.raises(ConversionError, match=says):
        convert_published(configured(source, **settings), tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_an_injection_without_an_adapter_is_refused_unless_it_adds(tmp_path: Path) -> None:
    source, _, _ = huginn_checkpoint(tmp_path / "huginn", injection_type="modulated")
    with pytest.raises(ConversionError, match="injection_type='modulated'"):
        convert_published(source, tmp_path / "ours")


@given(st.integers(1, 4), st.integers(1, 6))
def test_rows_are_reordered_within_heads(heads: int, pairs: int) -> None:
    rows = torch.arange(heads * pairs * 2)[:, None]
    result = halves(rows, heads=heads).view(heads, 2, pairs)
    assert torch.equal(result[:, 1], result[:, 0] + 1)
    assert torch.equal(result.flatten().sort().values, rows[:, 0])
