"""A stored model passes by tensors, and what arrives is what loading and saving would write."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MixtralConfig,
    PreTrainedConfig,
    Qwen3MoeConfig,
)

from pipeline.models.materialize import materialize
from pipeline.models.streaming import can_stream
from pipeline.recipe.model_source import ModelSource
from pipeline.recurrent.convert import tensor_files
from pipeline.recurrent.convert.tensor_files import INDEX, SINGLE, write_tensors
from tests.models.tokenizer_kinds import tokenizer

SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 128,
    "eos_token_id": 2,
    "bos_token_id": 1,
}
HEADS: dict[str, Any] = {"head_dim": 8}
EXPERTS: dict[str, Any] = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    **HEADS,
}
FAMILIES: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**SHAPE),
    "tied": LlamaConfig(**SHAPE, tie_word_embeddings=True),
    "mixtral": MixtralConfig(**SHAPE, num_local_experts=4),
    "qwen3_moe": Qwen3MoeConfig(**SHAPE, **EXPERTS),
    "gemma3": Gemma3TextConfig(**SHAPE, **HEADS),
    "gpt2": GPT2Config(
        n_embd=32, n_layer=2, n_head=4, vocab_size=128, eos_token_id=2, bos_token_id=1
    ),
}


@pytest.fixture
def stored(folder: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A family's folder as transformers saves it, in bfloat16."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(FAMILIES[request.param], dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "stored")
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "stored")
    return tmp_path / "stored"


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return {k: v for file in folder.glob("*.safetensors") for k, v in load_file(file).items()}


@pytest.mark.parametrize("stored", FAMILIES, indirect=True)
@pytest.mark.parametrize("file_bytes", [2**28, 2**12])
def test_the_folder_is_that_of_loading_and_saving(
    stored: Path, tmp_path: Path, file_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensor_files, "FILE_BYTES", file_bytes)
    out = materialize(ModelSource(path=str(stored)), tmp_path / "out")
    assert (out / INDEX).exists() == (file_bytes == 2**12) != (out / SINGLE).exists()
    loaded = AutoModelForCausalLM.from_pretrained(stored, dtype=torch.float32)
    loaded.save_pretrained(tmp_path / "saved")
    saved, streamed = tensors_of(tmp_path / "saved"), tensors_of(out)
    assert saved.keys() == streamed.keys()
    assert all(torch.equal(saved[name], streamed[name]) for name in saved)
    assert {tensor.dtype for tensor in streamed.values()} == {torch.float32}
    loading: Any = AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    again, report = loading
    assert not report["missing_keys"] | report["unexpected_keys"]
    tokens = torch.arange(3, 20)[None]
    with torch.no_grad():
        assert torch.equal(again(tokens).logits, loaded(tokens).logits)
    ours, theirs = (
        json.loads((place / "config.json").read_text()) for place in (out, tmp_path / "saved")
    )
    assert {key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key)} <= {"eos_token_id"}


@pytest.mark.parametrize("stored", ["tied"], indirect=True)
def test_what_the_model_has_no_use_for_is_left_out(stored: Path, tmp_path: Path) -> None:
    tensors = load_file(stored / SINGLE)
    embedding = tensors["model.embed_tokens.weight"]
    more = {
        "lm_head.weight": embedding.clone(),
        "model.layers.2.mtp.weight": torch.ones(3),
    }
    save_file(tensors | more, stored / SINGLE, metadata={"format": "pt"})
    out = materialize(ModelSource(path=str(stored)), tmp_path / "out")
    assert tensors_of(out).keys() == tensors.keys()


@pytest.mark.parametrize("stored", ["llama"], indirect=True)
def test_pickled_and_quantized_weights_are_not_streamed(stored: Path) -> None:
    assert can_stream(stored)
    config = json.loads((stored / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "fp8"}
    (stored / "config.json").write_text(json.dumps(config))
    assert not can_stream(stored)
    (stored / SINGLE).rename(stored / "pytorch_model.bin")
    del config["quantization_config"]
    (stored / "config.json").write_text(json.dumps(config))
    assert not can_stream(stored)


PEAK = """
import sys
from pathlib import Path
from pipeline.models.materialize import materialize
from pipeline.models.pruned_model import prune, restore
from pipeline.recipe.model_source import ModelSource
what, stored, out = sys.argv[1], *map(Path, sys.argv[2:])
if what == "copy":
    materialize(ModelSource(path=str(stored)), out)
elif what == "split":
    materialize(ModelSource(path=str(stored), split=(4, 16, 4)), out)
else:
    sample = [([5, 6], [7, 8, 9]), ([3], [4, 5])]
    few, rest = out / "few", out / "rest"
    prune(stored, few, rest, used=range(900), margin=50, sample=sample)
    if what == "restore":
        restore(few, rest, out / "whole")
status = Path("/proc/self/status").read_text()  # the time before exec does not count
print(status.split("VmHWM:")[1].split()[0])
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3 GiB of weights in bfloat16, 6 in float32: a random block again and again; a tokenizer that
    can be pruned."""
    config = LlamaConfig(
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=24,
        num_attention_heads=16,
        num_key_value_heads=8,
        vocab_size=32000,
    )
    stored = tmp_path_factory.mktemp("large") / "stored"
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(stored, state_dict={})
    drawn = 0.02 * torch.randn(2**16, generator=torch.Generator().manual_seed(0)).bfloat16()

    def read(names: Sequence[str]) -> dict[str, torch.Tensor]:
        shapes = {name: model.get_parameter(name).shape for name in names}
        return {
            name: drawn.repeat(-(-s.numel() // 2**16))[: s.numel()].view(s).clone()
            for name, s in shapes.items()
        }

    write_tensors(model.state_dict(), stored, read)
    tokenizer("gpt2").save_pretrained(stored)
    return stored


@pytest.mark.slow
@pytest.mark.parametrize("what", ["copy", "split", "prune", "restore"])
def test_memory_does_not_grow_with_the_model(large: Path, what: str, tmp_path: Path) -> None:
    size = sum(file.stat().st_size for file in large.glob("*.safetensors"))
    answer = subprocess.run(
        [sys.executable, "-c", PEAK, what, large, tmp_path / "out"],
        check=True,
        capture_output=True,
        text=True,
    )
    shutil.rmtree(tmp_path)
    peak = int(answer.stdout.split()[-1]) * 1024
    print(*(f"{name} {n / 2**30:.2f} GiB" for name, n in [("stored", size), (what, peak)]))
    assert size > 2.9 * 2**30
    assert peak < 1.5 * 2**30
