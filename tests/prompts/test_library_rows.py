"""Folders of data sets, as the hub and `save_to_disk` leave them."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.prompts.prompt_error import PromptError
from pipeline.prompts.sources import load_prompts
from pipeline.recipe.prompt_source import PromptSource

ROWS = [{"question": f"{i}?", "answer": str(i), "n": None, "m": [{"k": 1.5}]} for i in range(3)]


def load(**source: Any) -> list[str]:
    prompts = load_prompts("train", PromptSource(**source), seed=0)
    assert all(prompt.columns == {"n": None, "m": [{"k": 1.5}]} for prompt in prompts)
    return [f"{prompt.question}{prompt.answer}" for prompt in prompts]


def refusal(**source: Any) -> str:
    with pytest.raises(PromptError) as caught:
        load(**source)
    return str(caught.value)


def test_saved_data_sets_are_read_with_and_without_splits(tmp_path: Path) -> None:
    import datasets

    rows = datasets.Dataset.from_list(ROWS)
    rows.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": rows, "test": rows.select([2])}).save_to_disk(tmp_path / "two")
    assert load(hub=str(tmp_path / "one")) == ["0?0", "1?1", "2?2"]
    assert load(hub=str(tmp_path / "two"), split="test") == ["2?2"]
    said = refusal(hub=str(tmp_path / "two"), split="tset")
    assert "has no split 'tset'; did you mean test? (it has train, test)" in said
    assert "was saved without splits; remove split" in refusal(
        hub=str(tmp_path / "one"), split="test"
    )
    for file in (tmp_path / "one").glob("*.arrow"):
        file.write_bytes(file.read_bytes()[:100])
    assert "cannot be read" in refusal(hub=str(tmp_path / "one"))


def test_a_folder_of_the_hub_is_read_where_it_lies(tmp_path: Path) -> None:
    import datasets

    (tmp_path / "data").mkdir()
    datasets.Dataset.from_list(ROWS).to_parquet(tmp_path / "data" / "test-00000-of-00001.parquet")
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# A data set\n")
    assert load(hub=str(tmp_path), split="test") == ["0?0", "1?1", "2?2"]
    (tmp_path / "data" / "test-00000-of-00001.parquet").write_bytes(b"PAR1" + bytes(40))
    assert "cannot be read" in refusal(hub=str(tmp_path), split="test")


def test_a_missing_number_of_parquet_is_null_and_no_gold(tmp_path: Path) -> None:
    import datasets

    rows = [{"question": "a", "answer": 1.0, "n": 2.0}, {"question": "b", "answer": 2.5, "n": None}]
    table: Any = datasets.Dataset.from_list(rows).to_pandas()
    table.to_parquet(tmp_path / "rows.parquet")
    prompts = load_prompts("t", PromptSource(file=str(tmp_path / "rows.parquet")), seed=0)
    assert [prompt.columns for prompt in prompts] == [{"n": 2.0}, {"n": None}]
    table.loc[1, "answer"] = float("nan")
    table.to_parquet(tmp_path / "rows.parquet")
    source: dict[str, Any] = {"file": str(tmp_path / "rows.parquet")}
    with pytest.raises(PromptError, match=r"rows\.parquet, row 2: column 'answer'"):
        load_prompts("t", PromptSource(**source), seed=0)
    assert json.dumps(prompts[1].columns) == '{"n": null}'
