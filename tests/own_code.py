"""A tiny model whose code is its own: a Llama with a scaled MLP, in files such as the hub has."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tests.tiny_families import CHATML, SIZES, tokenizer

FILES = ("configuration_pebble.py", "modeling_pebble.py", "scaling_pebble.py")
AUTO_MAP = {
    "AutoConfig": "configuration_pebble.PebbleConfig",
    "AutoModel": "modeling_pebble.PebbleModel",
    "AutoModelForCausalLM": "modeling_pebble.PebbleForCausalLM",
}
CONFIGURATION = """
from transformers import LlamaConfig


class PebbleConfig(LlamaConfig):
    model_type = "pebble"
"""
MODELING = """
from torch import nn
from transformers import LlamaForCausalLM, LlamaModel
from transformers.models.llama.modeling_llama import LlamaMLP

from .configuration_pebble import PebbleConfig
from .scaling_pebble import scaled


class PebbleMLP(LlamaMLP):
    def forward(self, x):
        return scaled(super().forward(x))


class PebbleModel(LlamaModel):
    config_class = PebbleConfig

    def __init__(self, config):
        super().__init__(config)
        for layer in self.layers:
            layer.mlp = PebbleMLP(config)
        self.post_init()


class PebbleForCausalLM(LlamaForCausalLM):
    config_class = PebbleConfig

    def __init__(self, config):
        super().__init__(config)
        self.model = PebbleModel(config)
        self.post_init()
"""
SCALING = """
def scaled(x):
    return 0.5 * x
"""


def write_code(folder: Path, **config: Any) -> Path:
    """The files of code, and a `config.json` that names them."""
    folder.mkdir(exist_ok=True)
    for name, text in zip(FILES, (CONFIGURATION, MODELING, SCALING), strict=True):
        (folder / name).write_text(text)
    sizes = {**SIZES, "model_type": "pebble", "auto_map": AUTO_MAP}
    content = {**sizes, "architectures": ["PebbleForCausalLM"], **config}
    (folder / "config.json").write_text(json.dumps(content))
    return folder


def write_model(folder: Path) -> Path:
    """The same with weights and a tokenizer; runs the code."""
    words = tokenizer(CHATML, None)
    tokens = {"eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
    write_code(folder, **tokens, bos_token_id=None)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, trust_remote_code=True, dtype=torch.float32)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": AUTO_MAP}))
    return folder
