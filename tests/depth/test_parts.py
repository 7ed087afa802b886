"""A part is made once, and never half there."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.depth.parts import part
from pipeline.errors import Stopped


def context(work: Path, *, stopping: bool = False) -> Any:
    return SimpleNamespace(
        work=work, stopping=lambda: stopping, console=SimpleNamespace(log=lambda _: None)
    )


PLAN: Any = SimpleNamespace(name="depth")


def test_a_part_is_made_once(tmp_path: Path) -> None:
    made = []

    def make(out: Path) -> dict[str, float]:
        (out / "file").write_text("x")
        made.append(out)
        return {"a": 1.5}

    for _ in range(2):
        found = part(PLAN, context(tmp_path), "1-x", make)
        assert found.info == {"a": 1.5}
        assert (found.folder / "file").read_text() == "x"
    assert len(made) == 1


def test_a_part_that_fails_leaves_nothing_and_starts_empty(tmp_path: Path) -> None:
    def broken(out: Path) -> dict[str, float]:
        (out / "half").write_text("x")
        raise RuntimeError("mid-way")

    with pytest.raises(RuntimeError):
        part(PLAN, context(tmp_path), "1-x", broken)
    assert not (tmp_path / "parts" / "1-x").exists()

    def whole(out: Path) -> dict[str, float]:
        assert not list(out.iterdir())
        return {}

    assert part(PLAN, context(tmp_path), "1-x", whole).folder.is_dir()


def test_a_wish_to_stop_comes_between_parts(tmp_path: Path) -> None:
    part(PLAN, context(tmp_path), "1-x", lambda _: {})
    assert part(PLAN, context(tmp_path, stopping=True), "1-x", lambda _: {}).info == {}
    with pytest.raises(Stopped):
        part(PLAN, context(tmp_path, stopping=True), "2-y", lambda _: {})
