"""What goes to the hub, and what it says when it does not take it."""

from pathlib import Path

import pytest

from pipeline.use.push import Push, PushFailed, PushRefused


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.bin").write_bytes(b"12345")
    (tmp_path / "README.md").write_text("# A")
    return tmp_path


def test_a_dry_run_lists_what_would_go(folder: Path) -> None:
    push = Push.to("me/model", folder, kind="model")
    assert list(push.lines()) == [
        "model me/model:",
        "  README.md  3 bytes",
        "  data/a.bin  5 bytes",
    ]
    assert push.document()["files"][1] == {"name": "data/a.bin", "bytes": 5}


@pytest.mark.parametrize("name", ["a/b/c", "-x/y", "me/a..b", ""])
def test_a_name_that_is_none(folder: Path, name: str) -> None:
    with pytest.raises(PushRefused, match="--push"):
        Push.to(name, folder, kind="model")


def test_a_hub_that_does_not_answer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    push = Push.to("me/model", folder, kind="model")
    with pytest.raises(PushFailed, match="the hub did not take it"):
        push.run()
