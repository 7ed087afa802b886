"""A random recurrent model, requests for the native engine, and what its rollouts must equal."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.generate.native_engine import NativeEngine
from pipeline.records import Request, Rollout
from pipeline.recurrent.config import RecurrentConfig
from pipeline.recurrent.model import RecurrentForCausalLM
from pipeline.recurrent.request import DepthRequest
from tests.generate.engine_settings import cpu_settings

VOCABULARY = 97
EOS = 5
SETTINGS = cpu_settings(tokens=64)
THRESHOLDS = {
    "kl": 0.02,
    "latent": 0.3,
    "entropy": 4.1,
    "second_order": 0.35,
    "q_exit": 0.8,
    "right": 0.5,
}
UNTIED = THRESHOLDS | {"kl": 0.5, "latent": 1.0, "second_order": 1.6}
"""Blocks of their own do not settle: each moves the state as far as the one before."""


def build(folder: Path, *, eos: int | list[int] | None = None, **options: Any) -> Path:
    """A random recurrent model whose norms, gates and policy all matter."""
    torch.manual_seed(0)
    config = RecurrentConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_attention_heads=2,
        max_position_embeddings=64,
        num_iterations=3,
        max_iterations=6,
        halting_width=8,
        exit_gate=True,
        eos_token_id=eos,
        **options,
    )
    model = RecurrentForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    model.save_pretrained(folder)
    return folder


def mixed(count: int, *, max_tokens: int = 12, temperature: float = 1.0) -> list[Request]:
    """Uneven prompts; depths uniform, by request, or by token, and prompt depths of their own."""
    draw = torch.Generator().manual_seed(1)
    requests = []
    for i in range(count):
        prompt = torch.randint(0, VOCABULARY, (1 + 5 * i % 14,), generator=draw)
        schedule = tuple(torch.randint(1, 7, (9,), generator=draw).tolist())
        depth = (
            None,
            DepthRequest(depth=1 + i % 6, prompt_depth=1 + i % 4),
            DepthRequest(rule="schedule", depth=4, prompt_depth=1 + i % 5, schedule=schedule),
        )[i % 3]
        requests.append(
            Request(
                prompt_id=str(i),
                prompt_tokens=tuple(prompt.tolist()),
                sample=i,
                seed=2**62 + 7919 * i,
                max_tokens=max_tokens - i % 3,
                temperature=temperature,
                depth=depth,
            )
        )
    return requests


def ruled(rule: str, count: int, **options: object) -> list[Request]:
    """Requests under one rule."""
    usual: dict[str, Any] = {
        "depth": 6,
        "prompt_depth": 2,
        "threshold": THRESHOLDS.get(rule),
        "schedule": (2, 5, 1) if rule == "schedule" else (),
    }
    depth = DepthRequest(rule=rule, **(usual | options))  # type: ignore[arg-type]
    return [dataclasses.replace(request, depth=depth) for request in mixed(count)]


def run(engine: NativeEngine, requests: Sequence[Request], *, version: int = 0) -> list[Rollout]:
    """Rollouts in the order of the requests' samples, from a pool that ends all free."""
    rollouts = sorted(engine.generate(requests, version=version), key=lambda r: r.sample)
    assert_all_free(engine)
    return rollouts


def assert_all_free(engine: NativeEngine) -> None:
    for store in (engine.pool.core, engine.pool.dense):
        assert store.free == store.entries
        assert store.promised == 0


def recorded(rollout: Rollout) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and depths [1, _P + _T]; the last token never ran."""
    assert rollout.depths is not None
    assert rollout.prompt_depth is not None
    prompt = [rollout.prompt_depth] * (len(rollout.prompt_tokens) - 1)
    tokens = torch.tensor([[*rollout.prompt_tokens, *rollout.tokens]])
    return tokens, torch.tensor([[*prompt, *rollout.depths, 1]])


@torch.no_grad()
def gap(
    model: RecurrentForCausalLM, rollouts: Sequence[Rollout], *, temperature: float = 1.0
) -> float:
    """Largest difference in nats between recorded log-probabilities and the parallel replay's."""
    worst = 0.0
    for rollout in rollouts:
        tokens, depths = recorded(rollout)
        logits = model(tokens, depths=depths).logits[0, len(rollout.prompt_tokens) - 1 : -1]
        replayed = (logits / temperature).log_softmax(-1)
        taken = replayed.gather(1, torch.tensor(rollout.tokens)[:, None])[:, 0]
        worst = max(worst, (taken - torch.tensor(rollout.logprobs)).abs().max().item())
    return worst


def same(one: Sequence[Rollout], other: Sequence[Rollout]) -> None:
    """Equal but for float rounding."""
    for a, b in zip(one, other, strict=True):
        assert (a.sample, a.tokens, a.depths, a.stop) == (b.sample, b.tokens, b.depths, b.stop)
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)
        assert a.flops == b.flops
