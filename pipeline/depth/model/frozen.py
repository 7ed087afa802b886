"""The frozen language model of a process, and the surroundings of work on it."""

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM
from transformers.utils.logging import (
    disable_progress_bar,
    enable_progress_bar,
    is_progress_bar_enabled,
)

from pipeline.depth.trainer_jobs import HeadJob
from pipeline.recurrent.convert.checkpoint import shards_of
from pipeline.recurrent.model import RecurrentForCausalLM
from pipeline.recurrent.register import register


@contextlib.contextmanager
def head_process(job: HeadJob) -> Iterator[RecurrentForCausalLM]:
    """The job's model, with torch's threads and kernels settled as in a fresh process.

    Raises ValueError for a folder without a recurrent model, or with one that runs less deep.
    """
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    bars = is_progress_bar_enabled()
    disable_progress_bar()
    torch.set_num_threads(job.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with torch.random.fork_rng(devices=[]):
            model = frozen_model(job)
            torch.manual_seed(job.seed)  # after loading, which may draw
            yield model
    finally:
        if bars:
            enable_progress_bar()
        torch.use_deterministic_algorithms(deterministic)
        torch.set_num_threads(threads)


def frozen_model(job: HeadJob) -> RecurrentForCausalLM:
    """The job's model in evaluation mode, loaded once for as long as the folder stays the same."""
    written = max(shard.stat().st_mtime_ns for shard in shards_of(job.model))
    model = _loaded(job.model.resolve(), written, job.dtype, job.device)
    if job.max_depth > model.config.max_iterations:
        raise ValueError(
            f"max_depth={job.max_depth} is over max_iterations={model.config.max_iterations} of "
            f"{job.model}"
        )
    return model


@functools.lru_cache(maxsize=1)
def _loaded(folder: Path, _written: int, dtype: str, device: str) -> RecurrentForCausalLM:
    register()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    if not isinstance(model, RecurrentForCausalLM):
        raise ValueError(
            f"{folder} holds a {model.config.model_type} model: a halting head needs a recurrent "
            "one; convert it first"
        )
    return model.to(device).eval().requires_grad_(False)  # pyright: ignore[reportArgumentType, reportReturnType]
