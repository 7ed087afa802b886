import json
from pathlib import Path
from typing import Any

from pipeline.plan.data_notes import data_notes
from pipeline.prompts.entries import source_prompts
from pipeline.prompts.findings import Finding, recipe_findings
from pipeline.recipe.schema import Recipe

LONG = "Tom has three red apples and buys five green ones at the market on Sunday morning."
Rows = list[tuple[str, str | None]]


def jsonl(path: Path, rows: Rows) -> str:
    lines = [{"question": q} | ({} if a is None else {"answer": a}) for q, a in rows]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def recipe(prompts: dict[str, Any], *, watch: bool = False) -> Recipe:
    """`train` is trained on, `test` evaluated on, or watched."""
    watched = {"watch": {"prompts": "test", "every_steps": 1}} if watch else {}
    reason = {"kind": "grpo", "prompts": "train", "rewards": ["answer"], "steps": 1}
    report = {"kind": "evaluate", "models": ["base"], "prompts": "test"}
    stages: dict[str, Any] = {"reason": {**reason, **watched}}
    if "test" in prompts and not watch:
        stages["report"] = report
    return Recipe.model_validate(
        {
            "name": "r",
            "model": {"path": "data/models/tiny"},
            "prompts": prompts,
            "rewards": {"answer": {"use": "builtin:math_answer"}},
            "stages": stages,
        }
    )


def findings(recipe: Recipe, **options: Any) -> list[Finding]:
    return recipe_findings(
        recipe, {name: source_prompts(recipe, name) for name in recipe.prompts}, **options
    )


def of_rows(tmp_path: Path, train: Rows, test: Rows | None = None, **options: Any) -> list[Finding]:
    files = {"train": {"file": jsonl(tmp_path / "train.jsonl", train)}}
    if test is not None:
        files["test"] = {"file": jsonl(tmp_path / "test.jsonl", test)}
    return findings(recipe(files), **options)


def test_a_question_with_two_golds_is_named(tmp_path: Path) -> None:
    (finding,) = of_rows(tmp_path, [("q?", "1"), ("other?", "1"), ("Q ?", "2"), ("q", " 1 ")])
    assert (finding.kind, finding.level, finding.total, finding.of) == (
        "two_golds",
        "warning",
        1,
        4,
    )
    assert (
        f"{tmp_path / 'train.jsonl'}, line 3 and line 1, 'Q ?' is '2' and '1'" in finding.sentence
    )
    assert finding.sentence.startswith("prompts.train: 1 of 4 rows have the question of an earlier")


def test_two_golds_are_an_error_where_the_reward_tells_them_apart(tmp_path: Path) -> None:
    golds = {("1/2", "0.5"): True}

    def same_gold(entry: str) -> Any:
        return lambda row, other: golds.get((row.answer, other.answer), False)

    rows: Rows = [("q?", "0.5"), ("q?", "1/2"), ("p?", "0.5"), ("P ?", "3")]
    (finding,) = of_rows(tmp_path, rows, same_gold=same_gold)
    assert (finding.level, [p[0].question for p in finding.pairs]) == ("warning", ["P ?"])
    (finding,) = of_rows(tmp_path, [*rows, ("p? ", "3")], same_gold=same_gold)
    assert (finding.level, finding.total) == ("error", 2)


def test_a_repeated_row_is_named_whether_it_has_a_gold_or_not(tmp_path: Path) -> None:
    for gold in ("1", None):
        rows: Rows = [("q?", gold), ("other?", gold), (" q?\n", gold), ("q?", gold)]
        (finding,) = of_rows(tmp_path, rows)
        assert (finding.kind, finding.level, finding.total) == ("duplicate", "warning", 2)
        assert "line 3 and line 1" in finding.sentence


def test_many_rows_are_counted_and_a_few_shown(tmp_path: Path) -> None:
    (finding,) = of_rows(tmp_path, [("q?", str(i)) for i in range(10)])
    assert "9 of 10 rows" in finding.sentence
    assert finding.sentence.count("line 1,") == 3
    assert "and 6 more" in finding.sentence
    document = finding.document()
    assert (document["total"], document["of"], len(document["examples"])) == (9, 10, 3)
    assert document["examples"][0]["place"] == f"{tmp_path / 'train.jsonl'}, line 2"


def test_disguised_rows_of_the_held_out_set_are_named(tmp_path: Path) -> None:
    train: Rows = [("WHAT is\n1 + 1", "2"), ("new?", "1"), (f"Well: {LONG}", "8")]
    test: Rows = [("What is 1+1?", "2"), (LONG, "8"), ("x?", "1")]
    (equal,) = of_rows(tmp_path, train, test)
    assert (equal.kind, equal.level) == ("in_held_out", "warning")
    assert "1 of 3 rows are in test, on which stage report evaluates (1 of its 3" in equal.sentence
    assert "decontaminate: [test]" in equal.sentence
    assert f"line 1 and {tmp_path / 'test.jsonl'}, line 1" in equal.sentence
    assert [f.kind for f in of_rows(tmp_path, train, test, near=True)] == [
        "in_held_out",
        "near_held_out",
    ]


def test_one_file_and_one_entry_for_both_are_named(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "rows.jsonl", [("a?", "1"), ("b?", "2")])
    copy = jsonl(tmp_path / "copy.jsonl", [("a?", "1"), ("b?", "2")])
    for other in (file, copy):
        (finding,) = findings(recipe({"train": {"file": file}, "test": {"file": other}}))
        assert "2 of 2 rows are in test" in finding.sentence
        assert "the two read one file" in finding.sentence
    one = recipe({"train": {"file": file}}).model_dump(exclude_unset=True)
    one["stages"]["report"] = {"kind": "evaluate", "models": ["base"], "prompts": "train"}
    (finding,) = findings(Recipe.model_validate(one))
    assert finding.kind == "same_entry"
    assert "stage reason trains on it and stage report evaluates on it" in finding.sentence


def test_watched_prompts_count_as_held_out(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "rows.jsonl", [("a?", "1")])
    (finding,) = findings(recipe({"train": {"file": file}, "test": {"file": file}}, watch=True))
    assert "on which stage reason evaluates" in finding.sentence


def test_tasks_are_compared_to_the_letter(tmp_path: Path) -> None:
    task = {"task": "shuffles", "size": 300, "difficulty": (1, 2)}
    assert findings(recipe({"train": task, "test": task | {"split": "test", "size": 40}})) == []
    (finding,) = findings(recipe({"train": task, "test": task | {"size": 20}}))
    assert finding.total == 20


def test_a_plan_reads_files_and_counts_what_a_run_leaves_out(tmp_path: Path) -> None:
    train = jsonl(tmp_path / "train.jsonl", [("a?", "1"), ("b?", "1"), ("b?", "2")])
    test = jsonl(tmp_path / "test.jsonl", [("A", "1")])
    sources: dict[str, Any] = {"train": {"file": train}, "test": {"file": test}}
    assert [f.kind for f in data_notes(recipe(sources)).findings] == ["two_golds", "in_held_out"]
    sources["train"]["decontaminate"] = ["test"]
    notes = data_notes(recipe(sources))
    assert [f.kind for f in notes.findings] == ["two_golds"]
    assert "note: 1 of 3 rows left out: the same question is in test" in notes.sentences[-1]
    sources["test"] = {"task": "swaps", "size": 3, "difficulty": (1, 2)}
    notes = data_notes(recipe(sources))
    assert (notes.drops, notes.later) == ([], ["train"])


def test_what_was_said_before_belongs_to_a_question(tmp_path: Path) -> None:
    def talk(*turns: str) -> dict[str, Any]:
        roles = ("user", "assistant")
        return {"messages": [{"role": roles[i % 2], "content": t} for i, t in enumerate(turns)]}

    train = [
        talk("1+1?", "2", "Why?", "So."),
        talk("1+2?", "3", "Why?", "Because."),
        talk("7?", "7"),
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, train)))
    (tmp_path / "b.jsonl").write_text(json.dumps(talk("Why?", "Oh.")))
    files = {
        "train": {"file": str(tmp_path / "a.jsonl")},
        "test": {"file": str(tmp_path / "b.jsonl")},
    }
    assert findings(recipe(files)) == []
    (tmp_path / "b.jsonl").write_text(json.dumps(train[1]))
    (finding,) = findings(recipe(files))
    assert [row.place for row, _ in finding.pairs] == [f"{tmp_path / 'a.jsonl'}, line 2"]


def test_the_file_of_two_rows_is_said_once(tmp_path: Path) -> None:
    rows = [{"question": "q?", "answer": "1"}, {"question": "q?", "answer": "2"}]
    (tmp_path / "a.json").write_text(json.dumps(rows, indent=1))
    (finding,) = findings(recipe({"train": {"file": str(tmp_path / "a.json")}}))
    assert f"{tmp_path / 'a.json'}, row 2, line 6 and row 1, line 2, 'q?'" in finding.sentence


def test_rows_with_a_gold_in_common_agree(tmp_path: Path) -> None:
    rows = [{"question": "q?", "answer": golds} for golds in (["1", "one"], ["uno", "one"], ["2"])]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = findings(recipe({"train": {"file": str(tmp_path / "a.jsonl")}}))
    assert [(f.kind, [row.answer for row, _ in f.pairs]) for f in found] == [
        ("two_golds", ["2"]),
        ("duplicate", ["uno"]),
    ]
