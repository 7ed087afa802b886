"""Requests to engines of vLLM, models for them, and how far their log-probabilities are off."""

import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from pipeline.generate.vllm_engine import VllmEngine
from pipeline.records import Request, Rollout
from pipeline.recurrent.config import RecurrentConfig
from pipeline.recurrent.model import RecurrentForCausalLM
from pipeline.recurrent.request import DepthRequest
from tests.generate.engine_settings import cpu_settings

TOKENIZER = Path("data/models/tiny")


SETTINGS = cpu_settings(tokens=128, sequences=32, gib=1)


def requests(count: int, *, temperature: float = 1.0) -> list[Request]:
    return [
        Request(
            prompt_id=str(i),
            prompt_tokens=tuple(range(10, 15 + i % 7)),
            sample=i,
            seed=1000 + i,
            max_tokens=20,
            temperature=temperature,
        )
        for i in range(count)
    ]


@torch.no_grad()
def gap(model: PreTrainedModel, rollouts: Sequence[Rollout], *, temperature: float = 1.0) -> float:
    """Largest difference in nats between the engine's and the model's log-probabilities."""
    worst = 0.0
    for r in rollouts:
        worst = max(worst, differences(model, r, temperature=temperature).max().item())
    return worst


@torch.no_grad()
def differences(
    model: PreTrainedModel, r: Rollout, *, temperature: float = 1.0, **keywords: Any
) -> torch.Tensor:
    """Of each token's log-probability, in nats, where the model is. [_T]"""
    ids = torch.tensor([[*r.prompt_tokens, *r.tokens]], device=model.device)
    logits = model(ids, **keywords).logits[0, len(r.prompt_tokens) - 1 : -1].float() / temperature
    tokens, logprobs = (torch.tensor(x, device=model.device) for x in (r.tokens, r.logprobs))
    taken = logits.log_softmax(-1).gather(1, tokens[:, None])[:, 0]
    return (taken - logprobs).abs()


def by_sample(engine: VllmEngine, batch: Sequence[Request], *, version: int) -> dict[int, Rollout]:
    return {r.sample: r for r in engine.generate(batch, version=version)}


def recurrent(folder: Path, **changes: Any) -> RecurrentForCausalLM:
    """A random recurrent model and its folder; every norm and gate is off its initial value."""
    sizes = {
        "vocab_size": 102,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_attention_heads": 2,
        "max_position_embeddings": 256,
        "initializer_range": 0.1,
    }
    torch.manual_seed(5)
    model = RecurrentForCausalLM(RecurrentConfig(**(sizes | changes))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter += 0.1 * torch.randn_like(parameter)
    save(model, folder)
    return model


def save(model: RecurrentForCausalLM, folder: Path) -> None:
    model.save_pretrained(folder)
    for file in TOKENIZER.glob("token*"):
        shutil.copy(file, folder)


def at_depth(
    choose: Callable[[int], DepthRequest | None], *, count: int = 12, prompt: int = 5
) -> list[Request]:
    return [
        replace(
            r,
            prompt_tokens=tuple(10 + (7 * j) % 60 for j in range(prompt + r.sample % 7)),
            depth=choose(r.sample),
        )
        for r in requests(count)
    ]


@torch.no_grad()
def replay_gap(model: RecurrentForCausalLM, rollouts: Sequence[Rollout], *, off: int = 0) -> float:
    """Largest difference in nats to the parallel pass at the recorded depths, moved by `off`."""
    return max(
        differences(model, r, depths=recorded(r, off=off).to(model.device)).max().item()
        for r in rollouts
    )


def recorded(r: Rollout, *, off: int = 0) -> torch.Tensor:
    """Depths [1, T] of prompt and completion; the last token never ran."""
    assert r.depths is not None
    assert r.prompt_depth is not None
    before = [r.prompt_depth] * (len(r.prompt_tokens) - 1)
    return (torch.tensor([[*before, *r.depths, 1]]) + off).clamp(1, 8)


def scheduled(sample: int) -> DepthRequest:
    drawn = random.Random(sample)
    schedule = tuple(drawn.randint(1, 8) for _ in range(15))
    return DepthRequest(rule="schedule", depth=3, schedule=schedule, prompt_depth=1 + sample % 4)


RULES: dict[str, Callable[[int], DepthRequest | None]] = {
    "configured": lambda i: None,
    "one": lambda i: DepthRequest(depth=1),
    "mixed": lambda i: DepthRequest(depth=1 + i % 8, prompt_depth=1 + 3 * i % 8),
    "schedule": scheduled,
    "sampled": lambda i: DepthRequest(
        rule="policy", depth=8, sampled=True, prompt_depth=4, log_price=-2.0, min_depth=1 + i % 3
    ),
    "segments": lambda i: DepthRequest(rule="policy", depth=8, sampled=True, segment=1 + i % 4),
    "likelier": lambda i: DepthRequest(rule="policy", depth=6, log_price=float(i)),
    "rules": lambda i: DepthRequest(
        rule=("kl", "latent", "entropy", "second_order", "q_exit", "fixed")[i % 6],  # type: ignore[arg-type]
        threshold=(0.3, 0.6, 3.0, 0.9, 0.9, None)[i % 6],
        depth=8,
        prompt_depth=3,
    ),
}
