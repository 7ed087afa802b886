import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.prompts.prompt_error import PromptError
from pipeline.prompts.row_files import row_files


def refusal(named: str | list[str]) -> str:
    with pytest.raises(PromptError) as caught:
        row_files(named)
    return str(caught.value)


def test_a_pattern_is_sorted_and_a_list_keeps_its_order(tmp_path: Path) -> None:
    for name in ("b10.jsonl", "b2.jsonl", "a.jsonl", "[x].jsonl", "n.txt"):
        (tmp_path / name).touch()
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "c.jsonl").touch()

    def names(*patterns: str) -> list[str]:
        return [p.name for p in row_files([str(tmp_path / pattern) for pattern in patterns])]

    assert names("b*.jsonl", "a.jsonl") == ["b10.jsonl", "b2.jsonl", "a.jsonl"]
    assert names("[x].jsonl") == ["[x].jsonl"]  # a file of that name goes before the pattern
    assert names("**/c.jsonl") == ["c.jsonl"]
    assert row_files(str(tmp_path / "n.txt")) == [tmp_path / "n.txt"]


def test_what_names_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").touch()
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "dataset_info.json").touch()
    file = str(tmp_path / "train.jsonl")
    assert "trian.jsonl; did you mean train.jsonl?" in refusal(str(tmp_path / "trian.jsonl"))
    assert "x*.jsonl matches no file" in refusal([file, str(tmp_path / "x*.jsonl")])
    assert "matches 1 folders and no file" in refusal(str(tmp_path / "sa*"))
    assert f"file: {tmp_path}/*.jsonl" in refusal(str(tmp_path))
    assert f"write hub: {tmp_path}/saved" in refusal(str(tmp_path / "saved"))
    assert "is named twice" in refusal([file, str(tmp_path / "*.jsonl")])
    assert "/dev/zero is a device or a pipe" in refusal("/dev/zero")
    assert "File name too long" in refusal("q" * 5000)
    assert "names no file" in refusal([])


def test_links_without_a_target_are_named(tmp_path: Path) -> None:
    rows, broken, loop = (tmp_path / name for name in ("b.jsonl", "a.jsonl", "loop.jsonl"))
    rows.touch()
    broken.symlink_to("blob/123")
    loop.symlink_to(loop)
    assert "a.jsonl is a link to blob/123, which is not there; link it anew" in refusal(str(broken))
    assert f"a link to {loop}, which is not there" in refusal(str(loop))
    assert "a.jsonl is a link to" in refusal(str(tmp_path / "*.jsonl"))
    broken.unlink()
    broken.symlink_to(rows)
    assert row_files(str(broken)) == [broken]


def test_a_pipe_among_the_files_of_a_pattern_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()
    os.mkfifo(tmp_path / "b.jsonl")
    assert "b.jsonl is a device or a pipe" in refusal(str(tmp_path / "b.jsonl"))
    assert "b.jsonl is a device or a pipe" in refusal(str(tmp_path / "*.jsonl"))


@contextmanager
def an_ordinary_user() -> Iterator[None]:
    """Root may read all, so that it is another user's turn."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_file_that_may_not_be_read_is_named() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "rows.jsonl").touch(mode=0o000)
        (folder / "shut").mkdir(mode=0o700)
        (folder / "shut" / "rows.jsonl").touch()
        with an_ordinary_user():
            assert "rows.jsonl' cannot be opened: Permission denied" in refusal(
                str(folder / "rows.jsonl")
            )
            assert "Permission denied" in refusal(str(folder / "*.jsonl"))
        if os.geteuid() == 0:
            with an_ordinary_user():
                assert "Permission denied" in refusal(str(folder / "shut" / "rows.jsonl"))
