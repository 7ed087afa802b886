import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.measure.drops import Drop
from pipeline.plan.identity import entry_identity
from pipeline.prompts.entries import load_entry, reference_mistakes
from pipeline.prompts.prompt_error import PromptError
from pipeline.recipe.schema import Recipe

LONG = "Tom has three red apples and buys five green ones at the market on Sunday morning."
TASK = {"task": "swaps", "size": 5, "difficulty": (2, 3)}


def jsonl(path: Path, *questions: str, column: str = "question") -> str:
    path.write_text("".join(json.dumps({column: q, "answer": "1"}) + "\n" for q in questions))
    return str(path)


def recipe(prompts: dict[str, Any]) -> Recipe:
    stages = {"sft": {"kind": "sft", "rows": "train.answer"}}
    model = {"path": "data/models/tiny"}
    return Recipe.model_validate(
        {"name": "r", "model": model, "prompts": prompts, "stages": stages}
    )


def test_rows_of_an_entry_and_of_a_file_are_left_out_and_counted(tmp_path: Path) -> None:
    train = jsonl(tmp_path / "train.jsonl", "What is 1+1?", "new?", f"Well: {LONG}", "in file")
    test = jsonl(tmp_path / "test.jsonl", "what is 1 + 1", LONG)
    other = jsonl(tmp_path / "other.jsonl", "IN FILE!")
    source = {"file": train, "decontaminate": ["test", other]}
    entry = load_entry(recipe({"train": source, "test": {"file": test}}), "train")
    assert [prompt.question for prompt in entry.prompts] == ["new?"]
    assert [drop for drop in entry.drops if drop.dropped] == [
        Drop(what="rows", reason=reason, dropped=1, total=4, key="prompts.train.decontaminate")
        for reason in (
            "the same question is in test",
            "13 words in a row are in test too",
            "the same question is in other.jsonl",
        )
    ]
    assert [m.row.place for m in entry.left_out["test"]] == [f"{train}, line 1", f"{train}, line 3"]


def test_an_entry_of_its_own_rows_is_as_its_source_has_it(tmp_path: Path) -> None:
    entry = load_entry(recipe({"train": TASK}), "train")
    assert (len(entry.prompts), entry.drops) == (5, ())


def test_repeated_rows_go_together(tmp_path: Path) -> None:
    train = jsonl(tmp_path / "train.jsonl", "a?", "b?", "a?", "A")
    test = jsonl(tmp_path / "test.jsonl", "a")
    prompts = {"train": {"file": train, "decontaminate": ["test"]}, "test": {"file": test}}
    assert [p.question for p in load_entry(recipe(prompts), "train").prompts] == ["b?"]


def test_two_entries_may_name_each_other(tmp_path: Path) -> None:
    a, b = jsonl(tmp_path / "a.jsonl", "a?", "c?"), jsonl(tmp_path / "b.jsonl", "b?", "c?")
    sources = {"train": {"file": a, "decontaminate": ["b"]}, "b": {"file": b}}
    sources["b"]["decontaminate"] = ["train"]
    both = recipe(sources)
    assert [p.question for p in load_entry(both, "train").prompts] == ["a?"]
    assert [p.question for p in load_entry(both, "b").prompts] == ["b?"]


def test_nothing_left_is_refused(tmp_path: Path) -> None:
    train = jsonl(tmp_path / "train.jsonl", "a?", "b?")
    source = {"file": train, "decontaminate": [train]}
    with pytest.raises(PromptError, match="all 2 rows are in .*nothing is left"):
        load_entry(recipe({"train": source}), "train")


def test_a_file_may_have_the_columns_of_the_entry_or_its_own(tmp_path: Path) -> None:
    train = jsonl(tmp_path / "train.jsonl", "a?", "b?", "c?", column="problem")
    same = jsonl(tmp_path / "same.jsonl", "a", column="problem")
    plain = jsonl(tmp_path / "plain.jsonl", "b")
    odd = jsonl(tmp_path / "odd.jsonl", "c", column="prompt_text")
    source = {"file": train, "columns": {"question": "problem"}}
    good = recipe({"train": source | {"decontaminate": [same, plain]}})
    assert [p.question for p in load_entry(good, "train").prompts] == ["c?"]
    with pytest.raises(PromptError, match=r"odd\.jsonl, line 1: column 'problem' is missing.*name"):
        load_entry(recipe({"train": source | {"decontaminate": [odd]}}), "train")


def test_wrong_references_are_named() -> None:
    sources = {"train": TASK | {"decontaminate": ["train", "tset", "gone.jsonl"]}, "test": TASK}
    itself, typo, gone = reference_mistakes(recipe(sources), "train")
    assert itself.startswith("prompts.train.decontaminate: train cannot be decontaminated by")
    assert "tset is neither a prompts entry; did you mean test? (test) nor a file" in typo
    assert "gone.jsonl is neither" in gone


def test_what_an_entry_is_decontaminated_by_decides_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "other.jsonl"
    source = TASK | {"decontaminate": [jsonl(path, "a?")]}
    before = entry_identity(recipe({"train": source}), "train")
    assert before == entry_identity(recipe({"train": source}), "train")
    jsonl(path, "b?")
    assert before != entry_identity(recipe({"train": source}), "train")
    assert before != entry_identity(recipe({"train": TASK}), "train")
    test = {"train": TASK | {"decontaminate": ["test"]}, "test": TASK | {"seed": 1}}
    changed = test | {"test": TASK | {"seed": 2}}
    assert entry_identity(recipe(test), "train") != entry_identity(recipe(changed), "train")
