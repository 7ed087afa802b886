"""Bytes that a forward pass keeps for its backward one, by the layers of a Llama-type model. Pure.

After Korthikanti et al. (arXiv 2205.05198), section 4: what every operation of a layer has to
keep, added up. They have s b h (34 + 5 a s / h) bytes for a GPT layer in 16 bits; ours have a gated
MLP, grouped keys, RMSNorm, no dropout, and attention that keeps no scores. For h hidden, q query, k
KV and m MLP values of a token, one layer keeps (values a token; tests/plan/test_activations.py
counts what autograd saves):

    norms        2 x (input, normed input)                4 h
    projections  input of Q, K, V; of O; of gate and up   2 h + q
    attention    Q after rotation, output; K, V           2 q + 2 k
    MLP          gate, its SiLU, up, their product        4 m
    head norms   input and normed input of Q and K        2 q + 2 k, in models that have them

In float32 a value is 4 bytes. In bfloat16 norms compute in float32: each keeps its input in 4 bytes
and what it normed in 2. Under autocast (bfloat16 without DeepSpeed) norms stay in 4 bytes, and each
of Q, K, V, gate and up casts its input anew.

Rows of a packed pass attend to a prompt's keys and values, which every row copies (2 k for each of
the prompt's tokens), under a mask of a value for every pair of tokens.
"""

from dataclasses import dataclass
from typing import Literal

from pipeline.plan.model_shape import Layers

Arithmetic = Literal["float32", "bfloat16", "autocast"]

HEAD_TILE_TOKENS = 1024  # of a head whose logits are never whole (TRL's chunked loss); assumed


@dataclass(frozen=True, kw_only=True)
class Pass:
    """What goes through a model at once, on one rank."""

    tokens: float  # of all rows, a shared prompt once
    row_tokens: float  # of the longest row, its prompt left out
    prompt_tokens: float = 0.0  # that rows share and copy
    read_tokens: float = 0.0  # whose logits are whole at once; 0: they are computed in tiles

    @property
    def rows(self) -> float:
        """Rows of the longest length that it has room for."""
        return max(self.tokens / max(self.row_tokens, 1.0), 1.0)


def token_bytes(layers: Layers, arithmetic: Arithmetic) -> float:
    """Bytes that one layer keeps for a token, but for masks and copied prompts.

    >>> sizes = Layers(layers=1, hidden=256, query=256, kv=256, mlp=688, vocabulary=512)
    >>> token_bytes(sizes, "float32")  # 4 x (6 + 3 + 2) x 256 + 16 x 688
    22272.0
    """
    h, q, k, m = layers.hidden, layers.query, layers.kv, layers.mlp
    wide = 2.0 * (q + k) if layers.head_norms else 0.0
    if arithmetic == "float32":
        return 4.0 * (6 * h + 3 * q + 2 * k + 4 * m + wide)
    narrow = 2.0 * (3 * q + 2 * k + 4 * m)
    if arithmetic == "autocast":
        return 16.0 * h + 10.0 * h + narrow + 4.0 * wide
    return 12.0 * h + 4.0 * h + narrow + 3.0 * wide


def layer_bytes(layers: Layers, arithmetic: Arithmetic, through: Pass) -> float:
    """Bytes that one layer keeps for a pass, masks and copied prompts included."""
    value = 4 if arithmetic == "float32" else 2
    kept = token_bytes(layers, arithmetic) * through.tokens
    if through.prompt_tokens:
        kept += through.rows * through.prompt_tokens * 2 * layers.kv * value
        kept += through.tokens * (through.prompt_tokens + through.row_tokens) * value
    return kept


def activation_bytes(
    layers: Layers,
    arithmetic: Arithmetic,
    through: Pass,
    *,
    iterations: int = 1,
    recomputed: bool = False,
) -> float:
    """Bytes of all layers at the end of a forward pass; where they are `recomputed` (gradient
    checkpointing), each layer's input and the whole of one (the same section, full recomputation).
    """
    passed, stream = layers.passed(iterations), 2 if arithmetic == "bfloat16" else 4
    one = layer_bytes(layers, arithmetic, through)
    last = end_bytes(layers, arithmetic, through)
    if recomputed:
        return passed * through.tokens * layers.hidden * stream + one + last
    return passed * one + last


def end_bytes(layers: Layers, arithmetic: Arithmetic, through: Pass) -> float:
    """Bytes that the last norm keeps, and the head of what it reads."""
    norm, value = (6, 2) if arithmetic == "bfloat16" else (8, 4)
    value = 2 if arithmetic == "autocast" else value
    read = through.read_tokens or through.tokens
    return layers.hidden * (norm * through.tokens + value * read)


def logit_bytes(layers: Layers, arithmetic: Arithmetic, through: Pass) -> float:
    """Bytes at the head at most: logits with their float32 probabilities, in which the gradient is
    made in place; in bfloat16 a float32 copy of them too. A tile of it where none are whole.

    >>> sizes = Layers(layers=1, hidden=8, query=8, kv=8, mlp=8, vocabulary=100)
    >>> logit_bytes(sizes, "float32", Pass(tokens=10, row_tokens=10, read_tokens=10))
    8000.0
    """
    tokens = through.read_tokens or min(through.tokens, HEAD_TILE_TOKENS)
    return tokens * layers.vocabulary * (8.0 if arithmetic == "float32" else 10.0)
