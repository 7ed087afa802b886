"""Every model source becomes one complete folder."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
)

from pipeline.models.materialize import materialize
from pipeline.models.model_folder import check_folder
from pipeline.models.scratch_model import CHAT_TEMPLATE
from pipeline.recipe.model_source import ModelSource, ScratchModel
from pipeline.recurrent.convert import tensor_files
from pipeline.recurrent.convert.tensor_files import INDEX, SINGLE
from pipeline.recurrent.explore import RIGHT_HEAD
from pipeline.recurrent.model import RecurrentForCausalLM


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


def test_scratch_folder_is_complete(folder: Path) -> None:
    check_folder(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert {weight.dtype for weight in model.state_dict().values()} == {torch.float32}
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert json.loads((folder / "config.json").read_text())["head_dim"] == 32
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.chat_template == CHAT_TEMPLATE
    assert tokenizer.decode(tokenizer("a b  c\n")["input_ids"]) == "a b  c\n"
    generation = GenerationConfig.from_pretrained(folder)
    assert generation.eos_token_id == tokenizer.eos_token_id
    assert generation.pad_token_id == tokenizer.pad_token_id != tokenizer.eos_token_id


def test_the_seed_alone_draws_the_weights(
    folder: Path, shape: ScratchModel, tmp_path: Path
) -> None:
    torch.manual_seed(123)
    state = torch.random.get_rng_state()
    same = _weights(materialize(ModelSource(scratch=shape), tmp_path / "same"))
    other = _weights(materialize(ModelSource(scratch=shape), tmp_path / "other", seed=1))
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, weight in _weights(folder).items():
        assert torch.equal(weight, same[name])
    assert not torch.equal(same["lm_head.weight"], other["lm_head.weight"])


def test_path_copies_weights_and_takes_a_template(folder: Path, tmp_path: Path) -> None:
    source = ModelSource(path=str(folder), chat_template="{{ messages[0]['content'] }}")
    out = materialize(source, tmp_path / "copy")
    copied = _weights(out)
    assert all(torch.equal(weight, copied[name]) for name, weight in _weights(folder).items())
    assert AutoTokenizer.from_pretrained(out).chat_template == source.chat_template


def test_dtype(folder: Path, tmp_path: Path) -> None:
    out = materialize(ModelSource(path=str(folder), dtype="bfloat16"), tmp_path / "half")
    assert {weight.dtype for weight in _weights(out).values()} == {torch.bfloat16}


@pytest.mark.parametrize("file_bytes", [2**28, 2**14])
@pytest.mark.parametrize("tied", [True, False])
def test_a_split_copies_the_stored_tensors(
    folder: Path, tied: bool, file_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, however many files there are, and stored tensors without a use are no fault."""
    config = LlamaConfig(
        hidden_size=32,
        num_attention_heads=1,
        intermediate_size=32,
        num_hidden_layers=4,
        vocab_size=102,
        tie_word_embeddings=tied,
    )
    torch.manual_seed(3)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(tmp_path / "dense")
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "dense")
    stored = load_file(tmp_path / "dense" / SINGLE)
    more = {"model.layers.4.mtp.weight": torch.ones(3)}
    save_file(stored | more, tmp_path / "dense" / SINGLE, metadata={"format": "pt"})
    monkeypatch.setattr(tensor_files, "FILE_BYTES", file_bytes)
    source = ModelSource(path=str(tmp_path / "dense"), split=(1, 2, 1))
    out = materialize(source, tmp_path / "looped")
    assert (out / INDEX).exists() == (file_bytes == 2**14)
    looped = {k: v for file in out.glob("*.safetensors") for k, v in load_file(file).items()}
    places = ["prelude.0", "core.0", "core.1", "coda.0"]
    for name, tensor in stored.items():
        for layer, place in enumerate(places):
            name = name.replace(f"model.layers.{layer}.", f"model.{place}.")
        assert torch.equal(looped.pop(name), tensor.float()), name
    assert set(looped) == {"model.injection.adapter.weight", "model.injection.gate"}
    assert torch.equal(looped["model.injection.adapter.weight"], torch.eye(32, 64))


def test_a_dense_model_is_split_when_it_is_loaded(shape: ScratchModel, tmp_path: Path) -> None:
    two = shape.model_copy(update={"layers": 2})
    folder = materialize(ModelSource(scratch=two), tmp_path / "dense")
    source = ModelSource(path=str(folder), split=(0, 1, 1), max_iterations=3)
    model = AutoModelForCausalLM.from_pretrained(materialize(source, tmp_path / "looped"))
    assert isinstance(model, RecurrentForCausalLM)
    assert (model.config.core_layers, model.config.max_iterations) == (1, 3)
    dense = AutoModelForCausalLM.from_pretrained(folder)
    tokens = torch.arange(6, 40)[None]
    with torch.no_grad():
        assert torch.allclose(
            model(tokens, num_iterations=1).logits, dense(tokens).logits, atol=1e-5
        )
    source = ModelSource(path=str(folder), split=(0, 2, 0), tie_iterations=False)
    model = AutoModelForCausalLM.from_pretrained(materialize(source, tmp_path / "untied"))
    assert (model.config.core_layers, model.config.max_iterations) == (1, 2)
    with torch.no_grad():
        assert torch.allclose(model(tokens).logits, dense(tokens).logits, atol=1e-5)


def test_the_head_that_judges_paths_comes_along(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "judged")
    (tmp_path / "judged" / RIGHT_HEAD).parent.mkdir()
    (tmp_path / "judged" / RIGHT_HEAD).write_bytes(b"a head")
    out = materialize(ModelSource(path=str(tmp_path / "judged")), tmp_path / "copy")
    assert (out / RIGHT_HEAD).read_bytes() == b"a head"
    plain = materialize(ModelSource(path=str(folder)), tmp_path / "plain")
    assert not (plain / RIGHT_HEAD).exists()
