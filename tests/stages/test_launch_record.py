import json
import subprocess
from pathlib import Path

import pytest

from pipeline import __version__
from pipeline.plan.plan import make_plan
from pipeline.recipe.load import load_recipe
from pipeline.stages.launch_record import LAUNCHES_FILE, commit_of, launches_of, record_launch
from pipeline.watch.provenance import provenance


def test_every_launch_is_a_line(tmp_path: Path) -> None:
    plan = make_plan(load_recipe("quickstart", ["hardware.device=cpu"]))
    for _ in range(2):
        record_launch(tmp_path, plan)
    first, second = launches_of(tmp_path)
    assert first["started"] <= second["started"]
    assert first["packages"]["stepwell"] == __version__
    assert first["chosen"]["hardware.device"] == "cpu"
    assert first["chosen"]["hardware.engine"] == "vllm"
    assert int(first["machine"]["cores"]) >= 1
    said = dict(provenance(tmp_path))
    assert "gone on with 1 times" in said["started"]
    assert f"stepwell {__version__}" in said["versions"]
    assert "hardware.device: cpu" in said["chosen"]


def test_a_record_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    (tmp_path / LAUNCHES_FILE).write_text('[{"started": ')
    assert launches_of(tmp_path) == []
    assert provenance(tmp_path) == []


def test_the_commit_of_a_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert commit_of(tmp_path) is None
    for name in ("GIT_AUTHOR", "GIT_COMMITTER"):
        monkeypatch.setenv(f"{name}_NAME", "a")
        monkeypatch.setenv(f"{name}_EMAIL", "a@b")

    def git(*arguments: str) -> None:
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True, capture_output=True)

    git("init")
    (tmp_path / "file").write_text("a")
    git("add", "file")
    git("commit", "-m", "a")
    commit = commit_of(tmp_path)
    assert commit is not None
    assert len(commit) == 40
    (tmp_path / "file").write_text("b")
    assert commit_of(tmp_path) == f"{commit} and changes"


def test_older_runs_say_what_their_manifests_do(tmp_path: Path) -> None:
    for name, changes in (("a", []), ("b", ["torch 1, now 2"])):
        folder = tmp_path / "stages" / name
        folder.mkdir(parents=True)
        around = {"packages": {"torch": "2"}, "machine": {"device": "cpu"}, "changes": changes}
        manifest = {"created": f"2026-11-2{len(changes)}T01:02:03+0000", "surroundings": around}
        (folder / "manifest.json").write_text(json.dumps(manifest))
    assert provenance(tmp_path) == [
        ("finished stages", "from 2026-11-20 01:02:03 UTC to 2026-11-21 01:02:03 UTC"),
        ("versions", "torch 2"),
        ("machine", "device: cpu"),
        ("changes on the way", "torch 1, now 2"),
    ]
