"""A checkpoint that is damaged, or was never whole, is none to go on from."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.errors import RunFailed
from pipeline.train.checkpoints import (
    COMPLETE_FILE,
    check_room,
    keep_newest,
    latest_whole,
    seal,
)


def checkpoint(folder: Path, step: int, *, complete: bool = True) -> Path:
    path = folder / f"checkpoint-{step}"
    (path / "global_step").mkdir(parents=True)
    (path / "model.safetensors").write_text("weights")
    (path / "global_step" / "optimizer.pt").write_text("moments")
    if complete:
        seal(path)
    return path


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


DAMAGES: tuple[tuple[str, str, Callable[[Path], object], bool], ...] = (
    ("cut", "model.safetensors", lambda p: p.write_bytes(p.read_bytes()[:-1]), False),
    ("flipped", "model.safetensors", flipped, True),
    ("flipped below", "global_step/optimizer.pt", flipped, True),
    ("gone", "global_step/optimizer.pt", Path.unlink, False),
    ("empty mark", COMPLETE_FILE, lambda p: p.write_text(""), False),
    ("other mark", COMPLETE_FILE, lambda p: p.write_text('{"files": 3}'), False),
    ("mark of nothing", COMPLETE_FILE, lambda p: p.write_text('{"files": {}}'), False),
)


@pytest.mark.parametrize(
    ("name", "damage", "needs_checksums"), [row[1:] for row in DAMAGES], ids=[r[0] for r in DAMAGES]
)
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_used(
    name: str, damage: Callable[[Path], object], needs_checksums: bool, tmp_path: Path
) -> None:
    checkpoint(tmp_path, 2)
    damage(checkpoint(tmp_path, 10) / name)
    told: list[str] = []
    for checksums in (False, True):
        newest = latest_whole(tmp_path, checksums=checksums, tell=told.append)
        steps = 10 if needs_checksums and not checksums else 2
        assert newest == tmp_path / f"checkpoint-{steps}"
    (sentence,) = told
    assert f"{tmp_path / 'checkpoint-10'} is damaged ({name} " in sentence
    assert (tmp_path / "checkpoint-10.old-1").is_dir()


def test_saves_that_were_cut_short_are_removed(tmp_path: Path) -> None:
    assert latest_whole(tmp_path / "missing", checksums=True) is None
    checkpoint(tmp_path, 9)
    checkpoint(tmp_path, 10)
    checkpoint(tmp_path, 20, complete=False)
    (tmp_path / "checkpoint-30").symlink_to("nowhere")
    (tmp_path / "checkpoint-40").write_text("")
    assert latest_whole(tmp_path, checksums=True) == tmp_path / "checkpoint-10"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-9"]


def test_the_newest_two_stay(tmp_path: Path) -> None:
    for step in (2, 4, 10):
        checkpoint(tmp_path, step)
    keep_newest(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-4"]


def test_a_save_that_cannot_fit_is_refused_with_the_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(free=2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    check_room(tmp_path / "new", least_bytes=2**20)
    with pytest.raises(RunFailed, match=r"takes 2\.0 MiB, and 1\.0 MiB are free; it was not begun"):
        check_room(tmp_path / "new", least_bytes=2**21)
    (checkpoint(tmp_path, 2) / "optimizer.pt").write_bytes(bytes(3 * 2**20))
    with pytest.raises(RunFailed, match=f"{tmp_path}: No space left on device: .* takes 3"):
        check_room(tmp_path, least_bytes=1)
