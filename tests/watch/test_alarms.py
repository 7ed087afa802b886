import json
from pathlib import Path

from pipeline.watch.alarms import alarms_of, log_end, unended
from pipeline.watch.report import write_report

LOG = """\
2026-11-27 01:00:00 reason: running
2026-11-27 01:00:09 warning: reason: the reward has collapsed: <b> badly
2026-11-27 01:00:12 warning: 3 rows are odd: look
2026-11-27 01:00:15 warning: reason: the reward has collapsed: <b> badly
"""


def run_dir_of(tmp_path: Path, *, kls: list[float], error: str | None = None) -> Path:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "run.log").write_text(LOG)
    (tmp_path / "metrics").mkdir()
    lines = [json.dumps({"step": n, "kl": kl}) + "\n" for n, kl in enumerate(kls, 1)]
    (tmp_path / "metrics" / "reason.jsonl").write_text("".join(lines))
    (tmp_path / "recipe.yaml").write_text("name: x\nstages: {reason: {kind: grpo}}\n")
    status = "running" if error is None else "failed"
    state = [{"name": "reason", "kind": "grpo", "status": status, "error": error}]
    (tmp_path / "state.json").write_text(json.dumps(state))
    return tmp_path


def test_what_the_log_and_the_metrics_show_is_told_once(tmp_path: Path) -> None:
    alarms = alarms_of(run_dir_of(tmp_path, kls=[0.1, 3.0, 4.0]), ["reason"])
    assert [(row["where"], row["when"]) for row in alarms] == [
        ("reason", "2026-11-27 01:00:09"),
        ("", "2026-11-27 01:00:12"),
        ("reason", "step 2"),
    ]
    assert "3 nats a token from its reference" in alarms[-1]["sentence"]


def test_a_quiet_run_has_none(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("name: x\n")
    assert alarms_of(tmp_path, ["reason"]) == []
    assert log_end(tmp_path) == []


def test_a_run_that_died_without_a_word_is_told(tmp_path: Path) -> None:
    run_dir = run_dir_of(tmp_path, kls=[])
    page = write_report(run_dir).read_text()
    assert "reason did not end" in page
    assert "has collapsed: &lt;b&gt; badly" in page
    state = json.loads((run_dir / "state.json").read_text())
    assert unended(state, is_held=True) is None


def test_a_failure_has_its_cause_and_the_log(tmp_path: Path) -> None:
    page = write_report(run_dir_of(tmp_path, kls=[], error="no <room> left")).read_text()
    assert "reason failed" in page
    assert "no &lt;room&gt; left" in page
    assert "The end of the run&#39;s log" in page or "The end of the run's log" in page
    assert "did not end" not in page
