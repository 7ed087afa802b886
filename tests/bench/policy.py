"""What a depth policy saves in time: `python -m tests.bench.policy MODEL RECIPE --depth 6 --json`.

The native engine in this process, one thread: the recipe's held-out prompts at fixed depths and at
the model's efforts, one after another in every round. Set OMP_NUM_THREADS=1 and
OMP_WAIT_POLICY=PASSIVE.
"""

import argparse
import json
import os
import statistics
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="folder that a depth stage exported")
    parser.add_argument("recipe", help="with that stage")
    parser.add_argument("--depth", type=int, action="append", help="fixed depths to compare with")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one JSON document, nothing else")
    asked = parser.parse_args()
    answer = os.dup(1)
    os.dup2(2, 1)  # what libraries print goes to standard error
    found = measure(asked.model, asked.recipe, depths=asked.depth or [], rounds=asked.rounds)
    text = json.dumps(found, indent=1) if asked.json else "\n".join(map(str, found.items()))
    os.write(answer, f"{text}\n".encode())


def measure(
    model: Path, recipe_name: str, *, depths: list[int], rounds: int
) -> dict[str, dict[str, float]]:
    """By setting: seconds per answer (the fastest round), the median over rounds of its time over
    the first setting's in the same round, FLOPs per answer, and mean depth."""
    import time

    import torch

    from pipeline.generate.chat import load_chat
    from pipeline.generate.native_engine import NativeEngine
    from pipeline.prompts.sources import load_prompts
    from pipeline.recipe.depth_stage import DepthStage
    from pipeline.recipe.load import load_recipe
    from pipeline.records import Request
    from pipeline.recurrent.effort import request_for
    from pipeline.recurrent.request import DepthRequest
    from tests.generate.engine_settings import cpu_settings

    torch.set_num_threads(1)
    recipe = load_recipe(recipe_name)
    (spec,) = (s for s in recipe.stages.values() if isinstance(s, DepthStage))
    config = json.loads((model / "config.json").read_text())
    fixed = {f"depth {d}": DepthRequest(depth=d, prompt_depth=spec.prompt_depth) for d in depths}
    efforts = {name: request_for(config, effort=name) for name in ("high", "medium", "low")}
    chat = load_chat(model)
    prompts = load_prompts(spec.held_out, recipe.prompts[spec.held_out], seed=recipe.seed)
    tokens_of = {
        p.id: chat.prompt_ids(chat.render(p.question, recipe.prompts[spec.held_out].preface))
        for p in prompts
    }
    settings = cpu_settings(tokens=spec.max_tokens + 192, sequences=256, gib=1)
    engine = NativeEngine(model, settings, version=0)
    seconds: dict[str, list[float]] = {name: [] for name in {**fixed, **efforts}}
    found: dict[str, dict[str, float]] = {}
    for _ in range(rounds):
        for name, request in {**fixed, **efforts}.items():
            requests = [
                Request(
                    prompt_id=p.id,
                    prompt_tokens=tokens_of[p.id],
                    sample=0,
                    seed=index,
                    max_tokens=spec.max_tokens,
                    temperature=spec.temperature,
                    depth=request,
                )
                for index, p in enumerate(prompts)
            ]
            began = time.perf_counter()
            runs = list(engine.generate(requests, version=0))
            seconds[name].append((time.perf_counter() - began) / len(runs))
            tokens = sum(len(r.tokens) for r in runs)
            found[name] = {
                "flops_per_answer": statistics.fmean(r.flops for r in runs),
                "mean_depth": sum(sum(r.depths or ()) for r in runs) / tokens,
            }
    first = next(iter(seconds.values()))
    for name, each in seconds.items():
        found[name]["seconds_per_answer"] = min(each)
        found[name]["time_ratio"] = statistics.median(
            own / base for own, base in zip(each, first, strict=True)
        )
    return found


if __name__ == "__main__":
    sys.exit(main())
