"""A pairwise reward model (Bradley-Terry), through TRL's RewardTrainer."""

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import torch
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    TrainerCallback,
)
from trl.trainer.reward_config import RewardConfig
from trl.trainer.reward_trainer import RewardTrainer

from pipeline.generate.chat import Chat, load_chat
from pipeline.generate.reward_scorer import RewardScorer, scored_ids
from pipeline.recipe.reward_model_stage import RewardModelStage
from pipeline.train.adapter import with_adapters
from pipeline.train.arguments import (
    load_tokenizer,
    shared_arguments,
    split_batch,
    trainer_process,
    weights_dtype,
)
from pipeline.train.job import DONE, TrainJob
from pipeline.train.loop import run
from pipeline.train.token_rows import row_order, steps_for, too_long_share

HELD_OUT_SHARE = 0.1


class Pair(NamedTuple):
    """Two completions of one prompt, and which is better."""

    prompt: str
    chosen: str
    rejected: str


def train(
    job: TrainJob, pairs: Path, *, callbacks: Sequence[TrainerCallback] = ()
) -> dict[str, Any]:
    """Train on a parquet file with string columns `prompt`, `chosen` and `rejected`.

    Prompts are rendered, completions end without end-of-sequence token. A tenth of the pairs, by
    prompt, is held out. Goes on from the newest complete checkpoint in `job.work`.

    Returns:
        status (done or stopped), steps, loss (mean of the last 10 steps), pairs, pairs_too_long
        (left out, because a side exceeds `max_tokens`), held_out, and when done on rank 0
        accuracy (share of held-out pairs whose better side scores higher, None without any).

    Raises:
        ValueError: no pair fits in `max_tokens`, or the batch cannot be split evenly.
    """
    with trainer_process(job):
        return _train(job, pairs, callbacks=callbacks)


def split_pairs(pairs: Sequence[Pair], *, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Training and held-out pairs; no prompt is in both, and one prompt alone is all training."""
    sizes = Counter(pair.prompt for pair in pairs)
    prompts = sorted(sizes)
    random.Random(seed).shuffle(prompts)
    held_out: set[str] = set()
    count = 0
    for prompt in prompts[:-1]:
        if count >= HELD_OUT_SHARE * len(pairs):
            break
        held_out.add(prompt)
        count += sizes[prompt]
    return (
        [pair for pair in pairs if pair.prompt not in held_out],
        [pair for pair in pairs if pair.prompt in held_out],
    )


def accuracy(scorer: RewardScorer, pairs: Sequence[Pair]) -> float | None:
    """Share of pairs whose chosen completion scores higher."""
    if not pairs:
        return None
    prompts = [pair.prompt for pair in pairs]
    chosen = scorer.score(prompts, [pair.chosen for pair in pairs])
    rejected = scorer.score(prompts, [pair.rejected for pair in pairs])
    return sum(c > r for c, r in zip(chosen, rejected, strict=True)) / len(pairs)


def _train(job: TrainJob, path: Path, *, callbacks: Sequence[TrainerCallback]) -> dict[str, Any]:
    spec = job.spec
    assert isinstance(spec, RewardModelStage)
    batches = split_batch(spec.batch_rows, micro_batch_rows=spec.micro_batch_rows, ranks=job.ranks)
    tokenizer = load_tokenizer(job.model)
    table = pq.read_table(path, columns=["prompt", "chosen", "rejected"])
    everything = [Pair(**row) for row in table.to_pylist()]
    pairs, held_out = split_pairs(everything, seed=job.seed)
    examples = _examples(pairs, load_chat(job.model), max_tokens=spec.max_tokens, path=path)
    lengths = [max(len(row["chosen_ids"]), len(row["rejected_ids"])) for row in examples]
    steps = steps_for(len(examples), epochs=spec.epochs, batch_rows=spec.batch_rows)
    order = row_order(lengths, steps=steps, batch_rows=spec.batch_rows, seed=job.seed)
    arguments = RewardConfig(
        **shared_arguments(job, batches=batches, steps=steps, schedule="cosine"),
        max_length=None,
    )
    trainer = RewardTrainer(
        model=with_adapters(_with_score_head(job), job),
        args=arguments,
        train_dataset=Dataset.from_list([examples[index] for index in order]),
        processing_class=tokenizer,
    )
    share = too_long_share(len(pairs) - len(examples), len(examples))
    info = run(trainer, job, tokenizer, callbacks=callbacks, extra=lambda: share) | {
        "pairs": len(examples),
        "pairs_too_long": len(pairs) - len(examples),
        "held_out": len(held_out),
    }
    if info["status"] == DONE and arguments.process_index == 0:
        info["accuracy"] = accuracy(RewardScorer(job.out, device=job.device), held_out)
    return info


def _with_score_head(job: TrainJob) -> PreTrainedModel:
    """The job's model with a new head of one output, drawn from the job's seed."""
    torch.manual_seed(job.seed)
    return AutoModelForSequenceClassification.from_pretrained(
        job.model, num_labels=1, dtype=weights_dtype(job)
    )


def _examples(
    pairs: Sequence[Pair], chat: Chat, *, max_tokens: int, path: Path
) -> list[dict[str, list[int]]]:
    """Token rows of the pairs that fit."""
    prompts = [pair.prompt for pair in pairs]
    chosen = scored_ids(chat, prompts, [pair.chosen for pair in pairs])
    rejected = scored_ids(chat, prompts, [pair.rejected for pair in pairs])
    rows = [
        {"chosen_ids": better, "rejected_ids": worse}
        for better, worse in zip(chosen, rejected, strict=True)
        if max(len(better), len(worse)) <= max_tokens
    ]
    if not rows:
        raise ValueError(f"{path}: none of {len(pairs)} pairs fits in max_tokens={max_tokens}")
    return rows
