"""GRPO at recorded depths, against loops written by hand around `model(tokens, depths=...)`."""

import dataclasses
import os
import pickle
import random
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW
from transformers import AutoModelForCausalLM, TrainerCallback

from pipeline.generate.client import Slice, Weights
from pipeline.generate.schedule import derived_seed
from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.train.arguments import load_tokenizer, trainer_process
from pipeline.train.grpo_trainer import RolloutSource, make_trainer, train, training_depths
from pipeline.train.job import METRICS_FILE, TrainJob, read_metrics
from pipeline.train.logprob_gap import LogprobGapError, check_gap
from tests.train.pushed import joined

PROMPTS, SAMPLES, DEEPEST, OWN = 3, 4, 5, 4
TEMPERATURE = 0.8
LR, CLIP, KL, CAP = 2e-3, 10.0, 0.3, 2.0

Depths = Callable[[int, torch.Generator], list[int]]


def mixed(size: int, generator: torch.Generator) -> list[int]:
    return torch.randint(1, DEEPEST + 1, (size,), generator=generator).tolist()


def own(size: int, generator: torch.Generator) -> list[int]:
    return [OWN] * size


@dataclasses.dataclass
class Row:
    """A completion, and the depths at which its positions ran."""

    prompt: list[int]
    completion: list[int]
    depths: list[int]
    reward: float


def rows_of(step: int, depths: Depths) -> list[Row]:
    """Groups of prompts and completions of uneven length, with variance in every group."""
    generator = torch.Generator().manual_seed(step)

    def ids(size: int) -> list[int]:
        return torch.randint(6, 90, (size,), generator=generator).tolist()

    rows = []
    for group in range(PROMPTS):
        prompt = ids(4 + 2 * group)
        for sample in range(SAMPLES):
            completion = [*ids(2 + (sample * 5 + group) % 7), 1]
            ran = depths(len(prompt) + len(completion) - 1, generator)
            rows.append(Row(prompt, completion, ran, float((sample + group) % 3) / 2))
    return rows


def logprobs(model: Any, row: Row, depths: Sequence[int] | None) -> Tensor:
    """[_T] of a completion's tokens, from a pass over this row alone."""
    ids = torch.tensor([[*row.prompt, *row.completion[:-1]]])
    at = {} if depths is None else {"depths": torch.tensor([list(depths)])}
    logits = model(ids, use_cache=False, **at).logits[0, len(row.prompt) - 1 :] / TEMPERATURE
    return logits.log_softmax(-1).gather(1, torch.tensor(row.completion)[:, None])[:, 0]


class Recorded:
    """A rollout client that samples at given depths, and may tell them or not."""

    def __init__(
        self, model: Path, depths: Depths, *, with_depths: bool = True, off: float = 0.0
    ) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        self.depths, self.with_depths, self.off = depths, with_depths, off

    def push_weights(self, weights: Weights, *, version: int, rank: int) -> None:
        self.model.load_state_dict(joined(weights))

    def begin(self, step: int) -> None:
        """Nothing is made ahead."""

    @torch.no_grad()
    def slice(self, step: int, *, rank: int = 0, ranks: int = 1) -> Slice:
        rows = rows_of(step, self.depths)
        logps = [logprobs(self.model, row, row.depths).tolist() for row in rows]
        logps[3][0] += self.off
        return Slice(
            prompt_tokens=[row.prompt for row in rows],
            tokens=[row.completion for row in rows],
            logprobs=logps,
            rewards=[row.reward for row in rows],
            metrics={},
            depths=[row.depths for row in rows] if self.with_depths else None,
        )


@pytest.fixture
def grpo_job(make_job: Callable[..., TrainJob], recurrent_model: Path) -> Callable[..., TrainJob]:
    def build(name: str = "job", **keywords: Any) -> TrainJob:
        options: dict[str, Any] = {
            "lr": LR,
            "steps": 1,
            "prompts_per_step": PROMPTS,
            "samples_per_prompt": SAMPLES,
            "micro_batch_rows": 2,
            "max_tokens": 16,
            "temperature": TEMPERATURE,
            "kl": KL,
            "reference_every": None,
        }
        spec = GrpoStage(kind="grpo", prompts="x", rewards=["answer"], **options | keywords)
        return dataclasses.replace(make_job(name, spec=spec), model=recurrent_model)

    return build


def token_by_token(model: Any, row: Row) -> Tensor:
    """The same, every token from a pass of its own over the tokens before it."""
    pieces = []
    sequence = [*row.prompt, *row.completion]
    for index, token in enumerate(row.completion):
        end = len(row.prompt) + index
        tokens, depths = torch.tensor([sequence[:end]]), torch.tensor([row.depths[:end]])
        logits = model(tokens, depths=depths, use_cache=False).logits[0, -1] / TEMPERATURE
        pieces.append(logits.log_softmax(-1)[token])
    return torch.stack(pieces)


def advantages(rows: Sequence[Row]) -> Tensor:
    grouped = torch.tensor([row.reward for row in rows]).view(PROMPTS, SAMPLES)
    spread = grouped.std(1, keepdim=True) + 1e-4
    return ((grouped - grouped.mean(1, keepdim=True)) / spread).flatten()


def by_hand(folder: Path, *, steps: int, updates: int, seed: int) -> tuple[list[float], Any]:
    """The losses of every optimizer step, and the model: R1's objective, one row at a time."""
    model, reference = (
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32) for _ in range(2)
    )
    optimizer = AdamW(model.parameters(), lr=LR, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0)
    losses = []
    for step in range(steps):
        rows = rows_of(step, mixed)
        gain = advantages(rows)
        with torch.no_grad():
            before = [logprobs(model, row, row.depths) for row in rows]
            held = [logprobs(reference, row, row.depths) for row in rows]
        groups = [list(range(at, at + SAMPLES)) for at in range(0, len(rows), SAMPLES)]
        if updates > 1:
            random.Random(derived_seed(seed, "shuffle", step)).shuffle(groups)
        order = [row for group in groups for row in group]
        for chosen in torch.tensor(order).chunk(updates):
            parts = []
            for i in chosen.tolist():
                new = logprobs(model, rows[i], rows[i].depths)
                ratio = (new - before[i]).exp()
                clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
                apart = held[i] - new
                kl = apart.exp() - apart - 1
                parts.append((-torch.minimum(ratio * gain[i], clipped * gain[i]) + KL * kl).mean())
            loss = torch.stack(parts).mean()
            optimizer.zero_grad()
            loss.backward()
            clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
    return losses, model


@pytest.mark.parametrize(
    ("recurrent_model", "updates"),
    [(True, 1), (True, 3), (False, 3)],
    ids=["tied-1", "tied-3", "untied-3"],
    indirect=["recurrent_model"],
)
def test_losses_are_those_of_a_loop_at_the_same_depths(
    grpo_job: Callable[..., TrainJob], updates: int
) -> None:
    """Prompts of different lengths, several micro-batches, KL to a reference, three steps."""
    job = grpo_job(steps=3, updates_per_step=updates)
    train(job, rollouts=Recorded(job.model, mixed))
    rows = read_metrics(job.work / METRICS_FILE)
    losses, model = by_hand(job.model, steps=3, updates=updates, seed=job.seed)
    assert [row["loss"] for row in rows] == pytest.approx(losses, rel=1e-3, abs=1e-5)
    assert max(row["logprob_gap"] for row in rows if "logprob_gap" in row) < 1e-4
    trained = load_file(job.out / "model.safetensors")
    start = load_file(job.model / "model.safetensors")
    moved = max(float((trained[name] - start[name]).abs().max()) for name in trained)
    for name, weight in model.state_dict().items():
        if name in trained:
            assert float((trained[name] - weight).abs().max()) < 0.2 * moved, name


@pytest.mark.parametrize(
    ("recurrent_model", "last"),
    [(True, None), (True, 1), (True, 2), (False, None)],
    ids=["tied-all", "tied-1", "tied-2", "untied-all"],
    indirect=["recurrent_model"],
)
def test_gradients_are_those_of_every_token_on_its_own(
    grpo_job: Callable[..., TrainJob], recurrent_model: Path, last: int | None
) -> None:
    """With ratio 1 and no KL: -mean(A * mean(log p)), through each token's last iterations."""
    job = grpo_job(kl=0.0)
    taken: dict[str, Tensor] = {}

    class Take(TrainerCallback):
        def on_pre_optimizer_step(self, *_: Any, model: Any, **__: Any) -> None:
            named = model.named_parameters()
            taken.update({n: p.grad.clone() for n, p in named if p.grad is not None})

    with trainer_process(job):
        source = RolloutSource(job, Recorded(recurrent_model, mixed))
        trainer: Any = make_trainer(job, load_tokenizer(job.model), source)
        trainer.model.config.backprop_iterations = last
        trainer.add_callback(Take())
        trainer.train()

    model = AutoModelForCausalLM.from_pretrained(recurrent_model, dtype=torch.float32).train()
    model.config.backprop_iterations = last
    rows = rows_of(0, mixed)
    parts = [
        gain * token_by_token(model, row).mean()
        for row, gain in zip(rows, advantages(rows), strict=True)
    ]
    (-torch.stack(parts).mean()).backward()
    clip_grad_norm_(model.parameters(), 1.0)
    expected = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert taken.keys() == expected.keys()
    assert not [name for name in taken if "halting" in name]
    for name, gradient in expected.items():
        torch.testing.assert_close(taken[name], gradient, rtol=1e-3, atol=2e-6, msg=name)


def test_at_the_models_own_depth_nothing_is_passed_and_no_bit_changes(
    grpo_job: Callable[..., TrainJob],
) -> None:
    passed, plain = (grpo_job(name, steps=2, updates_per_step=3) for name in ("passed", "plain"))
    rollouts = Recorded(passed.model, own)
    assert training_depths(rollouts.slice(0), iterations=OWN) is None
    assert training_depths(rollouts.slice(0), iterations=OWN + 1) is not None
    train(passed, rollouts=rollouts)
    train(plain, rollouts=Recorded(plain.model, own, with_depths=False))
    same = [(job.out / "model.safetensors").read_bytes() for job in (passed, plain)]
    assert same[0] == same[1]


def test_tokens_that_ran_at_other_depths_are_not_learned_from(
    grpo_job: Callable[..., TrainJob],
) -> None:
    job = grpo_job()
    with pytest.raises(LogprobGapError, match="step 1: engine and trainer are .* nats apart"):
        train(job, rollouts=Recorded(job.model, mixed, with_depths=False))
    assert not job.out.exists()


def test_one_wrong_log_probability_stops_the_step(grpo_job: Callable[..., TrainJob]) -> None:
    job = grpo_job()
    with pytest.raises(LogprobGapError, match="step 1: .*0.2 nats .* hardware.engine"):
        train(job, rollouts=Recorded(job.model, mixed, off=0.2))
    assert LogprobGapError.exit_code == 3


@pytest.mark.parametrize(
    ("largest", "mean", "dtype", "refused"),
    [
        (1e-4, 1e-5, "float32", False),
        (0.06, 1e-5, "float32", True),
        (0.04, 0.006, "float32", True),
        (1.0, 0.02, "bfloat16", False),
        (1.0, 0.2, "bfloat16", True),
        (2.3, 0.015, "bfloat16", False),
        (11.0, 0.02, "bfloat16", True),
        (float("nan"), 0.0, "bfloat16", True),
    ],
)
def test_limits_are_those_of_the_arithmetic(
    largest: float, mean: float, dtype: str, refused: bool
) -> None:
    def check() -> None:
        check_gap(step=12, largest=largest, mean=mean, dtype=dtype)

    if refused:
        with pytest.raises(LogprobGapError, match=f"step 12: .*limits in {dtype}"):
            check()
    else:
        check()


@pytest.mark.parametrize("sharding", ["zero3", "fsdp2"])
def test_ranks_that_share_layers_are_refused_different_depths(
    grpo_job: Callable[..., TrainJob], sharding: Any
) -> None:
    job = dataclasses.replace(grpo_job(), sharding=sharding, ranks=2)
    source = RolloutSource(job, Recorded(job.model, mixed))
    with trainer_process(grpo_job()):
        trainer = make_trainer(
            grpo_job(), load_tokenizer(job.model), RolloutSource(grpo_job(), source._rollouts)
        )
        source.trainer = trainer
        with pytest.raises(ValueError, match="set sharding: zero2"):
            source(0)


@pytest.mark.slow
def test_two_zero2_ranks_reach_what_one_does(
    grpo_job: Callable[..., TrainJob], tmp_path: Path
) -> None:
    """Each rank runs to depths of its own."""
    one = grpo_job("one", updates_per_step=3)
    two = dataclasses.replace(grpo_job("two", updates_per_step=3), ranks=2, sharding="zero2")
    rollouts = Recorded(one.model, mixed)
    whole = rollouts.slice(0)
    assert whole.depths is not None
    share = len(whole.depths) // 2
    assert {d for row in whole.depths[:share] for d in row} == set(range(1, DEEPEST + 1))
    run_ranks(two, whole, tmp_path)
    train(one, rollouts=rollouts)
    gaps = [read_metrics(job.work / METRICS_FILE)[0]["logprob_gap"] for job in (one, two)]
    assert max(gaps) < 1e-4
    # ranks shuffle their own halves, so only what does not depend on the order is the same
    kls = [read_metrics(job.work / METRICS_FILE)[0]["kl"] for job in (one, two)]
    assert kls[0] == pytest.approx(kls[1], abs=1e-6)
    ours, theirs = (load_file(job.out / "model.safetensors") for job in (one, two))
    start = load_file(one.model / "model.safetensors")
    assert all(torch.isfinite(weight).all() for weight in theirs.values())
    moved = "model.core.0.mlp.down_proj.weight"
    ways = [(weights[moved] - start[moved]).flatten() for weights in (ours, theirs)]
    assert float(torch.cosine_similarity(ways[0], ways[1], dim=0)) > 0.5
    assert all(torch.equal(theirs[n], start[n]) for n in theirs if "halting" in n)


def run_ranks(job: TrainJob, whole: Slice, folder: Path) -> None:
    (folder / "job.pickle").write_bytes(pickle.dumps(job))
    (folder / "slice.pickle").write_bytes(pickle.dumps(whole))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    worker = Path(__file__).with_name("grpo_rank_worker.py")
    processes = [
        subprocess.Popen(
            [sys.executable, str(worker), str(folder / "job.pickle"), str(folder / "slice.pickle")],
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
