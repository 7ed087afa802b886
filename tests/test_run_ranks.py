"""Several trainer ranks as Ray actors over gloo, by DeepSpeed and by FSDP2, in the real flow."""

import json
from pathlib import Path

import pytest

from pipeline.plan.plan import make_plan
from pipeline.recipe.schema import Recipe
from pipeline.run import run
from pipeline.watch.console import make_console

RECIPE = {
    "name": "ranks",
    "model": {
        "scratch": {"hidden": 64, "layers": 2, "heads": 2, "mlp": 128, "max_position": 256}
    },
    "prompts": {"train": {"task": "sums", "size": 200, "difficulty": [2, 3]}},
    "rewards": {"format": {"use": "builtin:think_format"}},
    "stages": {
        "cold_start": {
            "kind": "sft", "rows": "train.worked", "epochs": 2, "lr": 3e-3, "batch_rows": 32,
            "micro_batch_rows": 16, "max_tokens": 200,
        },
        "reason": {
            "kind": "grpo", "init": "cold_start", "prompts": "train", "rewards": ["format"],
            "steps": 3, "prompts_per_step": 8, "samples_per_prompt": 4, "micro_batch_rows": 16,
            "max_tokens": 40, "lr": 1e-4, "resample_rounds": 0, "reference_every": 2,
        },
    },
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("shared", ["zero2", "fsdp2"])
def test_two_ranks_train_as_one(tmp_path: Path, shared: str) -> None:
    """Same rollouts in the first step, same SFT losses; bits differ by the order of sums."""
    rows = {}
    for ranks, sharding in ((1, "none"), (2, shared)):
        recipe = Recipe.model_validate(
            RECIPE | {"hardware": {"ranks": ranks, "sharding": sharding}}
        )
        folder = tmp_path / str(ranks)
        console = make_console(json=True)
        run(make_plan(recipe), run_dir=folder, from_stage=None, to_stage=None, console=console)
        rows[ranks] = {
            stage: [json.loads(x) for x in (folder / "work" / stage / "metrics.jsonl").open()]
            for stage in ("cold_start", "reason")
        }
    one, two = rows[1], rows[2]
    for a, b in zip(one["cold_start"][:5], two["cold_start"][:5], strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-4)
    assert len(two["reason"]) == 3
    assert max(row["logprob_gap"] for row in two["reason"]) < 1e-4
