"""What every trainer has in common: its process, its arguments and its final save.

A process may run several trainings one after another. `trainer_process` gives each the surroundings
of a fresh process, so that its result depends on its job alone.
"""

import contextlib
import gc
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import huggingface_hub.constants
import torch
import torch.distributed as dist
import torch.utils.deterministic as determinism
from accelerate.state import AcceleratorState, GradientState
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerBase,
    Trainer,
    set_seed,
)
from transformers.integrations.deepspeed import unset_hf_deepspeed_config
from transformers.utils.logging import (
    disable_progress_bar,
    enable_progress_bar,
    is_progress_bar_enabled,
)

from pipeline.errors import WrongInput
from pipeline.generate import chat
from pipeline.models.own_code import carry_code
from pipeline.recipe.hardware import DEEPSPEED
from pipeline.recurrent.register import register
from pipeline.train.adapter import save_adapters, transformers_model
from pipeline.train.job import CHECKPOINTS, TrainJob
from pipeline.train.sharding import sharded_arguments, start_sharded_cpu
from pipeline.train.whole_weights import full_weights

Schedule = Literal["constant", "linear", "cosine"]
RANK_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")


@dataclass(frozen=True, kw_only=True)
class Batches:
    """How one optimizer step's rows are split: `micro_rows * ranks * accumulation` of them."""

    micro_rows: int  # per rank and forward pass
    accumulation: int  # forward passes per rank and optimizer step


def split_batch(batch_rows: int, *, micro_batch_rows: int, ranks: int) -> Batches:
    """The split of `batch_rows` rows per optimizer step over ranks and forward passes.

    A batch smaller than `micro_batch_rows` on every rank is one smaller forward pass.

    Raises:
        ValueError: the rows cannot be split evenly; the message has the nearest `batch_rows`.

    >>> split_batch(128, micro_batch_rows=8, ranks=2)
    Batches(micro_rows=8, accumulation=8)
    """
    micro_rows = min(micro_batch_rows, max(batch_rows // ranks, 1))
    unit = micro_rows * ranks
    if batch_rows % unit:
        nearest = max(round(batch_rows / unit), 1) * unit
        raise ValueError(
            f"batch_rows={batch_rows} is no multiple of micro_batch_rows={micro_rows} x "
            f"{ranks} ranks; the nearest batch_rows that is: {nearest}"
        )
    return Batches(micro_rows=micro_rows, accumulation=batch_rows // unit)


ADAM_BETAS = (0.9, 0.95)
"""Decay of Adam's two averages, as in Llama 2 (arXiv 2307.09288, section 2.2)."""

MAX_GRAD_NORM = 1.0
"""Gradients are scaled down to this norm (the same section)."""

WARMUP_FRACTION = 0.03
"""Share of the steps in which the rate rises from zero, but for GRPO; ours."""

FINAL_LR_FRACTION = 0.1
"""Share of the peak rate that R1's cosine ends at: from 5e-5 to 5e-6 (arXiv 2501.12948v2)."""


def shared_arguments(
    job: TrainJob,
    *,
    batches: Batches,
    steps: int,
    schedule: Schedule,
    final_lr_fraction: float = 0.0,
    warmup_fraction: float = WARMUP_FRACTION,
) -> dict[str, Any]:
    """Fields of `transformers.TrainingArguments` that all our trainers share.

    Rows come in the order of the data set: what shuffles is the order that we give it, a function
    of the job's seed. Checkpoints are rotated by `callbacks.CompleteCheckpoints`, not here.
    """
    spec = job.spec
    return {
        "output_dir": str(job.work / CHECKPOINTS),
        "report_to": "none",  # the driver tells trackers
        "max_steps": steps,
        "per_device_train_batch_size": batches.micro_rows,
        "gradient_accumulation_steps": batches.accumulation,
        "train_sampling_strategy": "sequential",
        "learning_rate": spec.lr,
        **optimizer_arguments(spec.optimizer),
        "adam_beta1": ADAM_BETAS[0],
        "adam_beta2": ADAM_BETAS[1],
        "weight_decay": 0.0,
        "max_grad_norm": MAX_GRAD_NORM,
        "warmup_steps": math.ceil(warmup_fraction * steps),
        **lr_schedule(schedule, final_lr_fraction=final_lr_fraction),
        "gradient_checkpointing": spec.gradient_checkpointing,
        "seed": job.seed,
        "data_seed": job.seed,
        **sharded_arguments(job.sharding, device=job.device, dtype=job.dtype),
        "bf16": job.dtype == "bfloat16",
        "save_strategy": "steps",
        "save_steps": spec.save_steps,
        "save_total_limit": None,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": job.device != "cpu",
        "push_to_hub": False,
    }


def optimizer_arguments(optimizer: str) -> dict[str, str]:
    """The optimizer in transformers' terms; AdamW as it comes where none is asked for.

    Raises:
        WrongInput: its library is not installed.
    """
    if optimizer == "adamw":
        return {}
    if find_spec("bitsandbytes") is None:
        raise WrongInput(f"optimizer: {optimizer} needs bitsandbytes; pip install 'stepwell[gpu]'")
    return {"optim": "adamw_bnb_8bit"}


def lr_schedule(schedule: Schedule, *, final_lr_fraction: float = 0.0) -> dict[str, Any]:
    """The schedule in transformers' terms; a cosine ends at `final_lr_fraction` of the peak.

    Raises:
        ValueError: a final fraction with a schedule that has none.
    """
    if schedule == "cosine":
        return {
            "lr_scheduler_type": "cosine_with_min_lr",
            "lr_scheduler_kwargs": {"min_lr_rate": final_lr_fraction},
        }
    if final_lr_fraction:
        raise ValueError(f"final_lr_fraction={final_lr_fraction} needs the cosine schedule")
    return {"lr_scheduler_type": "constant_with_warmup" if schedule == "constant" else schedule}


def weights_dtype(job: TrainJob) -> torch.dtype:
    """The dtype to load weights in.

    bfloat16 training keeps float32 weights under autocast and FSDP2, or under DeepSpeed bfloat16
    weights with float32 ones in its optimizer. Weights that do not learn need no float32.
    """
    keeps_master = job.sharding in DEEPSPEED or job.spec.lora is not None
    return torch.bfloat16 if job.dtype == "bfloat16" and keeps_master else torch.float32


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder.

    Raises:
        ValueError: it has no end-of-sequence token, which training appends to every completion.
    """
    tokenizer: PreTrainedTokenizerBase = chat.load_tokenizer(folder)
    if tokenizer.eos_token_id is None:
        raise ValueError(f"the tokenizer in {folder} has no end-of-sequence token; set eos_token")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


@contextlib.contextmanager
def trainer_process(job: TrainJob) -> Iterator[None]:
    """Surround one training run: seed and settle this process, and leave nothing behind.

    Several ranks find their process group made. Rank variables are hidden from an unsharded single
    rank, which otherwise would wrap its model for data parallelism. No trainer calls home or asks
    for a login.
    """
    register()
    before = dict(os.environ)
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    fill = determinism.fill_uninitialized_memory  # pyright: ignore[reportAttributeAccessIssue]
    bars = is_progress_bar_enabled()
    disable_progress_bar()
    huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY = True
    os.environ.update(_environment(job))
    if job.ranks == 1 and job.sharding == "none":
        for name in RANK_VARIABLES:
            os.environ.pop(name, None)
    elif not dist.is_initialized():
        dist.init_process_group("gloo" if job.device == "cpu" else "nccl")
    if job.sharding != "none" and job.device == "cpu":
        start_sharded_cpu(job.sharding)
    torch.set_num_threads(job.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    _fill_memory(False)
    set_seed(job.seed)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic)
        _fill_memory(fill)
        torch.set_num_threads(threads)
        if bars:
            enable_progress_bar()
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        unset_hf_deepspeed_config()
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
        gc.collect()
        if job.device == "cuda":
            torch.cuda.empty_cache()


def save_final(trainer: Trainer, job: TrainJob, tokenizer: PreTrainedTokenizerBase) -> None:
    """Fill `job.out` with weights in `job.dtype`, configuration and tokenizer; every rank calls.

    Sharded weights are gathered first, which takes part of every rank. Adapters are added to the
    weights, and are in a folder of their own beside it.
    """
    trained: Any = trainer.accelerator.unwrap_model(trainer.model)
    model = transformers_model(trained)
    save_adapters(trained, job)
    if weights_dtype(job) != torch.bfloat16 and job.dtype == "bfloat16":
        model.bfloat16()
    weights = full_weights(trained)
    model.config.use_cache = True  # training switches it off; generation wants it
    model.config.eos_token_id = json.loads((job.model / "config.json").read_text()).get(
        "eos_token_id"
    )  # the trainer puts the tokenizer's one end in place of all of them
    if trainer.args.process_index == 0:
        model.save_pretrained(job.out, state_dict=weights)
        tokenizer.save_pretrained(job.out)
        if job.own_code:
            carry_code(job.model, job.out)
        if not model.can_generate():  # a reward model ends what it reads as its base does
            GenerationConfig.from_pretrained(job.model).save_pretrained(job.out)


def _fill_memory(fill: bool) -> None:
    """Whether deterministic mode also fills new tensors, which costs time and guards nothing."""
    determinism.fill_uninitialized_memory = fill  # pyright: ignore[reportAttributeAccessIssue]


def _environment(job: TrainJob) -> dict[str, str]:
    """Environment of deterministic kernels and of libraries that would choose for themselves."""
    variables = {
        "TOKENIZERS_PARALLELISM": "false",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # deterministic matrix products
    }
    if job.device == "cpu":
        variables["DS_ACCELERATOR"] = "cpu"
        variables["ACCELERATE_TORCH_DEVICE"] = "cpu"  # else cpu:RANK, which torch.load refuses
    return variables
