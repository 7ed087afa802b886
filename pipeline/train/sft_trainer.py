"""Supervised fine-tuning on rendered prompts and completions, through TRL's SFTTrainer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from datasets import Dataset
from transformers import AutoModelForCausalLM, PreTrainedConfig, TrainerCallback
from trl.data_utils import pack_dataset
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling, SFTTrainer

from pipeline.generate.chat import Chat, load_chat
from pipeline.recipe.distill_stage import DistillStage
from pipeline.recipe.sft_stage import SftStage
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
from pipeline.train.random_depths import DepthCollator, check_random_depths, with_depths
from pipeline.train.token_rows import row_order, steps_for, token_rows, too_long_share


def train(
    job: TrainJob, rows: Path, *, callbacks: Sequence[TrainerCallback] = ()
) -> dict[str, Any]:
    """Fine-tune `job.model` on a parquet file with string columns `prompt` and `completion`, and
    perhaps a list `further` with a conversation's later turns (see `token_rows`).

    Prompts are rendered through the chat template, completions end without end-of-sequence token.
    Goes on from the newest complete checkpoint in `job.work`. With the specification of a
    distillation stage this is distillation on rows, with the loss on completions only.

    Returns:
        status (done or stopped), steps, loss (mean of the last 10 steps), rows and tokens (per
        epoch), rows_too_long (left out, because they exceed `max_tokens`).

    Raises:
        ValueError: no row fits in `max_tokens`, or the batch cannot be split evenly.
    """
    with trainer_process(job):
        return _train(job, rows, callbacks=callbacks)


def _train(job: TrainJob, rows: Path, *, callbacks: Sequence[TrainerCallback]) -> dict[str, Any]:
    spec = job.spec
    assert isinstance(spec, SftStage | DistillStage)
    batches = split_batch(spec.batch_rows, micro_batch_rows=spec.micro_batch_rows, ranks=job.ranks)
    tokenizer = load_tokenizer(job.model)
    examples, counts = _examples(job, rows, load_chat(job.model))
    lengths = [len(ids) for ids in examples["input_ids"]]
    steps = steps_for(len(examples), epochs=spec.epochs, batch_rows=spec.batch_rows)
    order = row_order(
        lengths,
        steps=steps,
        batch_rows=spec.batch_rows,
        seed=job.seed,
        shuffle=spec.shuffle,
    )
    rows_in_order = examples.select(order)
    arguments = SFTConfig(
        **shared_arguments(
            job,
            batches=batches,
            steps=steps,
            schedule="cosine",
            final_lr_fraction=FINAL_LR_FRACTION,
        ),
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        padding_free=spec.packing,
        remove_unused_columns=False,  # only what the collator knows is there, and `depths`
    )
    model = AutoModelForCausalLM.from_pretrained(
        job.model, dtype=weights_dtype(job), trust_remote_code=job.own_code
    )
    if not balances_experts(model.config):
        arguments.router_aux_loss_coef = 0.0
    random_depths = spec.random_depths
    if random_depths is not None:
        check_random_depths(model.config, random_depths, folder=job.model)
        rows_in_order = with_depths(
            rows_in_order,
            random_depths,
            seed=job.seed,
            batch_rows=batches.micro_rows,
            later=spec.lora is not None and spec.lora.is_later,
        )
    trainer = SFTTrainer(
        model=with_adapters(model, job),
        args=arguments,
        train_dataset=rows_in_order,
        processing_class=tokenizer,
    )
    if random_depths is not None:
        assert isinstance(trainer.data_collator, DataCollatorForLanguageModeling)
        trainer.data_collator = DepthCollator(trainer.data_collator)
    share = too_long_share(counts["rows_too_long"], counts["rows"])
    return {**run(trainer, job, tokenizer, callbacks=callbacks, extra=lambda: share), **counts}


def balances_experts(config: PreTrainedConfig) -> bool:
    """Whether TRL 1.16 can add a balancing loss over a model's experts: it looks for their number
    under one name, which some families (granitemoe, jetmoe) do not have."""
    return "num_experts" in {*vars(config), *config.attribute_map}


def _examples(job: TrainJob, rows: Path, chat: Chat) -> tuple[Dataset, Mapping[str, int]]:
    """Token rows that fit, packed when the recipe says so, and what was counted on the way."""
    spec = job.spec
    assert isinstance(spec, SftStage | DistillStage)
    table = pq.read_table(rows)
    names = table.column_names
    found = token_rows(
        chat,
        table["prompt"].to_pylist(),
        table["completion"].to_pylist(),
        completion_only=True,
        further=table["further"].to_pylist() if "further" in names else None,
    )
    fitting = [row for row in found if len(row.input_ids) <= spec.max_tokens]
    if not fitting:
        raise ValueError(
            f"{rows}: none of {len(found)} rows fits in max_tokens={spec.max_tokens}"
            + (f"; the shortest has {min(len(r.input_ids) for r in found)}" if found else "")
        )
    examples = Dataset.from_dict(
        {"input_ids": [r.input_ids for r in fitting], "labels": [r.labels for r in fitting]}
    )
    counts = {
        "rows": len(fitting),
        "tokens": sum(len(row.input_ids) for row in fitting),
        "rows_too_long": len(found) - len(fitting),
    }
    if spec.packing:
        examples = pack_dataset(examples.shuffle(seed=job.seed), spec.max_tokens)
        counts["packed_rows"] = len(examples)
    return examples, counts
