"""Decoding by calls of the model under a depth request, and its parallel replay."""

from typing import Any

import torch
from torch import Tensor

from pipeline.recurrent.model import RecurrentForCausalLM
from pipeline.recurrent.request import DepthRequest

TOKENS = torch.randint(1, 40, (4, 6), generator=torch.Generator().manual_seed(4))
MASK = torch.tensor([[1] * 6, [0, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1], [1] * 6])
PROMPTS = TOKENS * MASK
SEEDS = torch.tensor([11, 12, 13, 14])
STEPS = 7

# thresholds at which the tiny model's tokens differ in depth
REQUESTS = [
    DepthRequest(rule="fixed", depth=3, prompt_depth=2),
    DepthRequest(rule="schedule", depth=2, schedule=(4, 1, 6, 3)),
    DepthRequest(rule="kl", depth=6, threshold=0.05),
    DepthRequest(rule="latent", depth=6, threshold=0.35, min_depth=2),
    DepthRequest(rule="entropy", depth=5, threshold=3.3),
    DepthRequest(rule="second_order", depth=6, threshold=0.5),
    DepthRequest(rule="q_exit", depth=6, threshold=0.85),
    DepthRequest(rule="policy", depth=6),
    DepthRequest(rule="policy", depth=6, prompt_depth=1, sampled=True, log_price=0.5, min_depth=2),
    DepthRequest(rule="policy", depth=6, sampled=True, segment=3),
    DepthRequest(rule="right", depth=6, threshold=0.5),
]


def named(request: DepthRequest) -> str:
    return f"{request.rule}{'-sampled' * request.sampled}{'-segment' * (request.segment > 1)}"


@torch.no_grad()
def rolled(model: RecurrentForCausalLM, request: DepthRequest) -> dict[str, Tensor]:
    """Greedy decoding by calls of the model: tokens [B, P + n], what was recorded [B, n]."""
    tokens, mask, cache, pieces = PROMPTS, MASK, None, []
    for step in range(STEPS):
        out = model(
            tokens if step == 0 else tokens[:, -1:],
            attention_mask=mask,
            past_key_values=cache,
            depth_request=request,
            depth_seed=SEEDS,
            use_cache=True,
        )
        cache = out.past_key_values
        assert out.depths is not None
        pieces.append((out.logits[:, -1:], out.depths[:, -1:], out.depth_logprobs[:, -1:]))
        if step == 0:
            assert bool((out.depths[:, :-1] == request.prefill_depth).all())
            assert not bool(out.depth_logprobs[:, :-1].any())
        tokens = torch.cat((tokens, out.logits[:, -1].argmax(-1, keepdim=True)), dim=1)
        mask = torch.cat((mask, torch.ones_like(mask[:, :1])), dim=1)
    names = ("logits", "depths", "depth_logprobs")
    pasted = [torch.cat(piece, dim=1) for piece in zip(*pieces, strict=True)]
    return dict(zip(names, pasted, strict=True)) | {"tokens": tokens, "mask": mask}


def replayed(model: RecurrentForCausalLM, request: DepthRequest, seen: dict[str, Tensor]) -> Any:
    """One parallel pass at the recorded depths, with the states of all iterations."""
    prompt = torch.full_like(PROMPTS[:, :-1], request.prefill_depth)
    return model(
        seen["tokens"][:, :-1],
        attention_mask=seen["mask"][:, :-1],
        depths=torch.cat((prompt, seen["depths"]), dim=1),
        output_hidden_states=True,
        use_cache=False,
    )
