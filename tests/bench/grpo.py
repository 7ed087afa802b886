"""Time to accuracy against TRL alone: `python -m tests.bench.grpo [--json]`.

A GRPO stage of a shipped recipe (`--task quickstart`: `reason`; `--task smollm2`: `largest_grpo`)
from one cold start, which our own sft stage makes once and `--cache` keeps. In turn, each in
processes of its own with nothing beside:

    ours            `stepwell run` of the stage as the recipe has it: Ray, an engine, journal
    ours_equal      the same without replaced groups (`resample_rounds: 0`): TRL's work; where the
                    recipe replaces none, ours itself
    trl_generate    plain `GRPOTrainer` with `generate`
    trl_vllm        plain `GRPOTrainer` with vLLM in its process

Equal on all sides: cold start, prompts and their order, tokens of a prompt, reward functions and
weights, completions a step, loss, clip, KL term and reference, AdamW, rate, gradient norm, float32,
threads of a trainer and of an engine, OpenMP's settings. Not equal: random numbers; ours also runs
its verifiers and journal in another process, whose core the thread count does not limit; ours
replaces groups without variance where the recipe says so; TRL scores in its own process.

Accuracy is the share of 400 held-out prompts whose answer is right (temperature 0.6, top-p 0.95, as
runs watch it), of the weights that each side kept every few steps, by one evaluation for all after
the side has ended. Writing the weights stops the clock. A time to target is that of the first
weights that reach it (null: none did). The clock begins when libraries are imported and no model is
loaded: ours as the stage begins, which includes its engine, TRL's before the trainer is made.
`from_start_s` are the same from the start of the process (for ours Ray too), `from_first_step_s`
from the first step.

The ledger of a step: ours as runs have it, TRL's by clocks around generation, rewards and weight
sync, the rest being training. `mfu` is the FLOP/s of the training part of `ours_equal` over those
of a large product in the same process, as the run's metrics have them. Figures by threads stand in
`by_threads`; at the top, times are by thread count and ratios are between the best of each at any
count. Round 1 has seed 1 on all sides, and so on; medians over rounds, where a side that never
arrives is later than any other. A round of the quickstart takes ten minutes.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tests.bench.grpo_figures import Measured, document, summary

CHOICES = {
    "ours": ("ours", "ours_equal"),
    "generate": ("trl_generate",),
    "vllm": ("trl_vllm",),
}


def one_side(side: Any, *, started: float) -> Measured:
    """Run a side in this process."""
    if side.name.startswith("ours"):
        from tests.bench.grpo_ours import run

        return run(side, started=started)
    from tests.bench.grpo_trl import run as run_trl

    return run_trl(side, started=started, vllm=side.name == "trl_vllm")


def measured(side: Any) -> Measured:
    """times, accuracies and rows of a side, whose processes end before this returns."""
    from tests.bench.grpo_task import Log

    answer = _process("side", side)
    right = _process("evaluate", side)["accuracies"]
    times = Log(Path(side.work), side.every).times()
    return {"times": times, "accuracies": {int(k): v for k, v in right.items()}, **answer}


def _process(job: str, side: Any) -> Measured:
    from tests.bench.grpo_task import python

    text = json.dumps(asdict(side))
    print(f"{time.strftime('%H:%M:%S')} {side.name}: {job}", file=sys.stderr, flush=True)
    out = python(["-m", "tests.bench.grpo", "--job", job, text], threads=side.threads)
    return json.loads(out.splitlines()[-1])


def job(name: str, text: str, *, started: float) -> Measured:
    """What one of our processes does."""
    from tests.bench.grpo_task import Side, accuracies

    values = json.loads(text)
    side = Side(**{**values, "overrides": tuple(values["overrides"])})
    if name == "side":
        return one_side(side, started=started)
    return {"accuracies": accuracies(side)}


def main() -> None:
    started = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one document on standard output")
    parser.add_argument("--task", choices=("quickstart", "smollm2"), default="quickstart")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--steps", type=int, help="of each side; default: the task's")
    parser.add_argument("--every", type=int, help="steps between two accuracies")
    parser.add_argument("--target", type=float, help="held-out accuracy; default: the task's")
    parser.add_argument("--sides", nargs="+", choices=tuple(CHOICES), default=list(CHOICES))
    parser.add_argument("--set", nargs="+", default=[], help="a.b=c of the recipe, of our sides")
    parser.add_argument("--cache", type=Path, default=Path("runs/bench-grpo"))
    parser.add_argument("--job", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        name, text = arguments.job
        print(json.dumps(job(name, text, started=started)))
        return
    result = measure(arguments)
    if arguments.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name}: {value}")


def measure(arguments: argparse.Namespace) -> Measured:
    """All sides at all thread counts, in turn."""
    from tests.bench.grpo_task import TASKS, Side, prepared

    task = TASKS[arguments.task]
    cache = (arguments.cache / arguments.task).resolve()
    cache.mkdir(parents=True, exist_ok=True)
    recipe = prepared(task, cache)
    target = task.target if arguments.target is None else arguments.target
    names = [name for choice in arguments.sides for name in CHOICES[choice]]
    rounds: dict[str, list[dict[str, Measured]]] = {}
    for index in range(arguments.rounds):
        for threads in arguments.threads:
            sides: dict[str, Measured] = {}
            for name in names:
                work = cache / f"{time.strftime('%m%d-%H%M%S')}-{threads}-{index}-{name}"
                side = Side(
                    name=name,
                    recipe=str(recipe),
                    work=str(work),
                    threads=threads,
                    steps=arguments.steps or task.steps,
                    every=arguments.every or task.every,
                    overrides=_overrides(arguments, name, seed=index + 1),
                )
                if name == "ours_equal":
                    if not side.resamples:  # the recipe's own run is TRL's work already
                        sides[name] = sides["ours"]
                        continue
                    side = replace(side, overrides=(*side.overrides, side.without_resampling))
                work.mkdir()
                sides[name] = measured(side)
                (work / "measured.json").write_text(json.dumps(sides[name]))
            rounds.setdefault(str(threads), []).append(sides)
    by_threads = {
        threads: summary(measurements, target=target) for threads, measurements in rounds.items()
    }
    return document(by_threads, task=arguments.task, target=target, rounds=arguments.rounds)


def _overrides(arguments: argparse.Namespace, name: str, *, seed: int) -> tuple[str, ...]:
    """Of a side's recipe in one round."""
    return (f"seed={seed}", *(arguments.set if name.startswith("ours") else ()))


if __name__ == "__main__":
    main()
