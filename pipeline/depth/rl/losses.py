"""The objective of halting decisions. Pure tensors; `_N` decisions of a batch."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Terms:
    """The parts of the loss, each a scalar, and what they say of the policy."""

    policy: Tensor  # mean
    entropy: Tensor  # mean, nats
    kl: Tensor  # mean KL(policy || warm start), nats
    clipped_share: Tensor


def halting_terms(
    logit: Tensor,
    *,
    goes_on: Tensor,
    advantage: Tensor,
    behaviour_logprob: Tensor,
    reference_logit: Tensor,
    clip: float,
) -> Terms:
    """PPO's clipped surrogate (arXiv 1707.06347, equation 7) on Bernoulli decisions to go on.

    Args:
        logit: [_N] of going on, under the policy in training.
        goes_on: [_N] what was decided.
        advantage: [_N] of that decision.
        behaviour_logprob: [_N] of the decision under the policy before this step.
        reference_logit: [_N] of the warm start.
        clip: ratios outside 1 - clip to 1 + clip carry no further gain. Depth has its own: a
            token's depth is a product of several decisions, so its ratio is wilder than a token's.
    """
    chosen = F.logsigmoid(torch.where(goes_on, logit, -logit))
    ratio = torch.exp(chosen - behaviour_logprob)
    bounded = ratio.clamp(1 - clip, 1 + clip)
    surrogate = torch.minimum(ratio * advantage, bounded * advantage)
    on, off = torch.sigmoid(logit), torch.sigmoid(-logit)
    entropy = -(on * F.logsigmoid(logit) + off * F.logsigmoid(-logit))
    kl = on * (F.logsigmoid(logit) - F.logsigmoid(reference_logit))
    kl = kl + off * (F.logsigmoid(-logit) - F.logsigmoid(-reference_logit))
    return Terms(
        policy=-surrogate.mean(),
        entropy=entropy.mean(),
        kl=kl.mean(),
        clipped_share=(ratio != bounded).float().mean().detach(),
    )
