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
