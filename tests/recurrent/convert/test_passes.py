"""A model whose layers come from its files computes what the model in memory does."""

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    PhiConfig,
    PhiForCausalLM,
    PreTrainedModel,
)

from pipeline.recurrent.config import RecurrentConfig
from pipeline.recurrent.convert import passes
from pipeline.recurrent.convert.folder import convert_dense
from pipeline.recurrent.convert.influence import leaving_early, measure
from pipeline.recurrent.convert.passes import load_for_passes
from pipeline.recurrent.model import RecurrentForCausalLM
from tests.recurrent.convert.checkpoints import SIZES, llama_model, saved, tokens_of


def recurrent() -> PreTrainedModel:
    sizes = {name: size for name, size in SIZES.items() if name != "num_hidden_layers"}
    config = RecurrentConfig(**sizes, prelude_layers=1, core_layers=2, coda_layers=1)
    return RecurrentForCausalLM(config)


KINDS = {
    "llama, tied": lambda: llama_model(tie_word_embeddings=True),
    "llama": lambda: llama_model(tie_word_embeddings=False),
    "recurrent": recurrent,
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(n_embd=48, n_layer=2, n_head=4, vocab_size=101)),
    "biases": lambda: PhiForCausalLM(PhiConfig(**SIZES)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_layers_from_files_give_the_same_logits(
    kind: str, dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved(KINDS[kind]().to(dtype), tmp_path / "stored")
    whole = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    held = load_for_passes(folder, dtype=torch.float32)
    assert not any(p.is_meta for p in held.parameters())
    monkeypatch.setattr(passes, "RESIDENT_BYTES", 0)
    model = load_for_passes(folder, dtype=torch.float32)
    assert any(p.is_meta for p in model.parameters())
    tokens = tokens_of()
    with torch.no_grad():
        for _ in range(2):
            assert torch.equal(model(tokens).logits, whole(tokens).logits)
    assert any(p.is_meta for p in model.parameters())
    assert load_for_passes(folder).dtype == dtype


@pytest.mark.parametrize("kind", [{"tie_iterations": False}, {"copy_core": True}])
def test_layers_of_iterations_that_do_not_run_are_not_asked_for(
    kind: dict[str, bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache would hold what they project."""
    monkeypatch.setattr(passes, "RESIDENT_BYTES", 0)
    saved(llama_model(tie_word_embeddings=True), tmp_path / "dense")
    convert_dense(tmp_path / "dense", tmp_path / "ours", split=(1, 2, 1), **kind)
    model = load_for_passes(tmp_path / "ours", dtype=torch.float32)
    assert len(leaving_early(model, tokens_of())) == 2


def test_what_looping_costs_is_measured_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its layers are called one by one, from the middle on too."""
    saved(llama_model(tie_word_embeddings=True), tmp_path / "dense")
    convert_dense(tmp_path / "dense", tmp_path / "ours", split=(1, 2, 1))
    results = []
    for resident in (2**29, 0):
        monkeypatch.setattr(passes, "RESIDENT_BYTES", resident)
        model = load_for_passes(tmp_path / "ours", dtype=torch.float32)
        results.append(measure(model, tokens_of(), cores=[(1, 3), (0, 2)], gate=0.25))
    assert results[0] == results[1]
