"""A model's block in fewer, larger operations: at few rows the number of calls decides the speed.

Shapes: N rows, h hidden size, H query heads, K KV heads, D head size.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

from pipeline.recurrent.blocks import Block, KeyValue


class FusedBlock:
    """`Block` on [N, h], with its projections joined. The block's own weights become views of the
    joined ones, so weights that are copied into the model arrive here."""

    def __init__(self, block: nn.Module) -> None:
        assert isinstance(block, Block)
        self.block, attention = block, block.self_attn
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        assert attention.head_dim is not None
        self.head_dim = attention.head_dim
        self.heads, self.kv_heads = (p.out_features // self.head_dim for p in projections[:2])
        self.weight, self.bias = _join(projections)
        self.mlp: LlamaMLP | None = None
        if isinstance(block.mlp, LlamaMLP):
            self.mlp = block.mlp
            self.mlp_weight, self.mlp_bias = _join((block.mlp.gate_proj, block.mlp.up_proj))

    def project(self, hidden: Tensor, rope: KeyValue) -> tuple[Tensor, Tensor]:
        """Queries [H, N, D], and keys and values [2 K, N, D], of a block input [N, h].

        `rope` is cosine and sine [N, D], the sine's first half negated.
        """
        heads = self._projected(hidden, rope, queries=self.heads)
        return heads[: self.heads], heads[self.heads :]

    def keys_values(self, hidden: Tensor, rope: KeyValue) -> Tensor:
        """The keys and values of `project` alone, [2 K, N, D]."""
        return self._projected(hidden, rope, queries=0)

    def _projected(self, hidden: Tensor, rope: KeyValue, *, queries: int) -> Tensor:
        """The last `queries` of the query heads, keys and values: [queries + 2 K, N, D]."""
        start = (self.heads - queries) * self.head_dim
        bias = None if self.bias is None else self.bias[start:]
        normed = _norm(self.block.input_layernorm, hidden)
        heads = F.linear(normed, self.weight[start:], bias).unflatten(-1, (-1, self.head_dim))
        heads = heads.transpose(0, 1)
        rotary = heads[: queries + self.kv_heads]
        attention = self.block.self_attn
        if isinstance(attention.q_norm, LlamaRMSNorm):
            rotary[:queries] = _norm(attention.q_norm, rotary[:queries])
            rotary[queries:] = _norm(attention.k_norm, rotary[queries:])
        half = self.head_dim // 2
        halves = torch.cat((rotary[..., half:], rotary[..., :half]), dim=-1)
        rotary.mul_(rope[0]).addcmul_(halves, rope[1])
        return heads

    def finish(self, hidden: Tensor, attended: Tensor) -> Tensor:
        """The block's output [N, h] from its input and the heads' outputs [N, H * D]."""
        block = self.block
        out = block.self_attn.o_proj(attended)
        if block.style == "pre":
            hidden = hidden + out
            return hidden + self._mlp(_norm(block.post_attention_layernorm, hidden))
        if block.style == "branch":
            hidden = hidden + _norm(block.attention_out_norm, out)
            inner = self._mlp(_norm(block.post_attention_layernorm, hidden))
            return hidden + _norm(block.mlp_out_norm, inner)
        hidden = _norm(block.attention_out_norm, hidden + out)
        inner = self._mlp(_norm(block.post_attention_layernorm, hidden))
        return _norm(block.mlp_out_norm, hidden + inner)

    def _mlp(self, hidden: Tensor) -> Tensor:
        if self.mlp is None:
            return self.block.mlp(hidden)
        gate, up = F.linear(hidden, self.mlp_weight, self.mlp_bias).chunk(2, dim=-1)
        return self.mlp.down_proj(self.mlp.act_fn(gate) * up)


def _norm(norm: nn.Module, hidden: Tensor) -> Tensor:
    assert isinstance(norm, LlamaRMSNorm)
    return F.rms_norm(hidden, norm.weight.shape, norm.weight, norm.variance_epsilon)


def _join(parts: Sequence[nn.Linear]) -> tuple[Tensor, Tensor | None]:
    """Weights and biases of linear maps of one input as one map's."""
    weight = torch.cat([part.weight.data for part in parts])
    biases = [part.bias.data for part in parts if part.bias is not None]
    bias = torch.cat(biases) if biases else None
    start = 0
    for part in parts:
        end = start + part.out_features
        part.weight.data = weight[start:end]
        if bias is not None:
            part.bias.data = bias[start:end]
        start = end
    return weight, bias
