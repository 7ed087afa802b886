import io
import os
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console as Terminal

from pipeline.records import Prompt, Rollout, Scored, write_prompts, write_scored
from pipeline.watch.rollout_log import Order, RolloutsError, print_rollouts, show, stages_of


def scored(sample: int, reward: float | None, **changes: Any) -> Scored:
    rollout = Rollout(
        prompt_id="p1",
        sample=sample,
        seed=sample,
        prompt_tokens=(1, 2),
        tokens=(3, 4, 5),
        logprobs=(-0.1, -0.2, -0.3),
        stop="length" if reward is None else "eos",
        weight_version=4,
    )
    return Scored(
        rollout=rollout,
        text=f"<think>1+1=2</think>{sample}",
        reward=reward,
        components={"answer": reward, "format": 1.0},
        verdicts={"answer": "wrong" if reward == 0 else "correct", "format": "[ok]"},
        **changes,
    )


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A GRPO stage with steps 2 and 10, and a reject stage that wrote before it."""
    prompts = tmp_path / "prompts" / "train"
    journal = tmp_path / "journal" / "reason"
    harvest = tmp_path / "stages" / "harvest"
    for folder in (prompts, journal, harvest):
        folder.mkdir(parents=True)
    write_prompts([Prompt(id="p1", question="1+1?", answer="2")], prompts / "prompts.parquet")
    write_scored([scored(0, 0.0)], journal / "step-000002.parquet")
    rows = [scored(0, 0.5), scored(1, None), scored(2, 1.0), scored(3, 0.0)]
    write_scored(rows, journal / "step-000010.parquet")
    (journal / ".step-000011.parquet").write_text("half written")
    write_scored([scored(7, 1.0)], harvest / "rollouts.parquet")
    os.utime(harvest / "rollouts.parquet", (1, 1))
    return tmp_path


def test_the_last_step_of_the_last_stage_comes_by_default(run_dir: Path) -> None:
    assert stages_of(run_dir) == ["harvest", "reason"]
    rows = show(run_dir)
    assert {(row["stage"], row["step"]) for row in rows} == {("reason", 11)}
    assert rows[0] == {
        "stage": "reason",
        "step": 11,
        "prompt_id": "p1",
        "sample": 0,
        "context": [],
        "question": "1+1?",
        "gold": "2",
        "completion": "<think>1+1=2</think>0",
        "tokens": 3,
        "stop": "eos",
        "reward": 0.5,
        "components": {"answer": 0.5, "format": 1.0},
        "verdicts": {"answer": "correct", "format": "[ok]"},
        "details": {},
        "weight_version": 4,
    }


@pytest.mark.parametrize(
    ("order", "samples"),
    [("written", [0, 1, 2]), ("best", [2, 0, 3]), ("worst", [1, 3, 0])],
)
def test_orders(run_dir: Path, order: Order, samples: list[int]) -> None:
    assert [row["sample"] for row in show(run_dir, limit=3, order=order)] == samples


def test_a_step_and_a_reject_stage_can_be_named(run_dir: Path) -> None:
    assert show(run_dir, stage="reason", step=3)[0]["reward"] == 0.0
    row = show(run_dir, stage="harvest")[0]
    assert (row["step"], row["sample"]) == (None, 7)


def test_rollouts_show_without_their_prompts(run_dir: Path) -> None:
    (run_dir / "prompts" / "train" / "prompts.parquet").unlink()
    row = show(run_dir)[0]
    assert (row["question"], row["gold"]) == (None, None)
    assert "(prompt p1)" in printed([row])


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"stage": "raeson"}, "did you mean reason?"),
        ({"stage": "reason", "step": 2}, "it has 2 between 3 and 11"),
        ({"stage": "harvest", "step": 3}, "has no steps"),
    ],
)
def test_what_is_not_there_is_explained(run_dir: Path, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(RolloutsError) as caught:
        show(run_dir, **asked)
    assert said in str(caught.value)


def test_a_folder_without_rollouts_is_explained(tmp_path: Path) -> None:
    with pytest.raises(RolloutsError, match="has no rollouts"):
        show(tmp_path)


def test_the_printed_form_says_everything(run_dir: Path) -> None:
    text = printed(show(run_dir))
    for part in ("1+1?", "gold: 2", "1+1=2", "reason, step 11", "reward 0.500", "correct", "[ok]"):
        assert part in text
    assert "unscored, 3 tokens, cut off" in text


def test_a_completion_cannot_drive_the_terminal(run_dir: Path) -> None:
    row = show(run_dir, limit=1)[0] | {"completion": "a\x1b[2Jb\rc\n"}
    text = printed([row])
    assert "\x1b" not in text
    assert "a\N{REPLACEMENT CHARACTER}[2Jb\N{REPLACEMENT CHARACTER}c" in text


def printed(rows: list[dict[str, Any]]) -> str:
    out = io.StringIO()
    print_rollouts(rows, terminal=Terminal(file=out, width=90))
    return out.getvalue()
