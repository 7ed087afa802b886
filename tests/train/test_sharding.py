"""Several ranks on the CPU, by DeepSpeed or FSDP2, reach what one rank reaches."""

import dataclasses
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from pipeline.train import grpo_trainer, sft_trainer
from pipeline.train.job import METRICS_FILE, STOP_FILE, TrainJob, read_metrics
from pipeline.train.sharding import deepspeed_config
from tests.train.test_grpo_trainer import FixedRollouts
from tests.train.test_grpo_trainer import stage as grpo_stage

MakeJob = Callable[..., TrainJob]
WORKER = Path(__file__).parent / "rank_worker.py"
STEPS = 5


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run_ranks(job: TrainJob, rows: Path, pickled: Path, *, worker: Path = WORKER) -> None:
    """Run `job.ranks` processes; a failure shows the output of the first rank that failed."""
    pickled.write_bytes(pickle.dumps(job))
    port = str(free_port())
    processes = [
        subprocess.Popen(
            [sys.executable, str(worker), str(pickled), str(rows)],
            env=os.environ
            | {
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "OMP_NUM_THREADS": "1",
                "OMP_WAIT_POLICY": "PASSIVE",
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(job.ranks),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
                "DS_ACCELERATOR": "cpu",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(job.ranks)
    ]
    try:
        outputs = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output


def losses(job: TrainJob) -> list[float]:
    return [row["loss"] for row in read_metrics(job.work / METRICS_FILE)]


def compare(
    make_job: MakeJob,
    rows: Path,
    tmp_path: Path,
    *,
    keywords: dict[str, Any] | None = None,
    **changes: Any,
) -> None:
    keywords = {"epochs": 1, "micro_batch_rows": 2, **(keywords or {})}
    one = make_job("one", **keywords)
    two = dataclasses.replace(make_job("two", **keywords), ranks=2, **changes)
    sft_trainer.train(one, rows)
    run_ranks(two, rows, tmp_path / "job.pickle")
    assert len(losses(one)) == STEPS
    assert losses(two) == pytest.approx(losses(one), abs=1e-4)
    ours, theirs = (load_file(job.out / "model.safetensors") for job in (one, two))
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-3) for name in ours)


def test_two_zero2_ranks_reach_the_loss_of_one(
    make_job: MakeJob, sft_rows: Path, tmp_path: Path
) -> None:
    compare(make_job, sft_rows, tmp_path, sharding="zero2")


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["none", "zero1", "zero3", "fsdp2"])
def test_two_ranks_reach_the_loss_of_one(
    make_job: MakeJob, sft_rows: Path, tmp_path: Path, sharding: str
) -> None:
    compare(make_job, sft_rows, tmp_path, sharding=sharding)


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["none", "zero1", "zero2", "zero3", "fsdp2"])
def test_two_ranks_of_adapters_reach_the_loss_of_one(
    make_job: MakeJob, sft_rows: Path, tmp_path: Path, sharding: str
) -> None:
    compare(make_job, sft_rows, tmp_path, sharding=sharding, keywords={"lora": {"rank": 4}})


@pytest.mark.parametrize("sharding", ["none", "fsdp2"])
def test_other_sharding_leaves_deepspeed_out(sharding: Any) -> None:
    assert deepspeed_config(sharding, device="cpu", dtype="float32") is None


def test_only_zero3_gathers_weights_to_save_them() -> None:
    for sharding, stage in (("zero1", 1), ("zero2", 2), ("zero3", 3)):
        config = deepspeed_config(sharding, device="cuda", dtype="bfloat16")
        assert config is not None
        zero = config["zero_optimization"]
        assert zero["stage"] == stage
        assert ("stage3_gather_16bit_weights_on_model_save" in zero) == (sharding == "zero3")
        assert config["bf16"] == {"enabled": True}


@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, {"rank": 4}])
@pytest.mark.parametrize("sharding", ["none", "zero2", "zero3", "fsdp2"])
def test_stopped_ranks_resume_bit_for_bit(
    make_job: MakeJob, sft_rows: Path, tmp_path: Path, sharding: Any, lora: Any
) -> None:
    whole, stopped = (
        dataclasses.replace(make_job(name, epochs=1, lora=lora), ranks=2, sharding=sharding)
        for name in ("whole", "stopped")
    )
    run_ranks(whole, sft_rows, tmp_path / "whole.pickle")
    stopped.work.mkdir(parents=True)
    (stopped.work / STOP_FILE).touch()
    run_ranks(stopped, sft_rows, tmp_path / "stopped.pickle")
    assert not stopped.out.exists()
    assert len(losses(stopped)) == 1
    (stopped.work / STOP_FILE).unlink()
    run_ranks(stopped, sft_rows, tmp_path / "stopped.pickle")
    assert losses(stopped) == losses(whole)
    ours, theirs = (load_file(job.out / "model.safetensors") for job in (whole, stopped))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    ("sharding", "stops"),
    [
        ("zero2", False),
        *(
            pytest.param(kind, True, marks=pytest.mark.slow)
            for kind in ("none", "zero2", "zero3", "fsdp2")
        ),
    ],
)
def test_ranks_replace_their_reference_and_resume_with_it(
    make_job: MakeJob, tiny_model: Path, tmp_path: Path, sharding: Any, stops: bool
) -> None:
    """GRPO with a KL term from a reference that the policy replaces after three of five steps."""
    spec = grpo_stage(steps=5, reference_every=3, save_steps=1)
    one = make_job("one", spec=spec)
    two = dataclasses.replace(make_job("two", spec=spec), ranks=2, sharding=sharding)
    grpo_trainer.train(one, rollouts=FixedRollouts(tiny_model))
    worker = WORKER.with_name("fixed_rollouts_worker.py")
    two.work.mkdir(parents=True)
    if stops:
        (two.work / STOP_FILE).touch()
        run_ranks(two, tiny_model, tmp_path / "job.pickle", worker=worker)
        assert len(losses(two)) == 1
        (two.work / STOP_FILE).unlink()
    run_ranks(two, tiny_model, tmp_path / "job.pickle", worker=worker)
    ours, theirs = (
        [row["kl"] for row in read_metrics(job.work / METRICS_FILE)] for job in (one, two)
    )
    assert theirs == pytest.approx(ours, rel=1e-2, abs=1e-6)
    assert ours[3] < 1e-6 < min(ours[2], ours[4])
    assert losses(two) == pytest.approx(losses(one), abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["zero3", "fsdp2"])
def test_shared_weights_are_gathered_copied_and_loaded(
    make_job: MakeJob, tiny_model: Path, tmp_path: Path, sharding: Any
) -> None:
    job = dataclasses.replace(make_job(), ranks=2, sharding=sharding)
    worker = WORKER.with_name("sharded_weights_worker.py")
    run_ranks(job, tiny_model, tmp_path / "job.pickle", worker=worker)


@pytest.mark.slow
def test_a_rank_of_zero3_never_holds_the_whole_model(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a GiB, of which each of two ranks keeps half."""
    for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
        monkeypatch.setenv(name, "65536")  # memory that was freed counts no more
    shape = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 7}
    config = LlamaConfig(**shape, num_attention_heads=8, vocab_size=2000)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "model", max_shard_size="25MB")
    job = dataclasses.replace(make_job(), model=tmp_path / "model", ranks=2, sharding="zero3")
    worker = WORKER.with_name("sharded_load_worker.py")
    run_ranks(job, tmp_path, tmp_path / "job.pickle", worker=worker)
