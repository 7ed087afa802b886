"""Transformer blocks whose attention leaves the cache to the caller.

Shapes: B sequences, T new tokens, S attended tokens, h hidden size, H query heads, K KV heads,
D head size. A block is `project` (norm, queries, keys, values), `attend`, `finish` (output
projection, residuals, norms, MLP); engines put a cache of their own between the first two.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm, apply_rotary_pos_emb

from .config import RecurrentConfig
from .shared_prefix import SharedPrefix

KeyValue = tuple[Tensor, Tensor]
"""Keys and values, [B, K, S, D] each."""


class Attention(nn.Module):
    """Grouped-query attention with rotary positions."""

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        assert config.head_dim is not None  # the configuration fills in both
        assert config.num_key_value_heads is not None
        self.head_dim = config.head_dim
        queries = config.num_attention_heads * config.head_dim
        keys = config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, queries, bias=config.qkv_bias)
        self.k_proj = nn.Linear(config.hidden_size, keys, bias=config.qkv_bias)
        self.v_proj = nn.Linear(config.hidden_size, keys, bias=config.qkv_bias)
        self.o_proj = nn.Linear(queries, config.hidden_size, bias=config.output_bias)
        norm = config.qk_norm
        self.q_norm = LlamaRMSNorm(config.head_dim, config.rms_norm_eps) if norm else nn.Identity()
        self.k_norm = LlamaRMSNorm(config.head_dim, config.rms_norm_eps) if norm else nn.Identity()

    def project(self, hidden: Tensor, rope: KeyValue) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [B, H, T, D], keys and values [B, K, T, D]; `rope` is (cos, sin) [B, T, D]."""
        heads = (*hidden.shape[:-1], -1, self.head_dim)
        q = self.q_norm(self.q_proj(hidden).view(heads)).transpose(1, 2)
        k = self.k_norm(self.k_proj(hidden).view(heads)).transpose(1, 2)
        v = self.v_proj(hidden).view(heads).transpose(1, 2)
        q, k = apply_rotary_pos_emb(q, k, *rope)
        return q, k, v

    def keys_values(self, hidden: Tensor, rope: KeyValue) -> KeyValue:
        """What `project` gives beside queries, [B, K, T, D] each."""
        heads = (*hidden.shape[:-1], -1, self.head_dim)
        k = self.k_norm(self.k_proj(hidden).view(heads)).transpose(1, 2)
        v = self.v_proj(hidden).view(heads).transpose(1, 2)
        return apply_rotary_pos_emb(k, k, *rope)[1], v


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | SharedPrefix | None) -> Tensor:
    """Attention of q [B, H, T, D] over k and v [B, K, S, D]: [B, T, H * D].

    `mask` is boolean [B, 1, T, S], true where attention is allowed. Without one, several queries
    attend causally and a single one to everything. A layout is that of rows in one sequence.
    """
    if isinstance(mask, SharedPrefix):
        return mask.attend(q, k, v).flatten(2)
    grouped = q.shape[1] != k.shape[1]
    causal = mask is None and q.shape[2] > 1
    out = F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=grouped
    )
    return out.transpose(1, 2).flatten(2)


class SparseMLP(nn.Module):
    """Mixture of experts: each token's `experts_per_token` best, weighted by a softmax over them
    (Mixtral, arXiv 2401.04088, section 2.1)."""

    def __init__(self, config: RecurrentConfig, *, experts: int) -> None:
        super().__init__()
        self.per_token = config.experts_per_token
        self.router = nn.Linear(config.hidden_size, experts, bias=False)
        self.experts = nn.ModuleList(LlamaMLP(config) for _ in range(experts))

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., h] to [..., h]."""
        rows = hidden.reshape(-1, hidden.shape[-1])
        weight, choice = self.router(rows).topk(self.per_token, dim=-1)
        weight = weight.softmax(dim=-1)
        out = torch.zeros_like(rows)
        for index, expert in enumerate(self.experts):
            row, rank = (choice == index).nonzero(as_tuple=True)
            out = out.index_add(0, row, expert(rows[row]) * weight[row, rank, None])
        return out.view_as(hidden)


class Block(GradientCheckpointingLayer):
    """Attention and MLP in one of three norm styles; see `RecurrentConfig.block_style`."""

    def __init__(self, config: RecurrentConfig, *, experts: int | None = None) -> None:
        super().__init__()
        self.style = config.block_style
        self.self_attn = Attention(config)
        self.mlp = LlamaMLP(config) if experts is None else SparseMLP(config, experts=experts)
        width, eps = config.hidden_size, config.rms_norm_eps
        pre = self.style == "pre"
        self.input_layernorm = LlamaRMSNorm(width, eps)
        self.post_attention_layernorm = LlamaRMSNorm(width, eps)
        self.attention_out_norm = nn.Identity() if pre else LlamaRMSNorm(width, eps)
        self.mlp_out_norm = nn.Identity() if pre else LlamaRMSNorm(width, eps)

    def project(self, hidden: Tensor, rope: KeyValue) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of a block input [B, T, h]."""
        return self.self_attn.project(self.input_layernorm(hidden), rope)

    def keys_values(self, hidden: Tensor, rope: KeyValue) -> KeyValue:
        """Keys and values alone [B, K, T, D]: how a token that does not run here is seen."""
        return self.self_attn.keys_values(self.input_layernorm(hidden), rope)

    def finish(self, hidden: Tensor, attended: Tensor) -> Tensor:
        """The block's output [B, T, h] from its input and the heads' outputs [B, T, H * D]."""
        out = self.self_attn.o_proj(attended)
        if self.style == "pre":
            hidden = hidden + out
            return hidden + self.mlp(self.post_attention_layernorm(hidden))
        if self.style == "branch":
            hidden = hidden + self.attention_out_norm(out)
            return hidden + self.mlp_out_norm(self.mlp(self.post_attention_layernorm(hidden)))
        hidden = self.attention_out_norm(hidden + out)
        return self.mlp_out_norm(hidden + self.mlp(self.post_attention_layernorm(hidden)))

    def forward(
        self,
        hidden: Tensor,
        rope: KeyValue,
        mask: Tensor | SharedPrefix | None,
        past: KeyValue | None = None,
        active: Tensor | None = None,
        last: KeyValue | None = None,
        live: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The output [B, T, h], and the keys and values [B, K, S, D] that were attended to.

        Where `active` [B, T] is false, the token has left the core: the keys and values `last`
        [B, K, T, D], where there are any, stand in for its own. Where `live` [B, T] is false, no
        gradient passes through the token's keys and values.
        """
        q, k, v = self.project(hidden, rope)
        if live is not None:
            carries = live[:, None, :, None]
            k, v = torch.where(carries, k, k.detach()), torch.where(carries, v, v.detach())
        if active is not None and last is not None:
            here = active[:, None, :, None]
            k, v = torch.where(here, k, last[0]), torch.where(here, v, last[1])
        if past is not None:
            k, v = torch.cat((past[0], k), dim=2), torch.cat((past[1], v), dim=2)
        return self.finish(hidden, attend(q, k, v, mask)), k, v
