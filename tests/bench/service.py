"""The rollout service without a model: `python -m tests.bench.service [--rollouts N] [--json]`.

A fake engine answers at once and a pool scores in the calling thread, so that what is measured is
ours alone: requests, text, samples, groups, the journal on disk. Seconds are of CPU of the whole
process, so that other work on the machine does not count. `overhead_us` is of one rollout;
`rollouts_per_min_per_core` is what a core could do of nothing else. `rss_growth_mb` is how much the
process grew from a tenth of the steps to the last, and `slowdown` a late rollout's cost over an
early one's, both flat where nothing is kept and nothing is quadratic. 20 seconds on one core.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from pipeline.generate.chat import Chat
from pipeline.generate.journal import Journal
from pipeline.generate.service import RewardUse, RolloutService
from pipeline.generate.steps import GrpoRollouts
from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.records import Prompt, Request, Rollout
from rewards.api import Sample
from tests.generate.conftest import CharTokenizer, FakeEngine, FakePool

PROMPTS = 20_000
PROMPTS_PER_STEP, SAMPLES = 32, 8
QUESTION, ANSWER_TOKENS = "How much is it? ", 128
TARGET = 20_000  # rollouts a minute and core


class _ForgetfulEngine(FakeEngine):
    """A fake engine that keeps no list of what it was asked for."""

    def generate(self, requests: Sequence[Request], *, version: int) -> Iterator[Rollout]:
        yield from super().generate(requests, version=version)
        self.requests.clear()


def measure(rollouts: int, *, curriculum: bool = False) -> dict[str, float]:
    """Figures of that many rollouts, step by step."""
    prompts = [Prompt(id=f"p{i}", question=f"{QUESTION}{i}", answer=str(i)) for i in range(PROMPTS)]
    steps = max(rollouts // (PROMPTS_PER_STEP * SAMPLES), 20)
    service = RolloutService(
        [_ForgetfulEngine(_answer)],  # type: ignore[list-item]
        Chat(tokenizer=CharTokenizer(), ends=()),  # type: ignore[arg-type]
        FakePool(_score),
        rewards=[RewardUse(name="answer", ref="fake", weight=1.0, args={})],
        preface={"train": ()},
        base=Path("."),
        max_model_tokens=1024,
    )
    stage = GrpoStage(
        kind="grpo",
        prompts="train",
        rewards=["answer"],
        steps=steps,
        prompts_per_step=PROMPTS_PER_STEP,
        samples_per_prompt=SAMPLES,
        max_tokens=256,
        curriculum=curriculum,
    )
    process, seconds, resident = psutil.Process(), [], []
    with tempfile.TemporaryDirectory() as folder:
        made = GrpoRollouts(
            service,
            Journal(Path(folder)),
            stage,
            prompts,
            seed=7,
            preference=None,
            watch=(),
            watch_reward="answer",
        )
        for step in range(steps):
            began = time.process_time()
            made.step(step)
            seconds.append(time.process_time() - began)
            resident.append(process.memory_info().rss)
    each = PROMPTS_PER_STEP * SAMPLES
    tenth = max(steps // 10, 1)
    early, late = (
        statistics.median(part) for part in (seconds[tenth : 2 * tenth], seconds[-tenth:])
    )
    cost = sum(seconds[1:]) / (len(seconds) - 1) / each
    return {
        "rollouts_per_min_per_core": round(60 / cost),
        "overhead_us": round(1e6 * cost, 1),
        "rss_growth_mb": round((resident[-1] - resident[tenth]) / 2**20, 1),
        "slowdown": round(late / early, 3),
        "rollouts": steps * each,
    }


def _answer(request: Request) -> str:
    """Right for every other sample, so that each group has variance."""
    return f"{request.sample % 2}".rjust(ANSWER_TOKENS)


def _score(sample: Sample) -> float:
    return float(sample.completion.endswith("1"))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--rollouts", type=int, default=100_000)
    parser.add_argument("--curriculum", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measure(options.rollouts, curriculum=options.curriculum)
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:26} {value:g}")
    print(f"target: {TARGET} rollouts a minute and core")


if __name__ == "__main__":
    main()
