"""When a token leaves the core: one decision after each iteration, for rows of any batch.

The model and both engines call `decide` with what their `observer.Observer` saw; the rules are
those of `request.RULES`. "fixed" and "schedule" never decide: their depth is the cap.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .policy import decision_logprob, relative_change
from .request import HEAD_RULES


@dataclass(frozen=True, kw_only=True)
class Observation:
    """N rows after an iteration. `h` hidden size, `V` vocabulary."""

    iteration: Tensor  # [N] int64, the one that just ended, from 1
    state: Tensor  # [N, h] s_i
    previous: Tensor  # [N, h] s_(i-1)
    before: Tensor  # [N, h] s_(i-2); what `previous` is where there is none
    threshold: Tensor  # [N] float32
    log_price: Tensor  # [N] float32
    logprobs: Tensor | None = None  # [N, V] of the next token if the row left now
    previous_logprobs: Tensor | None = None  # [N, V] the same an iteration ago
    survival: Tensor | None = None  # [N] product of (1 - gate) over the iterations so far
    uniform: Tensor | None = None  # [N] float64 draws of a sampled policy; None decides at 1/2


def kl(observation: Observation) -> Tensor:
    """Stop where KL(p_i || p_(i-1)) is under the threshold (Huginn, arXiv 2502.05171, 6.1)."""
    if observation.logprobs is None or observation.previous_logprobs is None:
        return torch.zeros_like(observation.iteration, dtype=torch.bool)
    now, then = observation.logprobs.float(), observation.previous_logprobs.float()
    divergence = (now.exp() * (now - then)).sum(-1)
    return (divergence < observation.threshold) & (observation.iteration > 1)


def latent(observation: Observation) -> Tensor:
    """Stop where the state's relative change is under the threshold."""
    return relative_change(observation.state, observation.previous) < observation.threshold


def entropy(observation: Observation) -> Tensor:
    """Stop where the next token's entropy, in nats, is under the threshold."""
    if observation.logprobs is None:
        raise ValueError("the entropy rule needs the readout after every iteration")
    logprobs = observation.logprobs.float()
    return -(logprobs.exp() * logprobs).sum(-1) < observation.threshold


def second_order(observation: Observation) -> Tensor:
    """Stop where ||(s_i - s_(i-1)) - (s_(i-1) - s_(i-2))|| / ||s_i|| is under the threshold:
    the state no longer accelerates. Never before iteration 2."""
    bend = (observation.state - 2 * observation.previous + observation.before).float().norm(dim=-1)
    still = bend / observation.state.float().norm(dim=-1).clamp_min(1e-12) < observation.threshold
    return still & (observation.iteration > 1)


def q_exit(observation: Observation) -> Tensor:
    """Stop where the gate's CDF, 1 - prod(1 - gate), reaches the threshold
    (Ouro, arXiv 2510.25741, section 3)."""
    if observation.survival is None:
        raise ValueError("the q_exit rule needs a model with an exit gate (exit_gate: true)")
    return 1 - observation.survival >= observation.threshold


STOPS: Mapping[str, Callable[[Observation], Tensor]] = {
    "kl": kl,
    "latent": latent,
    "entropy": entropy,
    "second_order": second_order,
    "q_exit": q_exit,
}
"""Whether each row stops, [N] bool, by rule."""


def right_already(observation: Observation, head: nn.Module) -> Tensor:
    """Stop where the answer would be right already, by a head whose logit is that of *not yet*, as
    likely as the threshold (HRM, arXiv 2506.21734, section 2; TRM, arXiv 2510.04871)."""
    no_price = torch.zeros_like(observation.log_price)
    not_yet = head(observation.state, observation.previous, observation.iteration, no_price)
    return torch.sigmoid(-not_yet) >= observation.threshold


def decide(rule: str, observation: Observation, policy: nn.Module | None) -> tuple[Tensor, Tensor]:
    """Whether each row goes on, [N] bool, and the log-probability of that decision, [N] float32.

    Only the policy's decisions have one; those of the other rules are 0. Rows at their cap or
    under their minimum are the caller's business: they make no decision.

    Raises ValueError when the rule needs what the model lacks.
    """
    certain = torch.zeros(observation.iteration.shape, device=observation.state.device)
    if rule in STOPS:
        return ~STOPS[rule](observation), certain
    if rule not in HEAD_RULES:
        return torch.ones_like(certain, dtype=torch.bool), certain
    if policy is None:
        raise ValueError(f"the {rule} rule needs a model with a halting policy (halting_width)")
    if rule == "right":
        return ~right_already(observation, policy), certain
    logit = policy(
        observation.state, observation.previous, observation.iteration, observation.log_price
    )
    if observation.uniform is None:
        return logit > 0, certain
    goes_on = observation.uniform < torch.sigmoid(logit.double())
    return goes_on, decision_logprob(logit, goes_on)
