"""A run's rollouts and metrics as data frames."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.watch.frames import metric_frame, rollout_frame
from pipeline.watch.rollout_log import RolloutsError
from pipeline.watch.run_reading import RunReadError
from tests.watch.runs import evaluated_run


def test_every_rollout_is_a_row(run_folder: Path) -> None:
    frame = rollout_frame(run_folder, stage="reason", step=None)
    assert len(frame) == 12
    assert list(frame["step"].unique()) == [2, 121]  # files count from 0
    first = frame.iloc[0]
    assert (first["question"], first["gold"]) == ("a=1;b=a+1;b?", "2")
    assert (first["completion"], first["tokens"], first["stop"]) == ("b = 7 <b>", 12, "length")
    assert (first["reward.answer"], first["verdict.format"]) == (0.0, "no tags")
    assert frame.groupby("step")["reward"].mean().tolist() == pytest.approx([0.0, 1.1])
    assert len(rollout_frame(run_folder, stage=None, step=2)) == 6


def test_the_answers_of_an_evaluation_name_their_model(tmp_path: Path) -> None:
    run = evaluated_run(tmp_path / "run", {"base": [[0.0], [None]], "align": [[1.0], [1.0]]})
    frame = rollout_frame(run, stage=None, step=None)
    assert frame["model"].tolist() == ["base", "base", "align", "align"]
    assert frame["step"].isna().all()
    assert frame["reward"].isna().tolist() == [False, True, False, False]
    assert frame.groupby("model")["reward.answer"].mean().to_dict() == {"align": 1.0, "base": 0.0}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"stage": "reasn", "step": None}, "'reasn' has no rollouts .*did you mean reason?"),
        ({"stage": "reason", "step": 3}, "stage reason has no journaled step 3; it has 2 between"),
        ({"stage": None, "step": 3}, "stage reason has no journaled step 3"),
    ],
)
def test_what_is_not_there_is_explained(run_folder: Path, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(RolloutsError, match=said):
        rollout_frame(run_folder, **asked)


def test_a_folder_without_rollouts_is_explained(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("name: empty\nstages: {}\n")
    with pytest.raises(RolloutsError, match="has no rollouts; GRPO stages write them"):
        rollout_frame(tmp_path, stage=None, step=None)
    with pytest.raises(RunReadError, match="is no run folder"):
        rollout_frame(tmp_path / "nowhere", stage=None, step=None)
    assert metric_frame(tmp_path, stage=None).columns.tolist() == ["stage", "step"]


def test_metrics_are_rows_by_stage(run_folder: Path) -> None:
    frame = metric_frame(run_folder, stage=None)
    assert frame.groupby("stage", sort=False).size().to_dict() == {
        "cold_start": 40,
        "reason": 120,
        "refit": 12,
    }
    assert metric_frame(run_folder, stage="reason")["held_out_accuracy"].notna().sum() == 12
    with pytest.raises(RunReadError, match="stage align of .* has no metrics"):
        metric_frame(run_folder, stage="align")
