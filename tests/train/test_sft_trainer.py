"""Fine-tuning: what is learned from, exact resume, and that runs in one process are alike."""

import dataclasses
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GraniteMoeConfig,
    MixtralConfig,
    PhimoeConfig,
    Qwen2MoeConfig,
    TrainerCallback,
)

from pipeline.generate.chat import load_chat
from pipeline.train import sft_trainer
from pipeline.train.checkpoints import latest_whole
from pipeline.train.job import (
    CHECKPOINTS,
    DONE,
    METRICS_FILE,
    STOP_FILE,
    STOPPED,
    TrainJob,
    read_metrics,
)
from pipeline.train.token_rows import IGNORED, row_order, steps_for, token_rows

MakeJob = Callable[..., TrainJob]
ROOT = Path(__file__).parents[2]
WORKER = Path(__file__).parent / "rank_worker.py"


class Crash(TrainerCallback):
    """Dies in the middle of a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise RuntimeError("killed")


def weights(job: TrainJob) -> dict[str, torch.Tensor]:
    return load_file(job.out / "model.safetensors")


def assert_same(left: TrainJob, right: TrainJob) -> None:
    ours, theirs = weights(left), weights(right)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_prompt_and_completion_are_tokenized_apart(tiny_model: Path) -> None:
    chat = load_chat(tiny_model)
    (row,) = token_rows(chat, ["<user>1"], ["2"], completion_only=True)
    assert chat.tokenizer.decode(row.input_ids) == "<user>12<eos>"
    assert row.labels == [IGNORED, IGNORED, *row.input_ids[2:]]
    (whole,) = token_rows(chat, ["<user>1"], ["2"], completion_only=False)
    assert whole.labels == whole.input_ids == row.input_ids


def test_a_curriculum_keeps_the_order_of_its_batches() -> None:
    order = row_order(list(range(8)), steps=4, batch_rows=4, seed=1, shuffle=False)
    assert order == [3, 2, 1, 0, 7, 6, 5, 4] * 2  # longest first within a batch


def test_order_shows_every_row_once_per_epoch() -> None:
    lengths = [index % 7 for index in range(20)]
    order = row_order(lengths, steps=10, batch_rows=4, seed=1)
    assert sorted(order[:20]) == sorted(order[20:]) == list(range(20))
    assert order != row_order(lengths, steps=10, batch_rows=4, seed=2)
    for start in range(0, 40, 4):
        batch = [lengths[index] for index in order[start : start + 4]]
        assert batch == sorted(batch, reverse=True)


@pytest.mark.parametrize(("epochs", "steps"), [(1, 5), (2, 10), (0.5, 3), (0.01, 1)])
def test_steps_are_rounded_up(epochs: float, steps: int) -> None:
    assert steps_for(20, epochs=epochs, batch_rows=4) == steps


def test_training_learns_and_writes_a_complete_folder(make_job: MakeJob, sft_rows: Path) -> None:
    job = make_job(epochs=6)
    info = sft_trainer.train(job, sft_rows)
    assert info["status"] == DONE
    assert (info["steps"], info["rows"], info["rows_too_long"]) == (30, 40, 0)
    rows = read_metrics(job.work / METRICS_FILE)
    assert [row["step"] for row in rows] == list(range(1, 31))
    assert {"steps", "loss", "lr", "grad_norm", "tokens_per_s", "seconds_left"} <= rows[0].keys()
    assert info["loss"] < rows[0]["loss"] / 2
    assert AutoTokenizer.from_pretrained(job.out).chat_template
    assert json.loads((job.out / "generation_config.json").read_text())["eos_token_id"] == [1]
    assert not list(job.out.glob("*.bin"))
    assert AutoModelForCausalLM.from_pretrained(job.out).dtype == torch.float32


def test_crash_and_resume_end_with_the_same_bits(make_job: MakeJob, sft_rows: Path) -> None:
    whole, broken = make_job("whole", epochs=2), make_job("broken", epochs=2)
    info = sft_trainer.train(whole, sft_rows)
    with pytest.raises(RuntimeError, match="killed"):
        sft_trainer.train(broken, sft_rows, callbacks=[Crash(6)])
    assert len(read_metrics(broken.work / METRICS_FILE)) == 6
    assert sft_trainer.train(broken, sft_rows) == info
    assert_same(whole, broken)
    ours, theirs = (read_metrics(job.work / METRICS_FILE) for job in (whole, broken))
    assert [row["step"] for row in theirs] == list(range(1, 11))
    assert [row["loss"] for row in ours] == [row["loss"] for row in theirs]


def test_stop_file_ends_with_a_checkpoint(make_job: MakeJob, sft_rows: Path) -> None:
    whole, stopped = make_job("whole", epochs=2), make_job("stopped", epochs=2)
    sft_trainer.train(whole, sft_rows)
    stopped.work.mkdir(parents=True)
    (stopped.work / STOP_FILE).touch()
    info = sft_trainer.train(stopped, sft_rows)
    assert (info["status"], info["steps"]) == (STOPPED, 1)
    assert not stopped.out.exists()
    checkpoint = latest_whole(stopped.work / CHECKPOINTS, checksums=True)
    assert checkpoint is not None
    assert checkpoint.name == "checkpoint-1"
    (stopped.work / STOP_FILE).unlink()
    assert sft_trainer.train(stopped, sft_rows)["status"] == DONE
    assert_same(whole, stopped)


def test_finished_training_can_be_asked_for_again(make_job: MakeJob, sft_rows: Path) -> None:
    job = make_job(epochs=1)
    info = sft_trainer.train(job, sft_rows)
    before = weights(job)
    (job.out / "model.safetensors").unlink()
    assert sft_trainer.train(job, sft_rows) == info
    assert all(torch.equal(before[name], value) for name, value in weights(job).items())


def test_accumulation_equals_one_large_forward_pass(make_job: MakeJob, sft_rows: Path) -> None:
    small, large = make_job("small", micro_batch_rows=2), make_job("large", micro_batch_rows=64)
    ours, theirs = sft_trainer.train(small, sft_rows), sft_trainer.train(large, sft_rows)
    assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-4)


def test_packing_has_the_loss_of_separate_rows(make_job: MakeJob, sft_rows: Path) -> None:
    plain = make_job("plain", epochs=1, batch_rows=40, micro_batch_rows=40)
    packed = make_job("packed", epochs=1, batch_rows=1, packing=True, max_tokens=2048)
    sft_trainer.train(plain, sft_rows)
    info = sft_trainer.train(packed, sft_rows)
    assert info["packed_rows"] == 1
    first = [read_metrics(job.work / METRICS_FILE)[0]["loss"] for job in (plain, packed)]
    assert first[0] == pytest.approx(first[1], abs=1e-5)


def test_rows_over_the_limit_are_counted(make_job: MakeJob, sft_rows: Path) -> None:
    job = make_job("some", epochs=1, max_tokens=9)
    info = sft_trainer.train(job, sft_rows)
    assert 0 < info["rows_too_long"] < 40
    assert info["rows"] + info["rows_too_long"] == 40
    row = read_metrics(job.work / METRICS_FILE)[0]
    assert row["too_long_share"] == info["rows_too_long"] / 40
    with pytest.raises(ValueError, match="none of 40 rows fits in max_tokens=3"):
        sft_trainer.train(make_job("none", max_tokens=3), sft_rows)


def test_no_rows_is_an_error(make_job: MakeJob, tmp_path: Path) -> None:
    empty = pa.table({"prompt": pa.array([], pa.string()), "completion": pa.array([], pa.string())})
    pq.write_table(empty, tmp_path / "empty.parquet")
    with pytest.raises(ValueError, match="none of 0 rows"):
        sft_trainer.train(make_job(), tmp_path / "empty.parquet")


def test_another_seed_gives_other_weights(make_job: MakeJob, sft_rows: Path) -> None:
    job = make_job("one", epochs=1)
    other = dataclasses.replace(make_job("other", epochs=1), seed=6)
    sft_trainer.train(job, sft_rows)
    sft_trainer.train(other, sft_rows)
    assert not torch.equal(
        weights(job)["model.embed_tokens.weight"], weights(other)["model.embed_tokens.weight"]
    )


def test_bfloat16_training_saves_bfloat16_and_tied_weights_once(
    make_job: MakeJob, sft_rows: Path
) -> None:
    job = dataclasses.replace(make_job(epochs=0.2), dtype="bfloat16")
    sft_trainer.train(job, sft_rows)
    assert {tensor.dtype for tensor in weights(job).values()} == {torch.bfloat16}
    assert "lm_head.weight" not in weights(job)
    assert AutoModelForCausalLM.from_pretrained(job.out).dtype == torch.bfloat16


def test_the_process_is_left_as_it_was(make_job: MakeJob, sft_rows: Path) -> None:
    before = dict(os.environ), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    sft_trainer.train(make_job(epochs=0.2), sft_rows)
    after = dict(os.environ), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    assert after == before


def test_a_fresh_process_ends_with_the_same_bits(
    make_job: MakeJob, sft_rows: Path, tmp_path: Path
) -> None:
    here, there = make_job("here", epochs=1), make_job("there", epochs=1)
    sft_trainer.train(make_job("other", epochs=0.2, lr=1.0), sft_rows)
    sft_trainer.train(here, sft_rows)
    (tmp_path / "job.pickle").write_bytes(pickle.dumps(there))
    subprocess.run(
        [sys.executable, str(WORKER), str(tmp_path / "job.pickle"), str(sft_rows)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "RANK": "0", "LOCAL_RANK": "0"},
        check=True,
    )
    assert_same(here, there)


def test_trl_finds_the_experts_of_some_families_alone() -> None:
    """Where it does not, its balancing loss would raise at the first step."""
    assert sft_trainer.balances_experts(MixtralConfig())
    assert sft_trainer.balances_experts(Qwen2MoeConfig())
    assert not sft_trainer.balances_experts(GraniteMoeConfig())
    assert not sft_trainer.balances_experts(PhimoeConfig())
