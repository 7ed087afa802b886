"""An answer at the depths that its tokens chose, and what every position would have done further.

Shapes: `_P` prompt tokens, `_T` generated tokens, N = _P + _T - 1 positions that ran (nothing is
drawn after the last token, so it never runs), `_R` iterations of the full depth, h hidden size,
V vocabulary.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.generation.utils import GenerateDecoderOnlyOutput

from pipeline.recurrent.cache import RecurrentCache
from pipeline.recurrent.model import RecurrentForCausalLM, RecurrentOutput
from pipeline.recurrent.request import DepthRequest

ROWS = 16
"""Positions that are continued at a time, each with a copy of the cache."""


@dataclass(frozen=True, kw_only=True)
class TracedAnswer:
    """What `generate` did."""

    ids: Tensor  # [1, _P + _T]
    depths: tuple[int, ...]  # [N]
    cache: RecurrentCache  # of the N positions, each at its depth


def answer_prompt(
    model: RecurrentForCausalLM, tokens: Sequence[int], *, max_tokens: int, request: DepthRequest
) -> TracedAnswer:
    """The greedy completion of a prompt, with the depth at which every position ran."""
    prompt, depths = torch.tensor([tokens]), []

    def note(_module: nn.Module, _inputs: Any, out: RecurrentOutput) -> None:
        assert out.depths is not None
        depths.extend(out.depths[0].tolist())

    hook = model.model.register_forward_hook(note)
    try:
        out = model.generate(  # pyright: ignore[reportAttributeAccessIssue]
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=max_tokens,
            do_sample=False,
            depth_request=request,
            return_dict_in_generate=True,
        )
    finally:
        hook.remove()
    assert isinstance(out, GenerateDecoderOnlyOutput)
    assert isinstance(out.past_key_values, RecurrentCache)
    return TracedAnswer(ids=out.sequences, depths=tuple(depths), cache=out.past_key_values)


def continue_alone(model: RecurrentForCausalLM, answer: TracedAnswer, *, depth: int) -> Tensor:
    """States [depth + 1, N, h]: every position goes on to `depth` alone, all those before it
    as they ran. Up to its own depth that is what it did."""
    pieces = [
        torch.cat(out.hidden_states, dim=1).transpose(0, 1)  # [depth + 1, rows, h]
        for out in _passes(model, answer, depth=depth, states=True)
        if out.hidden_states is not None
    ]
    return torch.cat(pieces, dim=1).float()


def readout(model: RecurrentForCausalLM, answer: TracedAnswer, *, depth: int) -> Tensor:
    """Logits [N, V] of every position if it alone left the core after `depth` iterations: what
    the rules that look at predictions look at."""
    pieces = [out.logits for out in _passes(model, answer, depth=depth, states=False)]
    return torch.cat([logits[:, 0].float() for logits in pieces if logits is not None])


def _passes(
    model: RecurrentForCausalLM, answer: TracedAnswer, *, depth: int, states: bool
) -> Iterator[RecurrentOutput]:
    """Each position as the newest token of a row whose cache holds only those before it."""
    count = len(answer.depths)
    for start in range(0, count, ROWS):
        positions = torch.arange(start, min(start + ROWS, count))
        cache = copy.deepcopy(answer.cache)
        cache.batch_repeat_interleave(len(positions))
        before = torch.arange(count) < positions[:, None]
        mask = torch.cat((before, torch.ones_like(before[:, :1])), dim=1).long()
        yield model(
            input_ids=answer.ids[0, positions, None],
            attention_mask=mask,
            position_ids=positions[:, None],
            past_key_values=cache,
            num_iterations=depth,
            output_hidden_states=states,
        )
