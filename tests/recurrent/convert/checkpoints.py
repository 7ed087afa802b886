"""Small random checkpoints in folders, and what a folder's model computes."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

SIZES = {
    "vocab_size": 101,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "eos_token_id": 5,
    "bos_token_id": None,
    "pad_token_id": 3,
}


def llama_model(**keywords: Any) -> LlamaForCausalLM:
    return LlamaForCausalLM(LlamaConfig(**{**SIZES, **keywords}))


def saved(model: PreTrainedModel, folder: Path, **keywords: Any) -> Path:
    """The model with every weight random, norms and biases too, in a folder."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(parameter + 0.15 * drawn)
    model.save_pretrained(folder, **keywords)
    return folder


def tokens_of(vocabulary: int = 101, *, rows: int = 2, length: int = 70) -> Tensor:
    return torch.randint(vocabulary, (rows, length), generator=torch.Generator().manual_seed(9))


@torch.no_grad()
def logits(folder: Path, tokens: Tensor, **keywords: Any) -> Tensor:
    return AutoModelForCausalLM.from_pretrained(folder).eval()(tokens, **keywords).logits


def reweighed(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> Path:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def configured(folder: Path, **settings: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    return folder


def random_checkpoint(
    folder: Path, shapes: Mapping[str, tuple[int, ...]], settings: Mapping[str, Any]
) -> Path:
    generator = torch.Generator().manual_seed(1)
    weights = {}
    for name, shape in shapes.items():
        drawn = 0.15 * torch.randn(shape, generator=generator)
        weights[name] = drawn + 1 if "norm" in name or "ln_f" in name else drawn
    folder.mkdir()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(settings))
    return folder
