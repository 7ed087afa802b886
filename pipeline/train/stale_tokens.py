"""How far the weights that sampled a step's tokens are behind the trainer's. Pure.

A token of older weights has three policies: mu, which sampled it and whose log-probability the
engine recorded; the old one, of the trainer's weights as the step begins; and the one in training.
The loss (`pipeline.train.grpo_loss`) clips the ratio of the last two, and weighs a token by
min(old / mu, 2): decoupled PPO (arXiv 2110.00641, section 3) with AIPO's truncation (arXiv
2505.24034, equation 3, whose cap is between 2 and 10).
"""

import math

import torch
from torch import Tensor

from pipeline.train.grpo_loss import TRUNCATION_CAP


def stale_sums(*, old: Tensor, engine: Tensor, staleness: Tensor) -> Tensor:
    """[4] of tokens [N]: how many are stale, their staleness, their KL, how many are capped.

    The KL is that of mu from the old policy in nats, estimated by r - 1 - log r with r = old / mu
    (Schulman, "Approximating KL Divergence", 2020): no token's share is negative.
    """
    stale = staleness > 0
    log_ratio = (old - engine)[stale]
    return torch.stack(
        [
            stale.sum().float(),
            staleness.sum().float(),
            (log_ratio.exp() - 1 - log_ratio).sum(),
            (log_ratio > math.log(TRUNCATION_CAP)).sum().float(),
        ]
    )


def stale_metrics(sums: Tensor, *, tokens: float) -> dict[str, float]:
    """Of an update's sums and the number of all its tokens; empty where none is stale.

    staleness: mean over all tokens, in steps; stale_kl: mean over stale ones, nats; capped_share:
    of stale ones, those whose ratio was over the cap.
    """
    stale, staleness, kl, capped = sums.tolist()
    if not stale:
        return {}
    return {
        "staleness": staleness / tokens,
        "stale_kl": kl / stale,
        "capped_share": capped / stale,
    }
