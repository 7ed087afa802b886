"""Recorded completions run again at recorded depths, in parallel: what their decisions read.

Input position P - 1 + t, the one whose output is generated token t, runs at depths[t]; positions
before it at the prompt's depth; the last generated token never ran.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.depth.model.decisions import Decisions, decisions_of
from pipeline.depth.model.features import Features
from pipeline.depth.model.frozen import head_process
from pipeline.depth.trainer_jobs import HeadJob
from pipeline.records import Rollout, read_scored
from pipeline.recurrent.counter import uniform
from pipeline.recurrent.model import RecurrentForCausalLM

LOSSES = "losses.safetensors"
_THIN = 102  # stream of the draw of tokens that are kept
_READOUT_ROWS = 1024  # tokens whose logits are held at a time


@dataclass(frozen=True, kw_only=True)
class Padded:
    """Sequences as one batch, padded on the right. B of them, S long at most."""

    rows: list[int]  # [B] which of the sequences
    tokens: Tensor  # [B, S]
    mask: Tensor  # [B, S]
    depths: Tensor  # [B, S]


def padded(
    sequences: Sequence[tuple[Sequence[int], Sequence[int]]], *, batch_rows: int, device: str
) -> Iterator[Padded]:
    """Batches of (tokens, depths), those of similar length together."""
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i][0]))
    for start in range(0, len(order), batch_rows):
        rows = order[start : start + batch_rows]
        longest = max(len(sequences[i][0]) for i in rows)

        def square(pieces: list[Sequence[int]], fill: int, width: int = longest) -> Tensor:
            return torch.tensor([[*p, *[fill] * (width - len(p))] for p in pieces], device=device)

        yield Padded(
            rows=rows,
            tokens=square([sequences[i][0] for i in rows], 0),
            mask=square([[1] * len(sequences[i][0]) for i in rows], 0),
            depths=square([sequences[i][1] for i in rows], 1),
        )


def inputs(rollout: Rollout, *, prompt_depth: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The positions that ran, and their depths.

    Raises ValueError for a rollout without depths, or without tokens.
    """
    if rollout.depths is None or not rollout.tokens:
        raise ValueError(
            f"the rollout {rollout.prompt_id}/{rollout.sample} has no depths: generate with a "
            "recurrent model"
        )
    before = rollout.prompt_depth if rollout.prompt_depth is not None else prompt_depth
    tokens = (*rollout.prompt_tokens, *rollout.tokens[:-1])
    return tokens, (*[before] * (len(rollout.prompt_tokens) - 1), *rollout.depths)


def at_depth(rollout: Rollout, depth: int, *, prompt_depth: int) -> Rollout:
    """The same tokens as if every one of them had run at `depth`."""
    depths = (depth,) * len(rollout.tokens)
    return dataclasses.replace(
        rollout, depths=depths, prompt_depth=prompt_depth, depth_logprobs=None
    )


def recorded_decisions(rollouts: Sequence[Rollout], job: HeadJob) -> list[Decisions]:
    """Every rollout's decisions, thinned by a seeded draw of tokens to about `job.max_tokens`.

    Raises ValueError for depths that no policy under `job.max_depth` chooses.
    """
    choices = [
        decisions_of(r.depths or (), cap=job.max_depth, segment=job.segment) for r in rollouts
    ]
    deciding = sum(-(-len(r.tokens) // job.segment) for r in rollouts)
    if deciding <= job.max_tokens:
        return choices
    return [
        _some(m, _drawn(job.seed, index, m.token) < job.max_tokens / deciding)
        for index, m in enumerate(choices)
    ]


def _drawn(seed: int, index: int, token: Tensor) -> Tensor:
    return uniform(torch.tensor(seed), torch.tensor(index), token, stream=_THIN)


def _some(choices: Decisions, keep: Tensor) -> Decisions:
    return Decisions(
        token=choices.token[keep], iteration=choices.iteration[keep], goes_on=choices.goes_on[keep]
    )


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What one pass over rollouts at their depths shows."""

    features: Features
    chances: list[list[float]]  # of each rollout's asked tokens


@torch.no_grad()
def decision_features(
    model: RecurrentForCausalLM,
    rollouts: Sequence[Rollout],
    decisions: Sequence[Decisions],
    *,
    log_prices: Sequence[float],
    job: HeadJob,
) -> Features:
    """What the head read at each of the decisions, by running the rollouts at their depths.

    `log_prices` has one ln(lambda) per rollout.
    """
    nothing: list[Sequence[tuple[int, int]]] = [()] * len(rollouts)
    return replay(
        model, rollouts, decisions, log_prices=log_prices, job=job, asked=nothing, temperature=1.0
    ).features


@torch.no_grad()
def replay(
    model: RecurrentForCausalLM,
    rollouts: Sequence[Rollout],
    decisions: Sequence[Decisions],
    *,
    log_prices: Sequence[float],
    job: HeadJob,
    asked: Sequence[Sequence[tuple[int, int]]],
    temperature: float,
) -> Replayed:
    """The decisions' features, and how likely other tokens were than those that were drawn.

    `asked` has pairs of each rollout: the index of a completion token, and the token in its place
    whose probability at `temperature` is returned.
    """
    counts = [len(choices.token) for choices in decisions]
    starts = [0, *accumulate(counts)]
    state = torch.empty(starts[-1], model.config.hidden_size)
    previous = torch.empty_like(state)
    chances: list[list[float]] = [[] for _ in rollouts]
    sequences = [inputs(r, prompt_depth=job.prompt_depth) for r in rollouts]
    for batch in padded(sequences, batch_rows=job.batch_rows, device=job.device):
        out = model.model(
            input_ids=batch.tokens,
            attention_mask=batch.mask,
            depths=batch.depths,
            output_hidden_states=True,
            use_cache=False,
        )
        for row, index in enumerate(batch.rows):
            ran = torch.stack([held[row] for held in out.hidden_states])  # [R + 1, S, h]
            first = len(rollouts[index].prompt_tokens) - 1
            choices, span = decisions[index], slice(starts[index], starts[index + 1])
            position = (choices.token + first).to(ran.device)
            iteration = choices.iteration.to(ran.device)
            state[span] = ran[iteration, position].float().cpu()
            previous[span] = ran[iteration - 1, position].float().cpu()
            if asked[index]:
                where, tokens = torch.tensor(asked[index], device=ran.device).t()
                logits = model.lm_head(out.last_hidden_state[row, where + first]).float()
                chance = (logits / temperature).softmax(-1).gather(-1, tokens[:, None])
                chances[index] = chance[:, 0].tolist()
    features = Features(
        state=state,
        previous=previous,
        iteration=torch.cat([choices.iteration for choices in decisions]),
        log_price=torch.tensor(log_prices).float().repeat_interleave(torch.tensor(counts)),
        goes_on=torch.cat([choices.goes_on for choices in decisions]),
        token=torch.cat([choices.token for choices in decisions]),
        rollout=torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)),
    )
    return Replayed(features=features, chances=chances)


def losses_by_depth(job: HeadJob, rollouts: Path) -> Path:
    """Teacher-forced loss of every completion token of scored rollouts at every depth.

    Prompts run at `job.prompt_depth`, completions at depth r throughout. Returns the file in
    `job.out`; `read_losses` reads it.
    """
    with head_process(job) as model:
        runs = [scored.rollout for scored in read_scored(rollouts)]
        losses = torch.stack(
            [token_losses(model, runs, depth=r, job=job) for r in range(1, job.max_depth + 1)]
        )
    job.out.mkdir(parents=True, exist_ok=True)
    lengths = torch.tensor([len(run.tokens) for run in runs])
    save_file({"losses": losses, "lengths": lengths}, job.out / LOSSES)
    return job.out / LOSSES


def read_losses(path: Path) -> list[Tensor]:
    """Losses [_R, _T] of each rollout, nats."""
    held = load_file(path)
    return list(held["losses"].split(held["lengths"].tolist(), dim=1))


@torch.no_grad()
def token_losses(
    model: RecurrentForCausalLM, rollouts: Sequence[Rollout], *, depth: int, job: HeadJob
) -> Tensor:
    """Loss of every completion token with the completions at `depth`, rollout after rollout."""
    runs = [at_depth(r, depth, prompt_depth=job.prompt_depth) for r in rollouts]
    return torch.cat(completion_losses(model, runs, job=job))


@torch.no_grad()
def completion_losses(
    model: RecurrentForCausalLM, rollouts: Sequence[Rollout], *, job: HeadJob
) -> list[Tensor]:
    """Loss [_T] of each rollout's tokens at its recorded depths, on the CPU."""
    pieces: list[Tensor] = [torch.empty(0)] * len(rollouts)
    sequences = [inputs(r, prompt_depth=job.prompt_depth) for r in rollouts]
    for batch in padded(sequences, batch_rows=job.batch_rows, device=job.device):
        hidden = model.model(
            input_ids=batch.tokens,
            attention_mask=batch.mask,
            depths=batch.depths,
            use_cache=False,
        ).last_hidden_state
        for row, index in enumerate(batch.rows):
            run = rollouts[index]
            first = len(run.prompt_tokens) - 1
            read = hidden[row, first : first + len(run.tokens)]
            targets = torch.tensor(run.tokens, device=hidden.device)
            pieces[index] = torch.cat(
                [
                    F.cross_entropy(model.lm_head(some).float(), wanted, reduction="none").cpu()
                    for some, wanted in zip(
                        read.split(_READOUT_ROWS), targets.split(_READOUT_ROWS), strict=True
                    )
                ]
            )
    return pieces
