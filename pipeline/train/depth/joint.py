"""The joint phase's token loss: GRPO on tokens at replayed depths, the depths held.

Shapes: B completions, T completion tokens, padded.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.records import Rollout
from pipeline.recurrent.model import RecurrentForCausalLM
from pipeline.train.depth.replay import inputs, padded


def token_logprobs(
    model: RecurrentForCausalLM,
    rollouts: Sequence[Rollout],
    *,
    temperature: float,
    prompt_depth: int,
    device: str,
) -> tuple[Tensor, Tensor]:
    """Log-probabilities [B, T] of the generated tokens at the recorded depths, with gradients,
    and which of them exist, bool [B, T]. In the order of the rollouts."""
    sequences = [inputs(r, prompt_depth=prompt_depth) for r in rollouts]
    longest = max(len(r.tokens) for r in rollouts)
    found: list[Tensor] = [torch.empty(0)] * len(rollouts)
    (batch,) = padded(sequences, batch_rows=len(rollouts), device=device)
    hidden = model.model(
        input_ids=batch.tokens, attention_mask=batch.mask, depths=batch.depths, use_cache=False
    ).last_hidden_state
    for row, index in enumerate(batch.rows):
        run = rollouts[index]
        first = len(run.prompt_tokens) - 1
        logits = model.lm_head(hidden[row, first : first + len(run.tokens)]).float() / temperature
        tokens = torch.tensor(run.tokens, device=device)
        chosen = logits.log_softmax(-1).gather(-1, tokens[:, None])[:, 0]
        found[index] = torch.nn.functional.pad(chosen, (0, longest - len(chosen)))
    lengths = torch.tensor([len(r.tokens) for r in rollouts], device=device)
    return torch.stack(found), torch.arange(longest, device=device) < lengths[:, None]


def token_loss(
    logprob: Tensor,
    *,
    behaviour_logprob: Tensor,
    advantage: Tensor,
    mask: Tensor,
    clip: float,
    reference_logprob: Tensor | None = None,
    kl: float = 0.0,
) -> Tensor:
    """GRPO's clipped loss (arXiv 2402.03300, equations 3 and 4): a mean over all tokens.

    Args:
        logprob: [B, T] under the policy in training, of the tokens at their recorded depths.
        behaviour_logprob: [B, T] as recorded by the engine.
        advantage: [B] of each completion.
        mask: [B, T] bool, tokens that exist.
        clip: ratios outside 1 - clip to 1 + clip carry no further gain.
        reference_logprob: [B, T] of the reference policy; needed where `kl` is not 0.
    """
    ratio = torch.exp(torch.where(mask, logprob - behaviour_logprob, torch.zeros_like(logprob)))
    gain = advantage[:, None]
    surrogate = torch.minimum(ratio * gain, ratio.clamp(1 - clip, 1 + clip) * gain)
    loss = -surrogate
    if kl:
        if reference_logprob is None:
            raise ValueError(f"kl={kl} needs reference_logprob")
        apart = torch.where(mask, reference_logprob - logprob, torch.zeros_like(logprob))
        loss = loss + kl * (apart.exp() - apart - 1)
    return (loss * mask).sum() / mask.sum()
