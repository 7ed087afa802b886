"""One depth for a whole request: a critic of accuracy by depth, from the prompt's last state.

A contextual bandit needs no policy gradient: regress accuracy, then take the best at the price
(`pipeline.depth.compare.critic_choice`).
Shapes: `_P` prompts, `_R` depths, h hidden size.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import AdamW

from pipeline.depth.model.frozen import head_process
from pipeline.depth.model.head import write_whole
from pipeline.depth.model.replay import padded
from pipeline.depth.trainer_jobs import HeadJob
from pipeline.recipe.depth_parts import LEAST_PROMPTS
from pipeline.recurrent.model import RecurrentForCausalLM

CRITIC = "critic.safetensors"
WIDTH = 32
HELD_OUT = LEAST_PROMPTS
"""Every fifth prompt is left out, to stop by."""

CHECK_EVERY = 10
_LEAST = 0.01  # accuracies of the starting point stay this far from 0 and 1


class Critic(nn.Module):
    """Logits [_P, _R] of accuracy by depth, from states [_P, h]: the mean of all prompts, plus
    what the state says."""

    def __init__(self, hidden: int, depths: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden, elementwise_affine=False)
        self.state = nn.Linear(hidden, WIDTH)
        self.out = nn.Linear(WIDTH, depths)
        nn.init.zeros_(self.out.weight)

    def forward(self, state: Tensor) -> Tensor:
        return self.out(F.silu(self.state(self.norm(state))))


def train(job: HeadJob, table: Path, *, steps: int, lr: float) -> dict[str, float]:
    """Fit a critic to a parquet table and write it to `job.out`.

    The table's columns: `prompt_tokens` (integers) and `accuracy` ([_R] by depth, 0 to 1). The
    step with the lowest loss on held-out prompts is kept; where no step beats the mean accuracy,
    the critic is the mean.

    Returns:
        loss and loss_mean: cross-entropy on held-out prompts, and that of the mean accuracy by
        depth; steps (of the best), prompts.

    Raises ValueError for a table of fewer prompts than `HELD_OUT`, or other depths than the job's.
    """
    prompts, accuracy = accuracies_by_depth(table, max_depth=job.max_depth)
    with head_process(job) as model:
        states = last_states(model, prompts, job=job)
        critic = Critic(states.shape[1], job.max_depth)
        report = fit(critic, states, accuracy, steps=steps, lr=lr)
    write_whole(critic.state_dict(), job.out / CRITIC)
    return {**report, "prompts": float(len(accuracy))}


def accuracies_by_depth(table: Path, *, max_depth: int) -> tuple[list[list[int]], Tensor]:
    """Prompts' tokens and their accuracy [_P, _R] at every depth, from the headroom's table.

    Raises ValueError for a table of fewer prompts than `HELD_OUT`, or of other depths.
    """
    rows = pq.read_table(table, columns=["prompt_tokens", "accuracy"]).to_pydict()
    accuracy = torch.tensor(rows["accuracy"]).float()
    if len(accuracy) < HELD_OUT or accuracy.shape[1:] != (max_depth,):
        raise ValueError(
            f"{table} holds accuracies of shape {tuple(accuracy.shape)}: give at least {HELD_OUT} "
            f"prompts, and max_depth={max_depth} depths"
        )
    return rows["prompt_tokens"], accuracy


def mean_logit(accuracy: Tensor) -> Tensor:
    """[_R] logits of the mean accuracy by depth of prompts [_P, _R]."""
    return accuracy.mean(dim=0).clamp(_LEAST, 1 - _LEAST).logit()


def fit(
    critic: Critic,
    states: Tensor,
    labels: Tensor,
    *,
    start: Callable[[Tensor], Tensor] = mean_logit,
    loss_of: Callable[[Tensor, Tensor], Tensor] = F.binary_cross_entropy_with_logits,
    steps: int,
    lr: float,
) -> dict[str, float]:
    """A loss of outputs and labels [_P, _R], by default cross-entropy with soft labels, on all
    prompts but every `HELD_OUT`th; see `train`. `start`: from labels to what the mean is [_R]."""
    out = torch.arange(len(states)) % HELD_OUT == HELD_OUT - 1
    mean = start(labels[~out])
    with torch.no_grad():
        critic.out.bias.copy_(mean)
    optimizer = AdamW(critic.parameters(), lr=lr, weight_decay=0.1)

    @torch.no_grad()
    def held_out_loss() -> float:
        return float(loss_of(critic(states[out]), labels[out]))

    lowest, best_weights, best_step = held_out_loss(), None, 0
    first = lowest
    for step in range(1, steps + 1):
        loss = loss_of(critic(states[~out]), labels[~out])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % CHECK_EVERY == 0 or step == steps:
            reached = held_out_loss()
            if reached < lowest:
                lowest, best_weights, best_step = reached, copy.deepcopy(critic.state_dict()), step
    if best_weights is None:
        nn.init.zeros_(critic.out.weight)
        with torch.no_grad():
            critic.out.bias.copy_(mean)
    else:
        critic.load_state_dict(best_weights)
    return {"loss": lowest, "loss_mean": first, "steps": float(best_step)}


def expected_accuracy(
    job: HeadJob, folder: Path, prompts: Sequence[Sequence[int]]
) -> list[list[float]]:
    """Accuracy [_P, _R] that the critic in `folder` expects of prompts, given as tokens."""
    return torch.sigmoid(outputs(job, load_file(folder / CRITIC), prompts)).tolist()


@torch.no_grad()
def outputs(
    job: HeadJob, weights: Mapping[str, Tensor], prompts: Sequence[Sequence[int]]
) -> Tensor:
    """What a critic of these weights says [_P, _R] of prompts, given as tokens."""
    with head_process(job) as model:
        critic = Critic(weights["state.weight"].shape[1], len(weights["out.bias"]))
        critic.load_state_dict(weights)
        return critic(last_states(model, prompts, job=job))


@torch.no_grad()
def last_states(
    model: RecurrentForCausalLM, prompts: Sequence[Sequence[int]], *, job: HeadJob
) -> Tensor:
    """The last prompt position's state [_P, h], the whole prompt at `job.prompt_depth`."""
    states = torch.empty(len(prompts), model.config.hidden_size)
    sequences = [(prompt, [job.prompt_depth] * len(prompt)) for prompt in prompts]
    for batch in padded(sequences, batch_rows=job.batch_rows, device=job.device):
        out = model.model(
            input_ids=batch.tokens,
            attention_mask=batch.mask,
            num_iterations=job.prompt_depth,
            output_hidden_states=True,
            use_cache=False,
        )
        last = batch.mask.sum(dim=1) - 1
        state = out.hidden_states[-1][torch.arange(len(last), device=last.device), last]
        states[batch.rows] = state.float().cpu()
    return states
