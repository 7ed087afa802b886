"""The reward model learns a preference, resumes exactly and scores as it was trained."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from pipeline.generate.chat import load_chat
from pipeline.generate.reward_scorer import RewardScorer, scored_ids
from pipeline.recipe.reward_model_stage import RewardModelStage
from pipeline.train import reward_trainer
from pipeline.train.job import DONE, STOP_FILE, STOPPED, TrainJob
from pipeline.train.reward_trainer import Pair, split_pairs

MakeJob = Callable[..., TrainJob]


def stage(*, max_tokens: int = 64, epochs: float = 4) -> RewardModelStage:
    return RewardModelStage(
        kind="reward_model",
        pairs="x",
        lr=3e-3,
        batch_rows=8,
        micro_batch_rows=4,
        epochs=epochs,
        max_tokens=max_tokens,
        save_steps=5,
    )


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Sixty pairs in which the completion with a `y` wins."""
    numbers = [str(7 * k) for k in range(60)]
    table = {
        "prompt": [f"<user>{n}<assistant>" for n in numbers],
        "chosen": [f"{n}y" for n in numbers],
        "rejected": [f"{n}n" for n in numbers],
    }
    pq.write_table(pa.table(table), tmp_path / "pairs.parquet")
    return tmp_path / "pairs.parquet"


def test_learns_a_preference_that_the_scorer_shares(make_job: MakeJob, pairs: Path) -> None:
    job = make_job(spec=stage())
    info = reward_trainer.train(job, pairs)
    assert info["status"] == DONE
    assert (info["pairs"], info["held_out"], info["pairs_too_long"]) == (54, 6, 0)
    assert info["accuracy"] == 1.0
    scorer = RewardScorer(job.out)
    prompts = ["<user>1<assistant>"] * 3
    completions = ["1y", "1n", "1111111y"]
    together = scorer.score(prompts, completions)
    assert together[0] > together[1]
    alone = [scorer.score(prompts[:1], [completion])[0] for completion in completions]
    assert together == pytest.approx(alone, abs=1e-5)
    assert scorer.score([], []) == []


def test_stop_and_resume_end_with_the_same_bits(make_job: MakeJob, pairs: Path) -> None:
    whole, stopped = make_job("whole", spec=stage(epochs=1)), make_job("two", spec=stage(epochs=1))
    info = reward_trainer.train(whole, pairs)
    stopped.work.mkdir(parents=True)
    (stopped.work / STOP_FILE).touch()
    early = reward_trainer.train(stopped, pairs)
    assert (early["status"], "accuracy" in early) == (STOPPED, False)
    (stopped.work / STOP_FILE).unlink()
    assert reward_trainer.train(stopped, pairs) == info
    ours, theirs = (load_file(job.out / "model.safetensors") for job in (whole, stopped))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_text_is_tokenized_as_in_generation(tiny_model: Path) -> None:
    chat = load_chat(tiny_model)
    (ids,) = scored_ids(chat, ["<user>1<assistant>"], ["2"])
    assert chat.tokenizer.decode(ids) == "<user>1<assistant>2<eos>"


def test_no_prompt_is_both_trained_on_and_held_out() -> None:
    pairs = [Pair(str(k // 3), "a", str(k)) for k in range(30)]
    kept, held_out = split_pairs(pairs, seed=1)
    assert sorted(kept + held_out) == sorted(pairs)
    assert len(held_out) == 3
    assert not {pair.prompt for pair in kept} & {pair.prompt for pair in held_out}
    assert split_pairs(pairs, seed=1) == (kept, held_out)
    assert split_pairs(pairs[:3], seed=1) == (pairs[:3], [])


def test_pairs_over_the_limit_are_an_error_when_none_is_left(
    make_job: MakeJob, pairs: Path
) -> None:
    with pytest.raises(ValueError, match="none of 54 pairs fits in max_tokens=3"):
        reward_trainer.train(make_job(spec=stage(max_tokens=3)), pairs)
