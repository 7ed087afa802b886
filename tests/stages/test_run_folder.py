"""What of a run folder is finished: whole artifacts of the same recipe, and nothing else."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.artifacts import MANIFEST, publish
from pipeline.stages.run_folder import RunFolder, standing


def published(folder: Path) -> Path:
    draft = folder / "draft"
    draft.mkdir(parents=True)
    (draft / "weights").write_text("123")
    publish(draft, folder / "cold", kind="checkpoint", stage="cold", fingerprint="f")
    return folder / "cold"


def test_a_whole_artifact_of_the_same_recipe_stands(tmp_path: Path) -> None:
    told: list[str] = []
    path = published(tmp_path)
    artifact = standing(path, "f", tell=told.append)
    assert artifact is not None
    assert artifact.path == path
    assert standing(tmp_path / "other", "f", tell=told.append) is None
    assert told == []
    assert standing(path, "g", tell=told.append) is None
    assert (tmp_path / "cold.old-1" / "weights").exists()
    assert told == [
        f"{path} was made from another recipe, data or code: kept as {path}.old-1, and made again"
    ]


@pytest.mark.parametrize(
    ("name", "damage", "problem"),
    [
        ("weights", lambda p: p.write_text("124"), "weights differs from its checksum"),
        ("weights", Path.unlink, "weights is missing"),
        (MANIFEST, lambda p: p.write_text("{"), "manifest.json is damaged"),
        (MANIFEST, Path.unlink, "it has no manifest.json"),
    ],
)
def test_a_damaged_artifact_is_set_aside_and_named(
    name: str, damage: Callable[[Path], object], problem: str, tmp_path: Path
) -> None:
    told: list[str] = []
    path = published(tmp_path)
    damage(path / name)
    assert standing(path, "f", tell=told.append) is None
    (sentence,) = told
    assert f"{path} is damaged: " in sentence
    assert problem in sentence
    assert f"set aside as {path}.old-1, and made again" in sentence
    assert not path.exists()


def test_work_stands_where_only_what_the_last_part_reads_has_changed(tmp_path: Path) -> None:
    told: list[str] = []
    folder = RunFolder(tmp_path)

    def begin(fingerprint: str, work_fingerprint: str) -> Path:
        stage: Any = SimpleNamespace(
            name="depth", fingerprint=fingerprint, work_fingerprint=work_fingerprint
        )
        return folder.begin(stage, tell=told.append)

    (begin("f", "w") / "done").touch()
    assert (begin("g", "w") / "done").exists()
    assert told == []
    assert not (begin("h", "v") / "done").exists()
    assert "depth was begun from another recipe, data or code" in told[0]
