"""`stepwell verify`: whole, damaged, no run at all, seen from outside."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from pipeline.artifacts import MANIFEST, publish, set_aside
from pipeline.cli.app import main
from pipeline.errors import FAILED, OK, WRONG

HEAVY = ("torch", "transformers", "ray", "safetensors")


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run with a model and a report."""
    folder = tmp_path / "runs" / "x"
    for name in ("model", "report"):
        draft = tmp_path / name / "model"
        draft.mkdir(parents=True)
        if name == "model":
            save_file({"a": np.ones(3, dtype=np.float32)}, draft / "model.safetensors")
        (draft / "config.json").write_text("{}")
        kind = "checkpoint" if name == "model" else "report"
        target = folder / "stages" / name
        publish(draft.parent, target, kind=kind, stage=name, fingerprint="f")
    (folder / "recipe.yaml").write_text("name: x\n")
    return folder


def verified(run_dir: Path, capfd: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    code = main(["verify", str(run_dir), "--json"])
    return code, json.loads(capfd.readouterr().out)


def test_a_whole_run(run_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, document = verified(run_dir, capfd)
    assert code == OK
    assert document["ok"] is True
    assert document["damaged"] == []
    assert [row["path"] for row in document["artifacts"]] == ["stages/model", "stages/report"]
    assert list(document["weights_sha256"]) == ["model"]
    assert main(["verify", str(run_dir)]) == OK
    assert "2 artifacts, all as they were published" in capfd.readouterr().out


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def outside(path: Path) -> None:
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"files": {"../../recipe.yaml": "0"}}))


WEIGHTS = "stages/model/model/model.safetensors"
DAMAGES: tuple[tuple[str, Callable[[Path], object], str], ...] = (
    (WEIGHTS, flipped, "differs from its checksum"),
    (WEIGHTS, lambda p: p.write_bytes(p.read_bytes()[:-1]), "differs from its checksum"),
    (WEIGHTS, Path.unlink, "is missing"),
    (f"stages/model/{MANIFEST}", Path.unlink, "no manifest.json"),
    (f"stages/model/{MANIFEST}", lambda p: p.write_text('{"kind": '), "is damaged"),
    (f"stages/model/{MANIFEST}", lambda p: p.write_text("[1]"), "is damaged"),
    (f"stages/model/{MANIFEST}", outside, "is damaged"),
)


@pytest.mark.parametrize(("name", "damage", "problem"), DAMAGES)
def test_what_is_damaged_is_named(
    name: str,
    damage: Callable[[Path], object],
    problem: str,
    run_dir: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    damage(run_dir / name)
    code, document = verified(run_dir, capfd)
    assert code == FAILED
    assert document["ok"] is False
    (row,) = document["damaged"]
    assert row["path"] == name
    assert problem in row["problem"]
    assert document["weights_sha256"] == {}
    assert main(["verify", str(run_dir)]) == FAILED
    assert name in capfd.readouterr().out


def test_what_is_no_run_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        code, document = verified(folder, capfd)
        assert code == WRONG
        assert "is no run folder" in document["error"]


def test_it_loads_no_library_of_models(run_dir: Path) -> None:
    program = (
        "import sys\nfrom pipeline.cli.app import main\n"
        f"main(['verify', {str(run_dir)!r}])\n"
        f"print('|', *[m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.rpartition("|")[2].strip() == ""


def test_a_damaged_step_of_a_journal_is_named(
    run_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    journal = run_dir / "journal" / "reason"
    journal.mkdir(parents=True)
    for step in ("step-000000", "step-000001"):
        (journal / f"{step}.parquet").write_text(step)
        digest = hashlib.sha256(b"step-000000").hexdigest()
        (journal / f"{step}.sha256").write_text(digest)
    code, document = verified(run_dir, capfd)
    assert code == FAILED
    assert document["damaged"] == [
        {"path": "journal/reason/step-000001.parquet", "problem": "differs from its checksum"}
    ]


def test_what_was_set_aside_is_damaged_no_more(
    run_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """As a run leaves it that has made an artifact again, and a part of a depth stage."""
    for artifact in (run_dir / "stages" / "model", run_dir / "work" / "depth" / "parts" / "2"):
        shutil.copytree(run_dir / "stages" / "report", artifact.with_name("new"))
        if not artifact.exists():
            shutil.copytree(run_dir / "stages" / "report", artifact)
        (artifact / "model" / "config.json").write_text("other")
        assert set_aside(artifact) is not None
        artifact.with_name("new").rename(artifact)
    code, document = verified(run_dir, capfd)
    assert (code, document["damaged"]) == (OK, [])
    paths = [row["path"] for row in document["artifacts"]]
    assert paths == ["stages/model", "stages/report", "work/depth/parts/2"]
