"""The model under the trainers that people use: TRL, peft, DeepSpeed."""

import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from pipeline.models.scratch_model import character_tokenizer
from pipeline.recipe.sft_stage import SftStage
from pipeline.recurrent.model import RecurrentForCausalLM
from pipeline.recurrent.register import register
from pipeline.train import sft_trainer
from pipeline.train.job import METRICS_FILE, TrainJob, read_metrics

MakeModel = Callable[..., RecurrentForCausalLM]
ROOT = Path(__file__).parents[2]
TOKENIZER = character_tokenizer()
QUIET: dict[str, Any] = {
    "use_cpu": True,
    "report_to": "none",
    "logging_steps": 1,
    "save_strategy": "no",
    "disable_tqdm": True,
    "lr_scheduler_type": "constant",
    "bf16": False,
}


@pytest.fixture
def model(make_model: MakeModel) -> RecurrentForCausalLM:
    sizes = {"vocab_size": len(TOKENIZER), "pad_token_id": TOKENIZER.pad_token_id}
    return make_model(
        **sizes, initializer_range=0.08, eos_token_id=TOKENIZER.eos_token_id, num_iterations=3
    )


def weights(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def token_rows(count: int) -> Dataset:
    texts = [f"{7**k % 1000}+{k}=" for k in range(count)]
    return Dataset.from_dict({"input_ids": [TOKENIZER(text)["input_ids"] for text in texts]})


def trl_sft(model: Any, out: Path, **changes: Any) -> SFTTrainer:
    keywords: dict[str, Any] = {
        "learning_rate": 1e-2,
        "max_steps": 3,
        "per_device_train_batch_size": 8,
        "dataset_kwargs": {"skip_prepare_dataset": True},
    }
    peft_config = changes.pop("peft_config", None)
    return SFTTrainer(
        model=model,
        args=SFTConfig(output_dir=str(out), **QUIET | keywords | changes),
        train_dataset=token_rows(24),
        processing_class=TOKENIZER,
        peft_config=peft_config,
    )


def test_packed_training_is_training_apart(model: RecurrentForCausalLM, tmp_path: Path) -> None:
    """One row of 24 texts, told apart by their positions, has the loss of 24 rows."""
    rows: dict[str, Any] = {"max_steps": 1, "learning_rate": 0.0}
    apart = trl_sft(model, tmp_path, per_device_train_batch_size=24, **rows)
    packed = trl_sft(
        model, tmp_path, per_device_train_batch_size=24, padding_free=True, max_length=None, **rows
    )
    for trainer in (apart, packed):
        trainer.train()
    first = [trainer.state.log_history[0]["loss"] for trainer in (apart, packed)]
    assert first[0] == pytest.approx(first[1], abs=1e-5)


def test_adapters_train_alone_and_merge(model: RecurrentForCausalLM, tmp_path: Path) -> None:
    register()
    before = weights(model)
    adapters = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    trainer = trl_sft(model, tmp_path / "out", max_steps=2, peft_config=adapters)
    trainer.train()
    trained: Any = trainer.model
    assert isinstance(trained, PeftModel)
    changed = 0
    for name, value in trained.named_parameters():
        if "lora_" in name:
            changed += "lora_B" in name and bool(value.any())
        else:
            plain = name.removeprefix("base_model.model.").replace(".base_layer", "")
            assert torch.equal(value, before[plain]), name
    assert changed == 2 * model.config.num_hidden_layers
    tokens = torch.tensor([TOKENIZER("7+1=8")["input_ids"]])
    trained.eval()
    with torch.no_grad():
        expected = trained(tokens, depths=torch.tensor([4])).logits
        merged = trained.merge_and_unload()
        merged.save_pretrained(tmp_path / "merged")
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
        assert type(loaded) is RecurrentForCausalLM
        got = loaded(tokens, depths=torch.tensor([4])).logits
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def rewarded(completions: Sequence[Any], **_: Any) -> list[float]:
    return [float(len(set(text)) + len(text) / 10) for text in completions]


def test_group_relative_training_follows_our_policy_gradient(
    model: RecurrentForCausalLM, tmp_path: Path
) -> None:
    """One step of plain gradient descent moves the weights by the gradient computed here."""
    model.save_pretrained(tmp_path / "model")
    before = weights(model)
    arguments: dict[str, Any] = {
        "learning_rate": 1.0,
        "optim": "sgd",
        "max_grad_norm": 0.0,
        "max_steps": 1,
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 6,
        "beta": 0.0,
        "loss_type": "dapo",
        "scale_rewards": "none",
        "gradient_checkpointing": False,
    }
    seen: list[dict[str, Any]] = []
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=[rewarded],
        args=GRPOConfig(output_dir=str(tmp_path / "out"), **QUIET | arguments),
        train_dataset=Dataset.from_dict({"prompt": ["1+2=", "3+14="] * 4}),
        processing_class=TOKENIZER,
    )
    inner = trainer._generate_and_score_completions

    def kept(inputs: Any) -> Any:
        seen.append(inner(inputs))
        return seen[-1]

    trainer._generate_and_score_completions = kept
    trainer.train()
    (batch,) = seen
    after = weights(model)
    model.load_state_dict(before, strict=False)
    tokens = torch.cat((batch["prompt_ids"], batch["completion_ids"]), dim=1)
    mask = torch.cat((batch["prompt_mask"], batch["completion_mask"]), dim=1)
    model.train()
    logits = model(tokens, attention_mask=mask, use_cache=False).logits[:, :-1]
    logprobs = logits.log_softmax(-1).gather(2, tokens[:, 1:, None])[..., 0]
    logprobs = logprobs[:, -batch["completion_ids"].shape[1] :]
    used = batch["completion_mask"]
    loss = -(batch["advantages"].view(-1, 1) * logprobs * used).sum() / used.sum()
    assert bool(batch["advantages"].any())
    for name, value in model.named_parameters():
        (gradient,) = torch.autograd.grad(loss, value, retain_graph=True)
        moved = before[name] - after[name]
        torch.testing.assert_close(moved, gradient, atol=2e-6, rtol=1e-3, msg=lambda m: name + m)  # noqa: B023


def test_group_relative_training_takes_several_steps(
    model: RecurrentForCausalLM, tmp_path: Path
) -> None:
    before = weights(model)
    arguments: dict[str, Any] = {
        "max_steps": 3,
        "per_device_train_batch_size": 4,
        "num_generations": 4,
        "max_completion_length": 5,
        "learning_rate": 1e-3,
    }
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=[rewarded],
        args=GRPOConfig(output_dir=str(tmp_path), **QUIET | arguments),
        train_dataset=Dataset.from_dict({"prompt": ["1+2=", "3+14="] * 4}),
        processing_class=TOKENIZER,
    )
    trainer.train()
    rows = [row for row in trainer.state.log_history if "grad_norm" in row]
    assert len(rows) == 3
    assert all(row["grad_norm"] > 0 for row in rows)
    assert any(not torch.equal(value, before[name]) for name, value in weights(model).items())


def job(model: Path, place: Path, **changes: Any) -> TrainJob:
    spec = SftStage(
        kind="sft", rows="x", lr=1e-2, batch_rows=8, micro_batch_rows=2, save_steps=4, epochs=1
    )
    keywords: dict[str, Any] = {"ranks": 1, "sharding": "none"} | changes
    return TrainJob(
        spec=spec,
        model=model,
        out=place / "out",
        work=place / "work",
        seed=5,
        device="cpu",
        threads=1,
        **keywords,
    )


WORKER = """
import pickle, sys
from pathlib import Path
from pipeline.train import sft_trainer
sft_trainer.train(pickle.loads(Path(sys.argv[1]).read_bytes()), Path(sys.argv[2]))
"""


def run_ranks(job: TrainJob, rows: Path, pickled: Path) -> None:
    """Run `job.ranks` processes of one training; the output of one that failed is shown."""
    pickled.write_bytes(pickle.dumps(job))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    shared = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    shared |= {"WORLD_SIZE": str(job.ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(pickled), str(rows)],
            env=os.environ
            | shared
            | {"RANK": str(rank), "LOCAL_RANK": str(rank), "DS_ACCELERATOR": "cpu"},
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


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["none", "zero2", "zero3", "fsdp2"])
def test_two_ranks_reach_the_loss_of_one(
    model: RecurrentForCausalLM, tmp_path: Path, sharding: Any
) -> None:
    register()
    model.config.backprop_iterations = 2
    model.save_pretrained(tmp_path / "model")
    TOKENIZER.save_pretrained(tmp_path / "model")
    rows = tmp_path / "rows.parquet"
    texts = [str(7**k % 1000) for k in range(40)]
    pq.write_table(pa.table({"prompt": texts, "completion": texts[::-1]}), rows)
    one = job(tmp_path / "model", tmp_path / "one")
    two = job(tmp_path / "model", tmp_path / "two", ranks=2, sharding=sharding)
    sft_trainer.train(one, rows)
    run_ranks(two, rows, tmp_path / "job.pickle")
    ours, theirs = (
        [row["loss"] for row in read_metrics(each.work / METRICS_FILE)] for each in (one, two)
    )
    assert len(ours) == 5
    assert theirs == pytest.approx(ours, abs=1e-4)
    left, right = (load_file(each.out / "model.safetensors") for each in (one, two))
    assert left.keys() == right.keys()
    assert all(torch.allclose(left[name], right[name], atol=1e-3) for name in left)
