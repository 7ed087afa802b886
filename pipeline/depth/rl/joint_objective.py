"""The joint phase's token objective: GRPO on tokens at replayed depths, the depths held.

Shapes: B completions, T completion tokens, padded.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.depth.model.replay import inputs, padded
from pipeline.records import Rollout
from pipeline.recurrent.model import RecurrentForCausalLM

STD_FLOOR = 1e-4
"""Added to a group's standard deviation, as TRL's GRPOTrainer does."""


@dataclass(frozen=True, kw_only=True)
class TokenTerms:
    """The parts of the loss, each a scalar, and what they say of the policy."""

    policy: Tensor
    kl: Tensor  # KL(policy || reference) by the estimator of equation 4, nats per token
    clipped_share: Tensor


def group_advantages(rewards: Sequence[float], groups: Sequence[str]) -> Tensor:
    """Each reward [B] less its group's mean, over the group's standard deviation (GRPO, arXiv
    2402.03300, section 4.1.2): the same for all tokens of a completion.

    Unlike the advantages of depths, nothing here carries a price that the division would distort.
    A group of one teaches nothing: 0.
    """
    found = torch.zeros(len(rewards))
    for name in dict.fromkeys(groups):
        rows = [i for i, group in enumerate(groups) if group == name]
        earned = torch.tensor([rewards[i] for i in rows])
        if len(rows) > 1:
            found[rows] = (earned - earned.mean()) / (earned.std() + STD_FLOOR)
    return found


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


def recorded_logprobs(rollouts: Sequence[Rollout], *, device: str) -> Tensor:
    """Log-probabilities [B, T] as the engine recorded them, 0 behind the end."""
    longest = max(len(r.tokens) for r in rollouts)
    rows = [[*r.logprobs, *[0.0] * (longest - len(r.tokens))] for r in rollouts]
    return torch.tensor(rows, device=device)


def token_terms(
    logprob: Tensor,
    *,
    behaviour_logprob: Tensor,
    advantage: Tensor,
    mask: Tensor,
    clip: float,
    reference_logprob: Tensor | None = None,
) -> TokenTerms:
    """GRPO's clipped loss (arXiv 2402.03300, equations 3 and 4): the mean over completions of the
    mean over their tokens.

    Args:
        logprob: [B, T] under the policy in training, of the tokens at their recorded depths.
        behaviour_logprob: [B, T] as recorded by the engine.
        advantage: [B] of each completion.
        mask: [B, T] bool, tokens that exist.
        clip: ratios outside 1 - clip to 1 + clip carry no further gain.
        reference_logprob: [B, T] of the reference policy; without it the KL is 0.
    """
    none = torch.zeros_like(logprob)
    weight = mask / mask.sum(1, keepdim=True) / len(mask)
    ratio = torch.exp(torch.where(mask, logprob - behaviour_logprob, none))
    bounded, gain = ratio.clamp(1 - clip, 1 + clip), advantage[:, None]
    surrogate = torch.minimum(ratio * gain, bounded * gain)
    kl = none
    if reference_logprob is not None:
        apart = torch.where(mask, reference_logprob - logprob, none)
        kl = apart.exp() - apart - 1
    return TokenTerms(
        policy=-(weight * surrogate).sum(),
        kl=(weight * kl).sum(),
        clipped_share=(weight * (ratio != bounded)).sum().detach(),
    )
