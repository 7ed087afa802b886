"""Artifacts are complete or absent, and notice a changed byte."""

from pathlib import Path

import pytest

from pipeline.artifacts import ArtifactError, fingerprint, open_artifact, publish


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
