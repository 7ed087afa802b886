"""What a dense model's answers take in FLOPs, from its folder alone. Loads no ML library."""

import json
from math import prod
from pathlib import Path

from safetensors import safe_open

from pipeline.measure.training_flops import TokenCost, Tokens, dense_cost, forward_flops
from pipeline.plan.sizes import usual_names

EMBEDDINGS = ("embed", "wte", "wpe")
"""Parts of the names of tables that are looked up, not multiplied."""
HEADS = ("lm_head", "embed_out")


def forward_cost(model: Path) -> TokenCost | None:
    """What a token costs in the model of a folder, experts by the share that a token passes.

    None where the folder has no safetensors files, or a configuration that does not say what
    attention costs: recurrent models have a cost of their own, see `pipeline.recurrent.shape`.
    """
    config = usual_names(json.loads((model / "config.json").read_text()))
    files = sorted(model.glob("*.safetensors"))
    needed = ("hidden_size", "num_attention_heads", "num_hidden_layers", "vocab_size")
    if not files or any(key not in config for key in needed):
        return None
    hidden, heads, layers, words = (config[key] for key in needed)
    experts = config.get("num_experts") or config.get("num_local_experts")
    share = config["num_experts_per_tok"] / experts if experts else 1.0
    weights = 0.0
    for file in files:
        with safe_open(file, framework="np") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - no mapping
                shape = tensors.get_slice(name).get_shape()
                if len(shape) > 1 and not any(part in name for part in (*EMBEDDINGS, *HEADS)):
                    weights += prod(shape) * (share if ".experts." in name else 1.0)
    return dense_cost(
        weights=weights,
        head=hidden * words,
        layers=layers,
        heads=heads,
        head_size=config.get("head_dim") or hidden // heads,
    )


def answer_flops(cost: TokenCost, *, prompt_tokens: int, tokens: int) -> float:
    """Forward FLOPs of a prompt and its completion, counted as those of recurrent models are
    (`pipeline.recurrent.shape.rollout_flops`): the last token never runs, and only positions whose
    output is a token of the completion pass the head.

    >>> cost = TokenCost(token=100.0, pair=1.0, read=10.0)
    >>> answer_flops(cost, prompt_tokens=2, tokens=2)  # 3 positions, which see 1, 2 and 3
    326.0
    """
    ran = prompt_tokens - 1 + tokens
    return forward_flops(cost, Tokens(tokens=ran, pairs=ran * (ran + 1) // 2, read=tokens))
