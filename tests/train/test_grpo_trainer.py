"""Our GRPO path against plain TRL on the same fixed rollouts, and against a closed form."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM
from trl import GRPOConfig, GRPOTrainer

from pipeline.generate.client import Slice, Weights
from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.train import arguments
from pipeline.train.arguments import ADAM_BETAS, load_tokenizer
from pipeline.train.grpo_loss import DEFAULT_CLIP
from pipeline.train.grpo_trainer import train, without_dropout
from pipeline.train.job import DONE, METRICS_FILE, STOP_FILE, STOPPED, TrainJob, read_metrics
from tests.tiny_families import write_family
from tests.train.pushed import joined

PROMPTS, SAMPLES = 4, 4

TRL_OBJECTIVE: dict[str, dict[str, Any]] = {
    "grpo": {"loss_type": "grpo", "scale_rewards": "group"},
    "dapo": {"loss_type": "dapo", "scale_rewards": "group"},
    "dr_grpo": {"loss_type": "dr_grpo", "scale_rewards": "none"},
    "gspo": {
        "loss_type": "grpo",
        "scale_rewards": "group",
        "importance_sampling_level": "sequence",
    },
    "cispo": {"loss_type": "cispo", "scale_rewards": "batch"},
}


class FixedRollouts:
    """A rollout client whose completions are a function of the step; keeps what was pushed."""

    def __init__(self, model: Path) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        self.pushed: dict[int, Mapping[str, torch.Tensor]] = {}
        self.asked: list[int] = []

    def push_weights(self, weights: Weights, *, version: int, rank: int) -> None:
        self.pushed[version] = joined(weights)
        self.model.load_state_dict(self.pushed[version])

    def slice(self, step: int, *, rank: int, ranks: int) -> Slice:
        self.asked.append(step)
        prompts, completions, rewards = fixed(step)
        share = len(prompts) // ranks
        mine = slice(rank * share, (rank + 1) * share)
        return Slice(
            prompt_tokens=prompts[mine],
            tokens=completions[mine],
            logprobs=[
                self._logprobs(p, c) for p, c in zip(prompts[mine], completions[mine], strict=True)
            ],
            rewards=rewards[mine],
            metrics={"reward/answer": 0.5},
        )

    @torch.no_grad()
    def _logprobs(self, prompt: Sequence[int], completion: Sequence[int]) -> list[float]:
        ids = torch.tensor([[*prompt, *completion]])
        logprobs = self.model(ids).logits.log_softmax(-1)[0, len(prompt) - 1 : -1]
        return logprobs.gather(1, ids[0, len(prompt) :, None])[:, 0].tolist()


def fixed(step: int) -> tuple[list[list[int]], list[list[int]], list[float]]:
    """Prompts and completions of uneven length; rewards with variance in every group."""
    generator = torch.Generator().manual_seed(step)

    def ids(size: int) -> list[int]:
        return torch.randint(6, 90, (size,), generator=generator).tolist()

    prompts, completions, rewards = [], [], []
    for group in range(PROMPTS):
        prompt = ids(5 + group)
        for sample in range(SAMPLES):
            prompts.append(prompt)
            completions.append([*ids(3 + (sample * 5 + group) % 7), 1])
            rewards.append(float((sample + group) % 3) / 2)
    return prompts, completions, rewards


def stage(**keywords: Any) -> GrpoStage:
    given = {
        "lr": 1e-3,
        "steps": 4,
        "prompts_per_step": PROMPTS,
        "samples_per_prompt": SAMPLES,
        "micro_batch_rows": 8,
        "max_tokens": 16,
        "save_steps": 2,
        "kl": 0.05,
        "reference_every": None,
    }
    return GrpoStage(kind="grpo", prompts="x", rewards=["answer"], **given | keywords)


def plain_losses(job: TrainJob) -> list[dict[str, float]]:
    """The same objective by TRL alone: its own loop, completions put where it would generate."""
    step = -1

    def reward(completions: Sequence[str], **_: Any) -> list[float]:
        return fixed(step)[2]

    class Plain(GRPOTrainer):
        def _tokenize_prompts(self, prompts: Any) -> Any:
            nonlocal step
            step += 1
            return fixed(step)[0], None, {}

        def _generate_single_turn(self, *_: Any, **__: Any) -> Any:
            return fixed(step)[1], None

    spec = job.spec
    assert isinstance(spec, GrpoStage)
    low, high = DEFAULT_CLIP[spec.variant]
    trainer = Plain(
        model=str(job.model),
        reward_funcs=reward,
        args=GRPOConfig(
            output_dir=str(job.work / "plain"),
            max_steps=spec.steps,
            learning_rate=spec.lr,
            lr_scheduler_type="constant",
            warmup_steps=0,
            adam_beta2=ADAM_BETAS[1],
            per_device_train_batch_size=spec.micro_batch_rows,
            gradient_accumulation_steps=2,
            steps_per_generation=2,
            num_generations=SAMPLES,
            max_completion_length=spec.max_tokens,
            beta=spec.kl,
            use_bias_correction_kl=False,
            epsilon=low,
            epsilon_high=high,
            shuffle_dataset=False,
            logging_steps=1,
            report_to="none",
            save_strategy="no",
            use_cpu=True,
            bf16=False,
            disable_tqdm=True,
            model_init_kwargs={"dtype": torch.float32},
            **TRL_OBJECTIVE[spec.variant],
        ),
        train_dataset=Dataset.from_dict({"prompt": ["?"] * PROMPTS * spec.steps}),
        processing_class=load_tokenizer(job.model),
    )
    trainer.train()
    return [row for row in trainer.state.log_history if "loss" in row]


@pytest.fixture
def grpo_job(make_job: Callable[..., TrainJob]) -> Callable[..., TrainJob]:
    def build(name: str = "job", **keywords: Any) -> TrainJob:
        return make_job(name, spec=stage(**keywords))

    return build


@pytest.mark.parametrize("variant", ["grpo", "dapo", "dr_grpo", "gspo", "cispo"])
def test_losses_equal_plain_trl(
    grpo_job: Callable[..., TrainJob], tiny_model: Path, variant: str
) -> None:
    job = grpo_job(variant=variant)
    train(job, rollouts=FixedRollouts(tiny_model))
    ours = read_metrics(job.work / METRICS_FILE)
    plain = plain_losses(job)
    assert len(ours) == len(plain) == 4
    for mine, theirs in zip(ours, plain, strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], abs=1e-6)
        assert mine["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-4)
        assert mine["logprob_gap"] < 1e-4


def test_first_gradient_is_the_policy_gradient(
    grpo_job: Callable[..., TrainJob], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ratio 1 and no KL the gradient is that of -mean(A * mean(log p)) over completions."""
    monkeypatch.setattr(arguments, "MAX_GRAD_NORM", 1e9)  # no clipping
    job = grpo_job(steps=1, kl=0.0)
    train(job, rollouts=FixedRollouts(tiny_model))
    (row,) = read_metrics(job.work / METRICS_FILE)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    prompts, completions, rewards = fixed(0)
    grouped = torch.tensor(rewards).view(PROMPTS, SAMPLES)
    advantages = (grouped - grouped.mean(1, keepdim=True)) / (grouped.std(1, keepdim=True) + 1e-4)
    assert advantages.sum(1).abs().max() < 1e-5
    loss = torch.tensor(0.0)
    for prompt, completion, advantage in zip(
        prompts, completions, advantages.flatten(), strict=True
    ):
        ids = torch.tensor([[*prompt, *completion]])
        logprobs = model(ids).logits.log_softmax(-1)[0, len(prompt) - 1 : -1]
        taken = logprobs.gather(1, ids[0, len(prompt) :, None])
        loss = loss - advantage * taken.mean() / len(completions)
    loss.backward()
    norm = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm()
    assert row["grad_norm"] == pytest.approx(norm.item(), rel=1e-4)


def test_resume_ends_with_the_same_weights(
    grpo_job: Callable[..., TrainJob], tiny_model: Path
) -> None:
    """Stopped at a checkpoint and gone on: the same bits, reference replacement included."""
    options = {"steps": 6, "reference_every": 3, "updates_per_step": 2, "micro_batch_rows": 8}
    whole = grpo_job("whole", **options)
    train(whole, rollouts=FixedRollouts(tiny_model))
    parts = grpo_job("parts", **options)

    class StopsAtThree(FixedRollouts):
        def slice(self, step: int, *, rank: int, ranks: int) -> Slice:
            if step == 3:
                (parts.work / STOP_FILE).touch()
            return super().slice(step, rank=rank, ranks=ranks)

    first = train(parts, rollouts=StopsAtThree(tiny_model))
    assert first["status"] == STOPPED
    assert first["steps"] == 4
    (parts.work / STOP_FILE).unlink()
    rest = FixedRollouts(tiny_model)
    assert train(parts, rollouts=rest)["status"] == DONE
    assert rest.asked == [4, 5]
    same = [(job.out / "model.safetensors").read_bytes() for job in (whole, parts)]
    assert same[0] == same[1]
    losses = [
        [row["loss"] for row in read_metrics(job.work / METRICS_FILE)] for job in (whole, parts)
    ]
    assert losses[0] == losses[1]


def test_the_tied_head_travels_with_its_embedding(
    grpo_job: Callable[..., TrainJob], tiny_model: Path
) -> None:
    rollouts = FixedRollouts(tiny_model)
    train(grpo_job(steps=1), rollouts=rollouts)
    weights = rollouts.pushed[0]
    assert torch.equal(weights["lm_head.weight"], weights["model.embed_tokens.weight"])


def test_unscored_completions_do_not_move_the_policy(
    grpo_job: Callable[..., TrainJob], tiny_model: Path
) -> None:
    class Unscored(FixedRollouts):
        def slice(self, step: int, *, rank: int, ranks: int) -> Slice:
            part = super().slice(step, rank=rank, ranks=ranks)
            return replace(part, rewards=[None] * len(part.rewards))

    job = grpo_job(steps=1, kl=0.0)
    train(job, rollouts=Unscored(tiny_model))
    (row,) = read_metrics(job.work / METRICS_FILE)
    assert row["grad_norm"] == 0.0


class Ahead(FixedRollouts):
    """A client that makes a step with the weights that were there when it was begun, and refuses
    to make one again with others: what was made is in `journal`."""

    def __init__(self, model: Path, journal: dict[int, Slice]) -> None:
        super().__init__(model)
        self.journal = journal
        self.version = -1
        self.begun: list[int] = []

    def push_weights(self, weights: Weights, *, version: int, rank: int) -> None:
        super().push_weights(weights, version=version, rank=rank)
        self.version = version

    def begin(self, step: int) -> None:
        self.begun.append(step)
        self.make(step)

    def make(self, step: int) -> Slice:
        if step not in self.journal:
            version = max(step - 1, 0)
            assert self.version == version
            part = super().slice(step, rank=0, ranks=1)
            self.journal[step] = replace(part, versions=[version] * len(part.tokens))
        return self.journal[step]

    def slice(self, step: int, *, rank: int, ranks: int) -> Slice:
        return self.make(step)


def test_ahead_trains_on_tokens_of_the_step_before(
    grpo_job: Callable[..., TrainJob], tiny_model: Path
) -> None:
    """The gap of fresh tokens is checked and that of stale ones is not; every step after the first
    is one behind, and the importance weights are those of the weights before."""
    job = grpo_job(ahead=1, steps=4, kl=0.0, lr=3e-3)
    rollouts = Ahead(tiny_model, {})
    train(job, rollouts=rollouts)
    rows = read_metrics(job.work / METRICS_FILE)
    assert rollouts.begun == [1, 2, 3]
    assert rollouts.pushed.keys() == {0, 1, 2}
    assert ["logprob_gap" in row for row in rows] == [True, False, False, False]
    assert [row.get("staleness", 0.0) for row in rows] == [0.0, 1.0, 1.0, 1.0]
    for row in rows[1:]:
        assert row["stale_kl"] > 1e-6
        assert 0.0 <= row["capped_share"] < 1.0


@pytest.mark.slow
def test_ahead_resumes_to_the_same_weights(
    grpo_job: Callable[..., TrainJob], tiny_model: Path
) -> None:
    """A trainer that dies as a step is begun, which was journaled or not: the same bits."""
    options = {"ahead": 1, "steps": 5, "save_steps": 2, "reference_every": 3, "lr": 3e-3}
    whole = grpo_job("whole", **options)
    train(whole, rollouts=Ahead(tiny_model, {}))

    class Dies(Ahead):
        death, journals = 0, False

        def begin(self, step: int) -> None:
            if step != self.death or self.journals:
                super().begin(step)
            if step == self.death:
                raise RuntimeError("killed")

    for death, journals, checkpoint in ((2, True, 0), (3, False, 2), (4, True, 2)):
        parts = grpo_job(f"parts-{death}", **options)
        journal: dict[int, Slice] = {}
        dying = Dies(tiny_model, journal)
        dying.death, dying.journals = death, journals
        with pytest.raises(RuntimeError, match="killed"):
            train(parts, rollouts=dying)
        rest = Ahead(tiny_model, journal)
        assert train(parts, rollouts=rest)["status"] == DONE
        assert min(rest.pushed) == checkpoint
        same = [(job.out / "model.safetensors").read_bytes() for job in (whole, parts)]
        assert same[0] == same[1]


def test_a_checkpoint_waits_for_the_step_that_it_goes_on_with(
    grpo_job: Callable[..., TrainJob], tiny_model: Path
) -> None:
    """Rollouts that never come leave the checkpoint incomplete: it would need older weights."""
    job = grpo_job(ahead=1, steps=4, save_steps=2)

    class Slow(Ahead):
        def begin(self, step: int) -> None:
            if step < 2:
                super().begin(step)

        def slice(self, step: int, *, rank: int, ranks: int) -> Slice:
            if step == 2:
                assert (job.work / "checkpoints" / "checkpoint-2").is_dir()
                raise RuntimeError("killed while it is made")
            return super().slice(step, rank=rank, ranks=ranks)

    with pytest.raises(RuntimeError, match="killed while"):
        train(job, rollouts=Slow(tiny_model, {}))
    assert not (job.work / "checkpoints" / "checkpoint-2" / "complete").exists()


@pytest.mark.parametrize("family", ["opt", "gpt2"])
def test_no_dropout_is_left(family: str, tmp_path: Path) -> None:
    """A layer of its own, and a function with a rate."""
    model = write_family(family, tmp_path)
    ids = torch.arange(20, 40)[None]
    whole = model.eval()(ids).logits
    model.train()
    assert not torch.equal(model(ids).logits, whole)
    without_dropout(model)
    assert torch.equal(model(ids).logits, whole)
