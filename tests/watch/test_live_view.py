"""`stepwell watch`: what it reads of a folder, and what it draws, in several widths."""

import asyncio
import json
import re
from pathlib import Path

import pytest

from pipeline.cli.app import main
from pipeline.errors import OK, WRONG
from pipeline.records import Rollout, Scored, write_scored
from pipeline.watch.live_reading import moment_of
from pipeline.watch.live_view import LiveView
from pipeline.watch.run_reading import RunReadError


def state(name: str, kind: str, status: str, seconds: float = 0.0) -> dict[str, object]:
    return {"name": name, "kind": kind, "status": status, "seconds": seconds}


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run in its second stage."""
    rows = [state("cold_start", "sft", "done", 42.0), state("reason", "grpo", "running")]
    states = [*rows, state("report", "evaluate", "waiting")]
    (tmp_path / "state.json").write_text(json.dumps(states))
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "run.log").write_text("2026-01-01 10:00:00 reason: running\n")
    metrics(tmp_path, 3)
    rollout = Rollout(
        prompt_id="p", sample=0, seed=1, prompt_tokens=(1,), tokens=(2,), logprobs=(0.0,),
        stop="eos", weight_version=0,
    )  # fmt: skip
    scored = Scored(
        rollout=rollout, text="<think>1+1</think>2", reward=1.0,
        components={"answer": 1.0}, verdicts={"answer": "correct"},
    )  # fmt: skip
    (tmp_path / "journal" / "reason").mkdir(parents=True)
    write_scored([scored], tmp_path / "journal" / "reason" / "step-000002.parquet")
    return tmp_path


def metrics(run_dir: Path, steps: int) -> None:
    folder = run_dir / "work" / "reason"
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"step": n, "steps": 24, "reward": 0.25 * n} for n in range(1, steps + 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_moment_of_a_run(run_dir: Path) -> None:
    moment = moment_of(run_dir)
    assert [stage.status for stage in moment.stages] == ["done", "running", "waiting"]
    assert (moment.current, moment.row["step"], moment.stages[1].step) == ("reason", 3, 3)
    assert (moment.series_name, list(moment.series)) == ("reward", [0.25, 0.5, 0.75])
    assert not moment.is_over
    states = [state("cold_start", "sft", "stopped"), state("reason", "grpo", "waiting")]
    (run_dir / "state.json").write_text(json.dumps(states))
    assert moment_of(run_dir).is_over


def test_a_folder_of_no_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for place, why in ((tmp_path, "no state.json yet"), (tmp_path / "x", "there is no such")):
        with pytest.raises(RunReadError, match=why):
            moment_of(place)
    assert main(["watch", str(tmp_path)]) == WRONG
    assert "is no run folder" in capfd.readouterr().err


def drawn(view: LiveView) -> str:
    svg = view.export_screenshot()
    words = re.findall(r"<text[^>]*>(.*?)</text>", svg)
    return " ".join(words).replace("&#160;", " ")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_what_is_drawn_in_a_width(run_dir: Path, width: int) -> None:
    async def look() -> list[str]:
        view = LiveView(run_dir)
        shots = []
        async with view.run_test(size=(width, 32)) as pilot:
            await pilot.pause()
            shots.append(drawn(view))
            metrics(run_dir, 4)
            (run_dir / "logs" / "run.log").open("a").write("2026-01-01 10:00:09 warning: odd\n")
            view.look()
            for key in "123":
                await pilot.press(key)
                await pilot.pause()
                shots.append(drawn(view))
            await pilot.press("q")
        return shots

    first, now, rollouts, log = asyncio.run(look())
    for name in ("cold_start", "reason", "report", "0:42", "3/24", "0.750", "Leave", "Log"):
        assert name in first
    assert "4/24" in now
    assert "1.000" in now
    for part in ("reason, step 3", "1+1", "correct"):
        assert part in rollouts
    assert log.count("reason: running") == 1
    assert "warning: odd" in log


def test_what_it_would_show_as_a_document(run_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", str(run_dir), "--json"]) == OK
    document = json.loads(capfd.readouterr().out)
    assert (document["current"], document["over"]) == ("reason", False)
    assert main(["watch", str(run_dir)]) == WRONG
    assert "draws on a terminal" in capfd.readouterr().err
