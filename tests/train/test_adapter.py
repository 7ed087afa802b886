"""LoRA: what peft does alone, exact resume, and whole weights for all who come after."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from pipeline.recipe.distill_stage import DistillStage
from pipeline.recipe.lora import Lora
from pipeline.recipe.model_source import ModelSource
from pipeline.recipe.reward_model_stage import RewardModelStage
from pipeline.recurrent.convert.folder import convert_dense
from pipeline.train import distill_trainer, reward_trainer, sft_trainer
from pipeline.train.adapter import AdapterError, adapter_folder, transformers_model, with_adapters
from pipeline.train.grpo_trainer import train
from pipeline.train.job import DONE, METRICS_FILE, STOP_FILE, STOPPED, TrainJob, read_metrics
from pipeline.train.whole_weights import full_weights
from tests.train.test_grpo_trainer import FixedRollouts, Slice, stage
from tests.train.test_sft_trainer import Crash, assert_same

MakeJob = Callable[..., TrainJob]
LORA = Lora(rank=4, alpha=8)
PROMPT = torch.tensor([[5, 9, 14, 20]])


def loaded(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def losses(job: TrainJob) -> list[float]:
    return [row["loss"] for row in read_metrics(job.work / METRICS_FILE)]


def shaken(model: Any) -> Any:
    """Second factors that are not zero."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05, generator=torch.Generator().manual_seed(1))
    return model


def test_loss_and_gradients_equal_pefts_own(make_job: MakeJob, tiny_model: Path) -> None:
    job = make_job(lora=LORA)
    torch.manual_seed(job.seed)
    plain = get_peft_model(
        loaded(tiny_model),
        LoraConfig(task_type=TaskType.CAUSAL_LM, r=4, lora_alpha=8, target_modules="all-linear"),
    )
    ours, plain = shaken(with_adapters(loaded(tiny_model), job)), shaken(plain)
    ids = torch.randint(6, 90, (3, 17), generator=torch.Generator().manual_seed(2))
    results = [model(input_ids=ids, labels=ids).loss for model in (ours, plain)]
    assert results[0].item() == results[1].item()
    for result in results:
        result.backward()
    mine, theirs = (
        {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
        for model in (ours, plain)
    )
    assert mine.keys() == theirs.keys()
    assert len(mine) == 2 * 7 * 2  # two factors, seven layers, two blocks
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj"], "down_proj"])
def test_whole_weights_answer_as_the_adapters_do(
    make_job: MakeJob, tiny_model: Path, targets: Any
) -> None:
    job = make_job(lora=Lora(rank=4, alpha=8, targets=targets))
    model = shaken(with_adapters(loaded(tiny_model), job))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    whole = loaded(tiny_model)
    for _ in range(3):
        weights = full_weights(model)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    whole.load_state_dict(weights, strict=False)
    assert not torch.allclose(whole(PROMPT).logits, loaded(tiny_model)(PROMPT).logits, atol=1e-3)
    tokens = [m.generate(PROMPT, max_new_tokens=40, do_sample=False) for m in (model, whole)]
    assert torch.equal(*tokens)
    assert torch.allclose(model(PROMPT).logits, whole(PROMPT).logits, atol=1e-5)
    model.merge_and_unload()
    merged = dict(transformers_model(model).named_parameters())
    assert all(torch.equal(merged[name], weights[name]) for name in weights)


def test_training_leaves_whole_weights_and_the_adapter_beside_them(
    make_job: MakeJob, sft_rows: Path, tiny_model: Path
) -> None:
    job = make_job(lora=LORA, epochs=6)
    info = sft_trainer.train(job, sft_rows)
    assert info["status"] == DONE
    assert info["loss"] < losses(job)[0] / 1.5
    names = {name for name, _ in loaded(tiny_model).named_parameters()}
    assert set(load_file(job.out / "model.safetensors")) == names
    unmerged = PeftModel.from_pretrained(loaded(tiny_model), str(adapter_folder(job)))
    whole = loaded(job.out)
    assert torch.allclose(unmerged(PROMPT).logits, whole(PROMPT).logits, atol=1e-5)
    first, second = (
        m.generate(PROMPT, max_new_tokens=40, do_sample=False) for m in (unmerged, whole)
    )
    assert torch.equal(first, second)
    settings = json.loads((adapter_folder(job) / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(tiny_model)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_crash_and_resume_end_with_the_same_bits(
    make_job: MakeJob, sft_rows: Path, checkpointing: bool
) -> None:
    options = {"lora": LORA, "epochs": 2, "gradient_checkpointing": checkpointing}
    whole, broken = make_job("whole", **options), make_job("broken", **options)
    sft_trainer.train(whole, sft_rows)
    with pytest.raises(RuntimeError, match="killed"):
        sft_trainer.train(broken, sft_rows, callbacks=[Crash(6)])
    sft_trainer.train(broken, sft_rows)
    assert_same(whole, broken)
    assert losses(whole) == losses(broken)
    assert losses(whole)[-1] < losses(whole)[0]
    ours, theirs = (
        load_file(adapter_folder(j) / "adapter_model.safetensors") for j in (whole, broken)
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_rows_distil_into_adapters(make_job: MakeJob, sft_rows: Path, tiny_model: Path) -> None:
    spec = DistillStage(
        kind="distill",
        teacher="base",
        student=ModelSource(path=str(tiny_model)),
        rows="x",
        lr=1e-2,
        batch_rows=8,
        lora=LORA,
    )
    job = make_job(spec=spec)
    assert distill_trainer.train(job, sft_rows)["loss"] < losses(job)[0]
    assert adapter_folder(job).is_dir()


def test_a_student_learns_on_its_own_text(
    make_job: MakeJob, sft_rows: Path, tiny_model: Path
) -> None:
    spec = DistillStage(
        kind="distill",
        teacher="base",
        student=ModelSource(path=str(tiny_model)),
        rows="x",
        mode="on_policy",
        steps=2,
        batch_rows=4,
        max_tokens=48,
        lora=LORA,
    )
    job = make_job(spec=spec)
    info = distill_trainer.train_on_policy(job, sft_rows, tiny_model)
    assert (info["status"], info["steps"]) == (DONE, 2)
    assert losses(job)[0] == pytest.approx(0.0, abs=1e-5)  # teacher and student begin alike


def test_a_reward_model_keeps_its_score_head(
    make_job: MakeJob, tmp_path: Path, tiny_model: Path
) -> None:
    rows = {
        "prompt": [f"<user>{n}<assistant>" for n in range(20)],
        "chosen": [f"{n}" for n in range(20)],
        "rejected": [f"{n}!?" for n in range(20)],
    }
    pq.write_table(pa.table(rows), tmp_path / "pairs.parquet")
    spec = RewardModelStage(
        kind="reward_model", pairs="x", lr=1e-2, epochs=4, batch_rows=8, lora=LORA
    )
    job = make_job(spec=spec)
    info = reward_trainer.train(job, tmp_path / "pairs.parquet")
    assert info["accuracy"] == 1.0
    plain = AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=1)
    unmerged = PeftModel.from_pretrained(plain, str(adapter_folder(job)))
    whole = AutoModelForSequenceClassification.from_pretrained(job.out)
    for model in (unmerged, whole):
        model.config.pad_token_id = 0
    assert torch.allclose(unmerged(PROMPT).logits, whole(PROMPT).logits, atol=1e-5)


@pytest.mark.parametrize("reference_every", [None, 3])
def test_grpo_resumes_and_measures_kl_from_the_base(
    make_job: MakeJob, tiny_model: Path, reference_every: int | None
) -> None:
    """The reference is the policy without adapters, or weights of its own that are replaced."""
    options = {"steps": 6, "updates_per_step": 2, "lora": LORA, "lr": 1e-2}
    jobs = [
        make_job(name, spec=stage(reference_every=reference_every, **options))
        for name in ("whole", "parts")
    ]
    whole, parts = jobs
    train(whole, rollouts=FixedRollouts(tiny_model))
    rows = read_metrics(whole.work / METRICS_FILE)
    assert rows[0]["kl"] == pytest.approx(0.0, abs=1e-9)
    assert rows[5]["kl"] > 1e-4
    assert rows[6]["kl"] < rows[5]["kl"] / 10 if reference_every else rows[6]["kl"] > 1e-4
    assert max(row["logprob_gap"] for row in rows) < 1e-4

    class StopsAtThree(FixedRollouts):
        def slice(self, step: int, *, rank: int, ranks: int) -> Slice:
            if step == 3:
                (parts.work / STOP_FILE).touch()
            return super().slice(step, rank=rank, ranks=ranks)

    assert train(parts, rollouts=StopsAtThree(tiny_model))["status"] == STOPPED
    (parts.work / STOP_FILE).unlink()
    train(parts, rollouts=FixedRollouts(tiny_model))
    assert_same(whole, parts)
    assert losses(whole) == losses(parts)


def test_adapters_measure_the_kl_that_two_models_do(make_job: MakeJob, tiny_model: Path) -> None:
    """With a reference that is replaced after the last look at it, both ways count the same."""
    rows = []
    for name, every in (("off", None), ("copy", 3)):
        job = make_job(name, spec=stage(reference_every=every, lora=LORA, lr=1e-2))
        train(job, rollouts=FixedRollouts(tiny_model))
        rows.append(read_metrics(job.work / METRICS_FILE)[:3])
    for off, copy in zip(*rows, strict=True):
        assert off["loss"] == pytest.approx(copy["loss"], abs=1e-7)
        assert off["kl"] == pytest.approx(copy["kl"], abs=1e-7)


def test_recurrent_models_learn_by_adapters_and_keep_what_decides_depths(
    make_job: MakeJob, sft_rows: Path, recurrent_model: Path
) -> None:
    job = dataclasses.replace(make_job(lora=LORA, epochs=4), model=recurrent_model)
    sft_trainer.train(job, sft_rows)
    assert losses(job)[-1] < losses(job)[0]
    before, after = (load_file(f / "model.safetensors") for f in (recurrent_model, job.out))
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert not any("halting" in name or "norm" in name or "embed" in name for name in moved)
    assert any("adapter" in name for name in moved)


LATER = Lora(rank=4, alpha=8, targets="later-iterations")


@pytest.fixture
def copied(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny Llama, its second layer the core, of which two more iterations run copies."""
    convert_dense(
        tiny_model, tmp_path / "copied", split=(1, 1, 0), copy_core=True, max_iterations=3
    )
    return tmp_path / "copied"


def test_later_iterations_learn_and_one_stays_the_dense_model(
    make_job: MakeJob, sft_rows: Path, tiny_model: Path, copied: Path
) -> None:
    depths = {"random_depths": {"high": 3, "segment": 1}}
    job = dataclasses.replace(make_job(lora=LATER, epochs=6, **depths), model=copied)
    info = sft_trainer.train(job, sft_rows)
    assert info["loss"] < losses(job)[0]
    before, after = (load_file(f / "model.safetensors") for f in (copied, job.out))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    bridge = {"model.injection.adapter.weight", "model.injection.gate"}
    assert bridge < moved
    layers = {name for name in before if ".core.1." in name or ".core.2." in name}
    assert moved - bridge == {name for name in layers if "_proj" in name}
    trained, dense = loaded(job.out), loaded(tiny_model)
    assert torch.allclose(trained(PROMPT).logits, dense(PROMPT).logits, atol=1e-5)
    deep = trained(PROMPT, num_iterations=3).logits
    assert not torch.allclose(deep, dense(PROMPT).logits, atol=1e-2)


def test_later_iterations_need_layers_of_their_own(
    make_job: MakeJob, tiny_model: Path, recurrent_model: Path
) -> None:
    job = make_job(lora=LATER, random_depths={"high": 2})
    for model in (tiny_model, recurrent_model):
        with pytest.raises(AdapterError, match="copy_core: true"):
            with_adapters(loaded(model), job)


@pytest.mark.parametrize(
    ("target", "guess"),
    [
        ("q_porj", "q_proj"),
        ("all_linear", "all-linear"),
        ("lm_head", "output head"),
        ("embed_tokens", "o_proj"),
        ("query_key_value", "down_proj"),
    ],
)
def test_targets_that_are_no_linear_layers_are_named(
    make_job: MakeJob, tiny_model: Path, target: str, guess: str
) -> None:
    job = make_job(lora=Lora(targets=[target]))
    with pytest.raises(AdapterError, match=guess) as error:
        with_adapters(loaded(tiny_model), job)
    assert repr(target) in str(error.value)


SMALL = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": {"vocab_size": 100, "n_embd": 32, "n_layer": 2, "n_head": 2},  # transposed weights
    "gpt_neox": {**SMALL, "intermediate_size": 64},
    "qwen3": {**SMALL, "intermediate_size": 64, "num_key_value_heads": 1, "head_dim": 16},
    "gemma2": {**SMALL, "intermediate_size": 64, "num_key_value_heads": 1, "head_dim": 16},
    "phi3": {**SMALL, "intermediate_size": 64, "pad_token_id": 0},  # fused projections
    "mixtral": {**SMALL, "intermediate_size": 64, "num_local_experts": 4, "num_key_value_heads": 1},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_whole_weights_of_other_families_load_and_answer_alike(
    make_job: MakeJob, tmp_path: Path, family: str
) -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **FAMILIES[family])
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    job = make_job(lora=LORA)
    model = shaken(with_adapters(plain, job)).eval()
    transformers_model(model).save_pretrained(tmp_path / "m", state_dict=full_weights(model))
    whole = loaded(tmp_path / "m")
    assert torch.allclose(model(PROMPT).logits, whole(PROMPT).logits, atol=1e-5)
    with model.disable_adapter():
        assert not torch.allclose(model(PROMPT).logits, whole(PROMPT).logits, atol=1e-4)
    tokens = [m.generate(PROMPT, max_new_tokens=20, do_sample=False) for m in (model, whole)]
    assert torch.equal(*tokens)
