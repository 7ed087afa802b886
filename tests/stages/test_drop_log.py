import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pipeline.artifacts import publish
from pipeline.measure.drops import Drop, drop_rows
from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.stages.drop_log import log_drops, run_drops, too_long, write_room_drops
from pipeline.stages.grpo import group_drops


def drop(key: str, *, dropped: int = 1) -> Drop:
    return Drop(what="rows", reason="long", dropped=dropped, total=4, key=key)


def test_a_training_tells_what_was_too_long() -> None:
    info = {"rows": 9, "rows_too_long": 3}
    found = too_long(info, "rows", tokens=4096, key="stages.cold.max_tokens")
    assert found.sentence == (
        "3 of 12 rows left out: longer than 4,096 tokens (stages.cold.max_tokens)"
    )


def test_a_run_has_the_drops_of_its_prompts_and_stages_and_no_old_ones(tmp_path: Path) -> None:
    for folder, name in (("inputs", "train"), ("stages", "cold"), ("stages", "cold.old-1")):
        draft = tmp_path / "draft"
        draft.mkdir()
        info = {"drops": drop_rows([drop(f"key of {name}"), drop("nothing", dropped=0)])}
        target = tmp_path / folder / name
        publish(draft, target, kind="report", stage=name, fingerprint="x", info=info)
    write_room_drops(tmp_path, [drop("prompts.train.too_long")])
    assert [(row["place"], row["key"]) for row in run_drops(tmp_path)] == [
        ("prompts.train", "prompts.train.too_long"),
        ("prompts.train", "key of train"),
        ("stages.cold", "key of cold"),
    ]


def test_drops_are_logged_with_their_place() -> None:
    log: list[str] = []
    console: Any = SimpleNamespace(log=log.append)
    info = json.loads(json.dumps({"drops": drop_rows([drop("stages.cold.max_tokens")])}))
    log_drops("stages.cold", info, console)
    assert log == ["stages.cold: 1 of 4 rows left out: long (stages.cold.max_tokens)"]


def test_replaced_groups_and_unscored_completions_are_counted_once_a_step() -> None:
    spec = GrpoStage(
        kind="grpo", prompts="p", rewards=["a"], steps=2, prompts_per_step=4,
        samples_per_prompt=2, updates_per_step=2,
    )  # fmt: skip
    rows = [
        {"step": step, "resampled_groups": count, "unscored_share": share}
        for step, count, share in ((1, 1.0, 0.1), (2, 1.0, 0.1), (3, 3.0, 0.0), (4, 3.0, 0.0))
    ]
    groups, completions = group_drops(rows, spec, name="reason")
    assert (groups.dropped, groups.total) == (4, 12)
    assert groups.key == "stages.reason.resample_rounds"
    assert (completions.dropped, completions.total) == (1, 24)
