"""vLLM's compiled kernels for its own small layers.

On a CPU the layers' default is a chain of torch operators, which costs three to five times as much
for the few rows that are left late in the core.
"""

import torch
import vllm._custom_ops as ops
from torch import Tensor, nn
from vllm.model_executor.layers.layernorm import RMSNorm

Norm = RMSNorm | nn.Identity


def normed(norm: Norm, rows: Tensor) -> Tensor:
    """The norm of rows [N, h], which must be contiguous."""
    if not isinstance(norm, RMSNorm):
        return rows
    out = torch.empty_like(rows)
    ops.rms_norm(out, rows, norm.weight.data, norm.variance_epsilon)
    return out


def silu_and_mul(rows: Tensor) -> Tensor:
    """silu(a) * b [N, m] of rows (a, b) [N, 2 * m]."""
    out = torch.empty((*rows.shape[:-1], rows.shape[-1] // 2), dtype=rows.dtype, device=rows.device)
    torch.ops._C.silu_and_mul(out, rows)
    return out
