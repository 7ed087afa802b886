"""Distillation: on the teacher's rows as DeepSeek-R1 did, or on the student's own completions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from datasets import Dataset
from transformers import AutoModelForCausalLM, TrainerCallback
from trl.trainer.distillation_config import DistillationConfig
from trl.trainer.distillation_trainer import DistillationTrainer

from pipeline.generate.chat import load_chat
from pipeline.recipe.distill_stage import DistillStage
from pipeline.train import sft_trainer
from pipeline.train.adapter import with_adapters
from pipeline.train.arguments import (
    FINAL_LR_FRACTION,
    load_tokenizer,
    shared_arguments,
    split_batch,
    trainer_process,
    weights_dtype,
)
from pipeline.train.job import TrainJob
from pipeline.train.loop import run
from pipeline.train.token_rows import row_order, steps_for, too_long_share

BETA = 1.0
"""Of the generalized Jensen-Shannon divergence (arXiv 2306.13649): reverse KL, which keeps a small
student to what it can say well; ours."""

train = sft_trainer.train  # distillation on rows is fine-tuning on them


def train_on_policy(
    job: TrainJob,
    prompts: Path,
    teacher: Path,
    *,
    teacher_code: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
) -> dict[str, Any]:
    """Draw the student's completions towards a teacher's next-token distribution.

    `prompts` is a parquet file with a string column `prompt`, rendered through the chat template;
    `teacher` is a model folder with the student's vocabulary, whose own code runs with
    `teacher_code`. Completions are sampled from the
    student at temperature 1 by transformers, `max_tokens` long with their prompt.

    Returns:
        status (done or stopped), steps, loss (divergence in nats per token, mean of the last 10
        steps), prompts, prompts_too_long (left out).

    Raises:
        ValueError: no prompt leaves room for a completion, or the vocabularies differ.
    """
    with trainer_process(job):
        return _train(job, prompts, teacher, teacher_code=teacher_code, callbacks=callbacks)


def _train(
    job: TrainJob,
    path: Path,
    teacher: Path,
    *,
    teacher_code: bool,
    callbacks: Sequence[TrainerCallback],
) -> dict[str, Any]:
    spec = job.spec
    assert isinstance(spec, DistillStage)
    batches = split_batch(spec.batch_rows, micro_batch_rows=spec.micro_batch_rows, ranks=job.ranks)
    tokenizer = load_tokenizer(job.model)
    found = pq.read_table(path, columns=["prompt"])["prompt"].to_pylist()
    chat = load_chat(job.model)
    lengths = [len(ids) for ids in chat.prompts_ids(found)]
    kept = [index for index, length in enumerate(lengths) if length < spec.max_tokens]
    if not kept:
        raise ValueError(
            f"{path}: none of {len(found)} prompts leaves room in max_tokens={spec.max_tokens}"
        )
    lengths = [lengths[index] for index in kept]
    steps = spec.steps or steps_for(len(kept), epochs=spec.epochs, batch_rows=spec.batch_rows)
    order = row_order(lengths, steps=steps, batch_rows=spec.batch_rows, seed=job.seed)
    arguments = DistillationConfig(
        **shared_arguments(
            job,
            batches=batches,
            steps=steps,
            schedule="cosine",
            final_lr_fraction=FINAL_LR_FRACTION,
        ),
        beta=BETA,
        temperature=1.0,
        max_completion_length=spec.max_tokens - max(lengths),
        shuffle_dataset=False,
    )
    student, expert = (
        AutoModelForCausalLM.from_pretrained(
            folder, dtype=weights_dtype(job), trust_remote_code=own_code
        )
        for folder, own_code in ((job.model, job.own_code), (teacher, teacher_code))
    )
    trainer = DistillationTrainer(
        model=with_adapters(student, job),
        teacher_model=expert,
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": [found[kept[index]] for index in order]}),
        processing_class=tokenizer,
    )
    # TRL would let the tokenizer put its own special tokens before those of the template
    trainer._tokenize_prompts = lambda prompts: (chat.prompts_ids(prompts), None, {})
    share = too_long_share(len(found) - len(kept), len(kept))
    info = run(trainer, job, tokenizer, callbacks=callbacks, extra=lambda: share, frozen=expert)
    return info | {"prompts": len(kept), "prompts_too_long": len(found) - len(kept)}
