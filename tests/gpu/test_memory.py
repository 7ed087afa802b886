"""What a trainer takes of a GPU beside what `plan` says it does."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pipeline.generate.chat import load_chat
from pipeline.models.materialize import materialize
from pipeline.plan.memory import GIB
from pipeline.plan.sizes import shape_of
from pipeline.plan.stage_memory import rank_memory
from pipeline.recipe.hardware import Hardware
from pipeline.recipe.model_source import ModelSource, ScratchModel
from pipeline.recipe.sft_stage import SftStage
from pipeline.recipe.stage_work import UNKNOWN
from pipeline.train import sft_trainer
from pipeline.train.job import TrainJob
from pipeline.train.token_rows import token_rows

pytestmark = pytest.mark.gpu

PROMPT, COMPLETION = f"<user>{'1' * 200}<assistant>", "2" * 800


@pytest.mark.parametrize("recomputed", [False, True])
def test_a_trainers_peak_is_the_planned_one(tmp_path: Path, recomputed: bool) -> None:
    model = ScratchModel(hidden=1024, layers=12, heads=16, mlp=4096, max_position=2048)
    folder = materialize(ModelSource(scratch=model), tmp_path / "model", seed=3)
    (row,) = token_rows(load_chat(folder), [PROMPT], [COMPLETION], completion_only=True)
    spec = SftStage(
        kind="sft",
        rows="x",
        batch_rows=16,
        micro_batch_rows=8,
        max_tokens=len(row.input_ids),
        gradient_checkpointing=recomputed,
        lr=1e-4,
    )
    rows = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"prompt": [PROMPT] * 64, "completion": [COMPLETION] * 64}), rows)
    shape = shape_of(ModelSource(path=folder))
    assert shape is not None
    planned = rank_memory(spec, shape, Hardware(), dtype="bfloat16", device="cuda", lengths=UNKNOWN)
    assert planned is not None
    torch.cuda.reset_peak_memory_stats()
    job = TrainJob(
        spec=spec,
        model=folder,
        out=tmp_path / "out",
        work=tmp_path / "work",
        seed=5,
        device="cuda",
        ranks=1,
        sharding="none",
        threads=1,
        dtype="bfloat16",
    )
    assert sft_trainer.train(job, rows)["rows_too_long"] == 0
    peak = torch.cuda.max_memory_allocated() / GIB
    expected = planned.total - planned.process
    print(f"recomputed {recomputed}: {peak:.2f} GiB, {expected:.2f} planned")
    assert peak == pytest.approx(expected, rel=0.15)
