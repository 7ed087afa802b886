"""Artifacts are complete or absent, and notice a changed byte."""

import os
from pathlib import Path
from typing import Any

import pytest

from pipeline import artifacts
from pipeline.artifacts import (
    ArtifactError,
    fingerprint,
    open_artifact,
    place,
    publish,
    whole_file,
    write_atomic,
)


def made(tmp_path: Path) -> Path:
    source = tmp_path / "draft"
    (source / "model").mkdir(parents=True)
    (source / "model" / "weights").write_bytes(b"123")
    publish(
        source, tmp_path / "out" / "a", kind="checkpoint", stage="s", fingerprint="f", seconds=1.5
    )
    return tmp_path / "out" / "a"


def test_published_and_opened(tmp_path: Path) -> None:
    artifact = open_artifact(made(tmp_path))
    assert artifact.manifest.stage == "s"
    assert list(artifact.manifest.files) == ["model/weights"]
    assert not (tmp_path / "draft").exists()


def test_a_changed_or_missing_file_is_named(tmp_path: Path) -> None:
    path = made(tmp_path)
    (path / "model" / "weights").write_bytes(b"124")
    with pytest.raises(ArtifactError, match="model/weights differs"):
        open_artifact(path)
    (path / "model" / "weights").unlink()
    with pytest.raises(ArtifactError, match="model/weights is missing"):
        open_artifact(path)


def test_never_overwritten_and_no_manifest_is_no_artifact(tmp_path: Path) -> None:
    path = made(tmp_path)
    (tmp_path / "again").mkdir()
    with pytest.raises(ArtifactError, match="never overwritten"):
        publish(tmp_path / "again", path, kind="report", stage="s", fingerprint="f")
    with pytest.raises(ArtifactError, match=r"no manifest\.json"):
        open_artifact(tmp_path / "again")


def test_fingerprint_depends_on_content_not_on_key_order() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "row.json"
    write_atomic(path, "old")

    def interrupted() -> None:
        with whole_file(path) as temporary:
            temporary.write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    write_atomic(path, "new")
    assert path.read_text() == "new"


def test_content_and_name_are_on_disk_in_this_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a file and of a folder: all content, the new name, the folder that holds the name."""
    order: list[str] = []
    real = {"replace": os.replace, "rename": os.rename}
    monkeypatch.setattr(artifacts, "sync", lambda path: order.append(path.name))
    for name, function in real.items():

        def renamed(a: Path, b: Path, function: Any = function) -> None:
            order.append(f"-> {b.name}")
            function(a, b)

        monkeypatch.setattr(os, name, renamed)
    write_atomic(tmp_path / "row.json", "{}")
    assert order == [f".row.json.{os.getpid()}", "-> row.json", tmp_path.name]
    order.clear()
    (tmp_path / "draft" / "model").mkdir(parents=True)
    (tmp_path / "draft" / "model" / "weights").write_bytes(b"1")
    place(tmp_path / "draft", tmp_path / "part")
    assert order == ["model", "weights", "draft", "-> part", tmp_path.name]


def test_there_is_one_atomic_writer() -> None:
    """But for `recurrent`, which is copied beside weights and imports nothing of ours."""
    root = Path(artifacts.__file__).parent
    writers = {
        path.name
        for path in root.rglob("*.py")
        if root / "recurrent" not in path.parents
        and any(word in path.read_text() for word in ("os.replace(", "os.fsync(", '.part"'))
    }
    assert writers == {"artifacts.py"}
