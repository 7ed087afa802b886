"""Depths drawn for training rows, and that the trainer runs at them."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset
from transformers import AutoConfig, TrainerCallback
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from pipeline.models.materialize import materialize
from pipeline.recipe.model_source import ModelSource, ScratchModel
from pipeline.recipe.sft_stage import RandomDepths, SftStage
from pipeline.recurrent.model import RecurrentForCausalLM
from pipeline.train import sft_trainer
from pipeline.train.job import TrainJob
from pipeline.train.random_depths import DepthCollator, check_random_depths, with_depths
from pipeline.train.token_rows import IGNORED

PROMPT = 3
SHAPE = ScratchModel(
    hidden=64, prelude=1, core=1, coda=1, iterations=2, max_iterations=4, heads=2, mlp=96
)
ROWS = Dataset.from_dict(
    {
        "input_ids": [list(range(1, 13)) for _ in range(200)],
        "labels": [[IGNORED] * PROMPT + list(range(4, 13)) for _ in range(200)],
    }
)


@pytest.fixture(scope="module")
def recurrent_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random one with the character tokenizer."""
    return materialize(ModelSource(scratch=SHAPE), tmp_path_factory.mktemp("recurrent"), seed=3)


def drawn(*, seed: int = 0, batch_rows: int = 4, **depths: Any) -> torch.Tensor:
    spec = RandomDepths(high=6, **depths)
    return torch.tensor(with_depths(ROWS, spec, seed=seed, batch_rows=batch_rows)["depths"][:])


def test_a_sequence_has_one_depth() -> None:
    depths = drawn()
    assert depths.shape == (200, 12)
    assert (depths == depths[:, :1]).all()
    assert set(depths[:, 0].tolist()) == {1, 2, 3, 4, 5, 6}


def test_rows_that_run_together_share_a_depth() -> None:
    depths = drawn(segment="batch").view(50, 4, 12)
    assert (depths == depths[:, :1, :1]).all()
    assert len(set(depths[:, 0, 0].tolist())) == 6


def test_segments_have_depths_of_their_own() -> None:
    depths = drawn(segment=4).view(200, 3, 4)
    assert (depths == depths[..., :1]).all()
    assert (depths[:, 0, 0] != depths[:, 1, 0]).float().mean() > 0.7


def test_prompts_but_their_last_position_run_at_their_own_depth() -> None:
    depths = drawn(segment=1, prompt_depth=2)
    assert (depths[:, : PROMPT - 1] == 2).all()
    assert (depths[:, PROMPT - 1 :] != 2).any(0).all()


def test_no_row_runs_one_iteration_alone_where_only_later_ones_learn() -> None:
    spec = RandomDepths(high=2, prompt_depth=1)
    for later in (False, True):
        rows = with_depths(ROWS, spec, seed=0, batch_rows=4, later=later)["depths"][:]
        depths = torch.tensor(rows)
        assert (depths[:, : PROMPT - 1] == 1).all()
        assert ((depths == 1).all(1).sum() > 50).item() is not later
        assert 50 < (depths[:, -1] == 2).sum() < 150  # else as drawn


def test_the_seed_decides() -> None:
    assert torch.equal(drawn(seed=3), drawn(seed=3))
    assert not torch.equal(drawn(seed=3), drawn(seed=4))


def test_depths_are_padded_like_their_tokens() -> None:
    collate = DepthCollator(DataCollatorForLanguageModeling(pad_token_id=0))
    batch = collate(
        [
            {"input_ids": [5, 6, 7], "labels": [IGNORED, 6, 7], "depths": [1, 4, 4]},
            {"input_ids": [5, 6], "labels": [IGNORED, 6], "depths": [3, 3]},
        ]
    )
    assert batch["input_ids"].tolist() == [[5, 6, 7], [5, 6, 0]]
    assert batch["depths"].tolist() == [[1, 4, 4], [3, 3, 1]]


def test_a_model_that_cannot_is_refused(recurrent_model: Path) -> None:
    config = AutoConfig.from_pretrained(recurrent_model)
    deepest = config.max_iterations
    fits = RandomDepths(high=deepest)
    check_random_depths(config, fits, folder=recurrent_model)
    with pytest.raises(ValueError, match=f"high={deepest + 1} is over max_iterations={deepest}"):
        check_random_depths(config, RandomDepths(high=deepest + 1), folder=recurrent_model)
    with pytest.raises(ValueError, match="prompt_depth=99 is over"):
        check_random_depths(
            config,
            RandomDepths(high=deepest, prompt_depth=99),
            folder=recurrent_model,
        )
    with pytest.raises(ValueError, match="packing: false"):
        SftStage(kind="sft", rows="p.worked", packing=True, random_depths=fits)


class Depths(TrainerCallback):
    """Notes the depths that the backbone ran at."""

    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        model: RecurrentForCausalLM = kwargs["model"]
        model.model.register_forward_hook(lambda _, __, out: self.seen.append(out.depths))


def test_training_runs_at_the_drawn_depths(recurrent_model: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"prompt": ["<user>12"] * 16, "completion": ["345"] * 16}), rows)
    spec = SftStage(
        kind="sft",
        rows="p.worked",
        epochs=1,
        batch_rows=4,
        micro_batch_rows=4,
        max_tokens=64,
        random_depths=RandomDepths(high=4, segment="batch", prompt_depth=1),
    )
    job = TrainJob(
        spec=spec,
        model=recurrent_model,
        out=tmp_path / "out",
        work=tmp_path / "work",
        seed=5,
        device="cpu",
        ranks=1,
        sharding="none",
        threads=1,
    )
    depths = Depths()
    found = sft_trainer.train(job, rows, callbacks=[depths])
    assert found["steps"] == len(depths.seen) == 4
    for ran in depths.seen:
        assert (ran[:, :2] == 1).all()
        assert (ran[:, 2:] == ran[0, 2]).all()
    assert len({int(ran[0, 2]) for ran in depths.seen}) > 1
