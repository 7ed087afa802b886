"""How far engine and trainer are apart on sampled tokens: `python -m tests.bench.gap`.

The shipped recurrent model, sampled by the native engine at mixed depths in each dtype, and read
again as the trainer does: float32 weights, under autocast where the dtype is bfloat16. The second
line of each is what training at the model's own depth would have seen. A minute on one core.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from pipeline.generate.chat import load_chat
from pipeline.generate.engine import EngineSettings
from pipeline.generate.native_engine import NativeEngine
from pipeline.prompts.sources import load_prompts
from pipeline.recipe.prompt_source import PromptSource
from pipeline.records import Request, Rollout
from pipeline.recurrent.register import register
from pipeline.recurrent.request import DepthRequest

MODEL = Path("data/models/tiny-depth")
PROBLEMS = {"task": "shuffles", "size": 48, "difficulty": [3, 10], "distractors": [0, 3]}
SAMPLES, TOKENS = 4, 64
MIXED = DepthRequest(rule="schedule", depth=8, prompt_depth=2, schedule=(1, 5, 2, 8, 3, 4) * 11)


def sampled(dtype: str) -> list[Rollout]:
    """Completions at mixed depths."""
    settings = EngineSettings(
        max_model_tokens=256,
        max_sequences=64,
        device="cpu",
        dtype=dtype,
        kv_cache_gib=0.5,
        gpus=1,
        gpu_memory_fraction=0.5,
        engine="native",
    )
    chat = load_chat(MODEL)
    prompts = load_prompts("bench", PromptSource.model_validate(PROBLEMS), seed=1)
    requests = [
        Request(
            prompt_id=prompt.id,
            prompt_tokens=chat.prompt_ids(chat.render(prompt.question, ())),
            sample=sample,
            seed=SAMPLES * number + sample,
            max_tokens=TOKENS,
            temperature=1.0,
            depth=MIXED,
        )
        for number, prompt in enumerate(prompts)
        for sample in range(SAMPLES)
    ]
    return list(NativeEngine(MODEL, settings, version=0).generate(requests, version=0))


@torch.no_grad()
def gaps(model: Any, rollout: Rollout, *, dtype: str, recorded: bool) -> Tensor:
    """[_T] of a completion's tokens, in nats."""
    ids = torch.tensor([[*rollout.prompt_tokens, *rollout.tokens[:-1]]])
    at = {"depths": torch.tensor([rollout.position_depths])} if recorded else {}
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
        logits = model(ids, use_cache=False, **at).logits[0, len(rollout.prompt_tokens) - 1 :]
    chosen = logits.float().log_softmax(-1).gather(1, torch.tensor(rollout.tokens)[:, None])[:, 0]
    return (chosen - torch.tensor(rollout.logprobs)).abs()


def main() -> None:
    register()
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    for dtype in ("float32", "bfloat16"):
        rollouts = sampled(dtype)
        for recorded in (True, False):
            apart = torch.cat([gaps(model, r, dtype=dtype, recorded=recorded) for r in rollouts])
            print(
                f"{dtype}, {'recorded depths' if recorded else 'own depth'}: {len(apart)} tokens, "
                f"largest {apart.max():.2g}, mean {apart.mean():.2g} nats"
            )


if __name__ == "__main__":
    main()
