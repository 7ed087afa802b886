"""What leaving early costs everything that follows: one decision at a time, all others deep.

A token's own loss says little of a token whose state others read: copying a move takes one
iteration, and knowing where it leads takes many, which only a later token shows.
"""

import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from pipeline.depth.model.frozen import head_process
from pipeline.depth.model.replay import at_depth, completion_losses
from pipeline.depth.trainer_jobs import HeadJob
from pipeline.records import Rollout, read_scored
from pipeline.recurrent.model import RecurrentForCausalLM

LATER = "later.safetensors"


def later_losses(job: HeadJob, rollouts: Path, *, probes: int) -> Path:
    """Loss of a completion from a token on, with its segment alone at every depth.

    For `probes` segments of each scored rollout, drawn by the seed; the rest of the completion
    runs at full depth. Returns a file in `job.out` as `replay.losses_by_depth` does, losses
    [_R, _T] in nats, NaN but for the first tokens of probed segments.
    """
    by_rollout = []
    with head_process(job) as model:
        for index, scored in enumerate(read_scored(rollouts)):
            deep = at_depth(scored.rollout, job.max_depth, prompt_depth=job.prompt_depth)
            segments = range(0, len(deep.tokens), job.segment)
            drawn = random.Random(f"{job.seed}/{index}").sample(
                segments, min(probes, len(segments))
            )
            by_rollout.append(_probed(model, deep, sorted(drawn), job=job))
    job.out.mkdir(parents=True, exist_ok=True)
    lengths = torch.tensor([losses.shape[1] for losses in by_rollout])
    save_file({"losses": torch.cat(by_rollout, dim=1), "lengths": lengths}, job.out / LATER)
    return job.out / LATER


def _probed(
    model: RecurrentForCausalLM, deep: Rollout, tokens: list[int], *, job: HeadJob
) -> Tensor:
    """Losses [_R, _T] of one rollout, at `tokens`."""
    probed = [deep, *_early(deep, tokens, job=job)]
    losses = iter(completion_losses(model, probed, job=job))
    by_depth = torch.full((job.max_depth, len(deep.tokens)), torch.nan)
    whole = next(losses)
    for token in tokens:
        by_depth[-1, token] = whole[token:].sum()
        for depth in range(1, job.max_depth):
            by_depth[depth - 1, token] = next(losses)[token:].sum()
    return by_depth


def _early(deep: Rollout, tokens: list[int], *, job: HeadJob) -> Iterator[Rollout]:
    """The rollout with one segment at one depth, for every token and depth under the full one."""
    full = list(deep.depths or ())
    for token in tokens:
        for depth in range(1, job.max_depth):
            depths = full.copy()
            depths[token : token + job.segment] = [depth] * len(depths[token : token + job.segment])
            yield dataclasses.replace(deep, depths=tuple(depths))
