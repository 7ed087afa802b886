"""Trainers leave a model all its end tokens, and count as finished what ends with any of them."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.generate.chat import load_chat
from pipeline.generate.reward_scorer import RewardScorer, scored_ids
from pipeline.models.materialize import materialize
from pipeline.recipe.model_source import ModelSource
from pipeline.recipe.reward_model_stage import RewardModelStage
from pipeline.train import reward_trainer, sft_trainer

QUESTION = "2 and <eos> <end_of_turn> 3?"


@pytest.fixture
def gemma(make_family: Callable[..., Path], tmp_path: Path) -> Path:
    return materialize(ModelSource(path=str(make_family("gemma"))), tmp_path / "gemma")


def test_sft_keeps_the_ends_and_teaches_the_turn_end(
    gemma: Path, make_job: Callable[..., Any], tmp_path: Path
) -> None:
    job = dataclasses.replace(make_job(epochs=1), model=gemma)
    chat = load_chat(gemma)
    rows = {"prompt": [chat.render(QUESTION, ())] * 8, "completion": ["5"] * 8}
    pq.write_table(pa.table(rows), tmp_path / "rows.parquet")
    assert sft_trainer.train(job, tmp_path / "rows.parquet")["status"] == "done"
    for name in ("generation_config.json", "config.json"):
        before, after = (json.loads((f / name).read_text()) for f in (gemma, job.out))
        assert set(after["eos_token_id"]) == set(before["eos_token_id"])
    assert load_chat(job.out).row_end == chat.row_end


def test_a_reward_model_scores_rows_as_it_was_trained_on_them(
    gemma: Path, make_job: Callable[..., Any], tmp_path: Path
) -> None:
    spec = RewardModelStage(
        kind="reward_model", init="base", pairs="x", batch_rows=8, micro_batch_rows=4, epochs=1
    )
    job = dataclasses.replace(make_job(spec=spec), model=gemma)
    chat = load_chat(gemma)
    prompt = chat.render(QUESTION, ())
    pairs = {"prompt": [prompt] * 8, "chosen": ["5"] * 8, "rejected": ["6"] * 8}
    pq.write_table(pa.table(pairs), tmp_path / "pairs.parquet")
    reward_trainer.train(job, tmp_path / "pairs.parquet")
    scorer = RewardScorer(job.out)
    assert scored_ids(scorer.chat, [prompt], ["5"]) == scored_ids(chat, [prompt], ["5"])
