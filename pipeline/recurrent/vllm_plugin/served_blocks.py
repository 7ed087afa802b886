"""Transformer blocks of vLLM's layers, under the checkpoint's names.

Shapes: N rows, h hidden size, H query heads, K KV heads, D head size.
"""

from torch import Tensor, nn
from vllm.config import VllmConfig
from vllm.distributed import get_tensor_model_parallel_world_size
from vllm.model_executor.layers.attention import Attention
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.model_executor.layers.linear import (
    MergedColumnParallelLinear,
    QKVParallelLinear,
    RowParallelLinear,
)
from vllm.model_executor.layers.rotary_embedding import get_rope

from ..blocks import SparseMLP
from ..config import RecurrentConfig
from .kernels import normed, silu_and_mul
from .paging import View, attend


class Heads(nn.Module):
    """Queries, keys and values, and the way back. The caches are the caller's."""

    def __init__(self, config: RecurrentConfig, *, prefix: str) -> None:
        super().__init__()
        assert config.head_dim is not None  # the configuration fills in both
        assert config.num_key_value_heads is not None
        self.head_dim = config.head_dim
        width, eps = config.hidden_size, config.rms_norm_eps
        self.qkv_proj = QKVParallelLinear(
            width,
            self.head_dim,
            config.num_attention_heads,
            config.num_key_value_heads,
            bias=config.qkv_bias,
            prefix=f"{prefix}.qkv_proj",
        )
        self.o_proj = RowParallelLinear(
            config.num_attention_heads * self.head_dim,
            width,
            bias=config.output_bias,
            prefix=f"{prefix}.o_proj",
        )
        self.q_norm = RMSNorm(self.head_dim, eps=eps) if config.qk_norm else None
        self.k_norm = RMSNorm(self.head_dim, eps=eps) if config.qk_norm else None
        self.rope = get_rope(
            self.head_dim,
            max_position=config.max_position_embeddings,
            rope_parameters=config.rope_parameters,
        )
        self.sizes = [self.qkv_proj.num_heads * self.head_dim]
        self.sizes += [self.qkv_proj.num_kv_heads * self.head_dim] * 2

    def forward(self, hidden: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [N, H * D], keys and values [N, K * D] of a normed input [N, h]."""
        qkv, _ = self.qkv_proj(hidden)
        q, k, v = qkv.split(self.sizes, dim=-1)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = _by_head(self.q_norm, q, self.head_dim), _by_head(self.k_norm, k, self.head_dim)
        q, k = self.rope(positions, q, k)
        assert k is not None
        return q, k, v


class MLP(nn.Module):
    """Gated SiLU."""

    def __init__(self, config: RecurrentConfig, *, prefix: str) -> None:
        super().__init__()
        self.gate_up_proj = MergedColumnParallelLinear(
            config.hidden_size,
            [config.intermediate_size] * 2,
            bias=config.mlp_bias,
            prefix=f"{prefix}.gate_up_proj",
        )
        self.down_proj = RowParallelLinear(
            config.intermediate_size,
            config.hidden_size,
            bias=config.mlp_bias,
            prefix=f"{prefix}.down_proj",
        )

    def forward(self, hidden: Tensor) -> Tensor:
        """[N, h] to [N, h]."""
        up, _ = self.gate_up_proj(hidden)
        return self.down_proj(silu_and_mul(up))[0]


class Block(nn.Module):
    """Attention and MLP; see `RecurrentConfig.block_style`."""

    def __init__(self, config: RecurrentConfig, *, prefix: str, experts: int | None = None) -> None:
        super().__init__()
        self.style = config.block_style
        self.self_attn = Heads(config, prefix=f"{prefix}.self_attn")
        self.mlp = (
            MLP(config, prefix=f"{prefix}.mlp")
            if experts is None
            else SparseMLP(config, experts=experts)
        )
        width, eps = config.hidden_size, config.rms_norm_eps
        self.input_layernorm = RMSNorm(width, eps=eps)
        self.post_attention_layernorm = RMSNorm(width, eps=eps)
        if self.style != "pre":
            self.attention_out_norm = RMSNorm(width, eps=eps)
            self.mlp_out_norm = RMSNorm(width, eps=eps)

    def forward(
        self, hidden: Tensor, positions: Tensor, cache: Attention, view: View | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The output [N, h], and the keys and values [N, K * D] that went to the cache."""
        q, k, v = self.self_attn(normed(self.input_layernorm, hidden), positions)
        out, _ = self.self_attn.o_proj(attend(cache, q, k, v, view))
        if self.style == "pre":
            hidden = hidden + out
            hidden = hidden + self._mlp(hidden)
        elif self.style == "branch":
            hidden = hidden + normed(self.attention_out_norm, out)
            hidden = hidden + normed(self.mlp_out_norm, self._mlp(hidden))
        else:
            hidden = normed(self.attention_out_norm, hidden + out)
            hidden = normed(self.mlp_out_norm, hidden + self._mlp(hidden))
        return hidden, k, v

    def keys_values(self, hidden: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values alone [N, K * D], of rows that do not run here. Queries are computed and
        dropped: vLLM keeps the three projections as one, on a CPU in a packed form."""
        _, k, v = self.self_attn(normed(self.input_layernorm, hidden), positions)
        return k, v

    def _mlp(self, hidden: Tensor) -> Tensor:
        return self.mlp(normed(self.post_attention_layernorm, hidden))


def caches(
    config: RecurrentConfig, settings: VllmConfig, *, count: int, prefix: str
) -> list[Attention]:
    """vLLM attention layers, which own a KV cache each and no weights.

    Raises ValueError for a backend that writes its cache while it attends: rows that have left
    the core need the one without the other.
    """
    ranks = get_tensor_model_parallel_world_size()
    assert config.head_dim is not None
    assert config.num_key_value_heads is not None
    layers = [
        Attention(
            config.num_attention_heads // ranks,
            config.head_dim,
            config.head_dim**-0.5,
            num_kv_heads=max(1, config.num_key_value_heads // ranks),
            cache_config=settings.cache_config,
            prefix=f"{prefix}.{index}",
        )
        for index in range(count)
    ]
    for layer in layers[:1]:
        backend = layer.get_attn_backend()
        if backend.forward_includes_kv_cache_update:
            raise ValueError(
                f"the attention backend {backend.get_name()} writes its cache while it attends; "
                "recurrent models need another (--attention-backend FLASH_ATTN)"
            )
    return layers


def _by_head(norm: RMSNorm, rows: Tensor, head_dim: int) -> Tensor:
    heads = rows.reshape(-1, head_dim).contiguous()  # a single head is a strided view otherwise
    return normed(norm, heads).view(rows.shape)
