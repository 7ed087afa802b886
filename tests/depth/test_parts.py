"""A part is made once, and never half there."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.artifacts import MANIFEST
from pipeline.depth.parts import last_part, part
from pipeline.errors import Stopped
from pipeline.measure.ledger import PhaseClock, phase_totals
from pipeline.train.job import PARTS_FILE, whole_rows


def bench(work: Path, *, stopping: bool = False, fingerprint: str = "f") -> Any:
    ctx = SimpleNamespace(
        work=work, stopping=lambda: stopping, console=SimpleNamespace(log=lambda _: None)
    )
    plan = SimpleNamespace(name="depth", fingerprint=fingerprint)
    return SimpleNamespace(plan=plan, ctx=ctx, clock=PhaseClock())


def test_a_part_is_made_once(tmp_path: Path) -> None:
    made = []

    def make(_: Any, out: Path, *, text: str) -> dict[str, float]:
        (out / "file").write_text(text)
        made.append(out)
        return {"a": 1.5}

    for _ in range(2):
        found = part(bench(tmp_path), "1-x", make, text="x")
        assert found.model == tmp_path / "parts" / "1-x" / "model"
        assert found.info == {"a": 1.5}
        assert (found.folder / "file").read_text() == "x"
    assert len(made) == 1


def test_a_part_that_fails_leaves_nothing_and_starts_empty(tmp_path: Path) -> None:
    def broken(_: Any, out: Path) -> dict[str, float]:
        (out / "half").write_text("x")
        raise RuntimeError("mid-way")

    with pytest.raises(RuntimeError):
        part(bench(tmp_path), "1-x", broken)
    assert not (tmp_path / "parts" / "1-x").exists()

    def whole(_: Any, out: Path) -> dict[str, float]:
        assert not list(out.iterdir())
        return {}

    assert part(bench(tmp_path), "1-x", whole).folder.is_dir()


def test_a_wish_to_stop_comes_between_parts(tmp_path: Path) -> None:
    part(bench(tmp_path), "1-x", lambda *_: {})
    assert part(bench(tmp_path, stopping=True), "1-x", lambda *_: {}).info == {}
    with pytest.raises(Stopped):
        part(bench(tmp_path, stopping=True), "2-y", lambda *_: {})


def test_weights_are_on_disk_before_a_part_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []

    def fsync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        synced.append(path.name)

    def make(_: Any, out: Path) -> dict[str, float]:
        (out / "model").mkdir()
        (out / "model" / "model.safetensors").write_text("weights")
        return {}

    def rename(source: Path, target: Path) -> None:
        assert {"model.safetensors", MANIFEST} <= set(synced)
        Path(source).replace(target)

    monkeypatch.setattr("os.fsync", fsync)
    monkeypatch.setattr("os.rename", rename)
    assert part(bench(tmp_path), "1-x", make).model.is_dir()
    assert synced[-1] == "parts"


def test_a_damaged_part_is_made_again(tmp_path: Path) -> None:
    def make(_: Any, out: Path) -> dict[str, float]:
        (out / "head").write_text("weights")
        return {"a": 1.0}

    path = part(bench(tmp_path), "1-x", make).folder
    (path / "head").write_text("weightz")
    again = part(bench(tmp_path), "1-x", make)
    assert (again.folder, again.info) == (path, {"a": 1.0})
    assert (path / "head").read_text() == "weights"
    assert (path.parent / "1-x.old-1" / "head").read_text() == "weightz"


def test_what_the_last_part_alone_reads_makes_it_again_alone(tmp_path: Path) -> None:
    made: list[str] = []

    def run(fingerprint: str) -> None:
        stage = bench(tmp_path, fingerprint=fingerprint)
        part(stage, "7-x", lambda *_: made.append("7-x") or {})
        last_part(stage, "8-y", lambda *_: made.append("8-y") or {})

    for fingerprint in ("f", "f", "g"):
        run(fingerprint)
    assert made == ["7-x", "8-y", "8-y"]
    assert (tmp_path / "parts" / "8-y.old-1").is_dir()


def test_what_parts_took_is_written_down(tmp_path: Path) -> None:
    now = [0.0]
    stage = bench(tmp_path)
    stage.clock = PhaseClock(clock=lambda: now[0])

    def make(one: Any, _: Path) -> dict[str, float]:
        with one.clock.during("generation"):
            now[0] += 4.0
        with one.clock.during("training"):
            now[0] += 2.0
        now[0] += 1.0
        return {}

    for name in ("1-x", "2-y", "1-x"):
        now[0] += 100.0  # between parts
        part(stage, name, make)
    rows = whole_rows(tmp_path / PARTS_FILE)
    assert [(row["step"], row["part"], row["part_seconds"]) for row in rows] == [
        (1, "1-x", 7.0),
        (2, "2-y", 7.0),
    ]
    assert phase_totals(rows, seconds=20.0) == {"generation": 8.0, "training": 4.0, "idle": 8.0}
