import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.plan.data_notes import data_notes
from pipeline.plan.plan import make_plan
from pipeline.prompts import sources
from pipeline.prompts.golds import check_golds
from pipeline.prompts.prompt_error import PromptError
from pipeline.prompts.sources import check_file, check_source, load_prompts
from pipeline.prompts.tasks import split_of
from pipeline.recipe.prompt_source import PromptSource
from pipeline.recipe.schema import Recipe
from pipeline.records import Prompt, read_prompts, write_prompts
from rewards.structured import FAULTY_GYM_SCORERS

SUMS: dict[str, Any] = {"task": "sums", "size": 40, "difficulty": (2, 4)}


def jsonl(path: Path, *rows: Any) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def load(seed: int = 7, **source: Any) -> list[Prompt]:
    return load_prompts("train", PromptSource(**source), seed=seed)


def refusal(**source: Any) -> str:
    with pytest.raises(PromptError) as caught:
        load(**source)
    return str(caught.value)


def test_a_task_keeps_its_problem_fields() -> None:
    prompt = load(**SUMS)[0]
    assert prompt.columns["task"] == "sums"
    assert prompt.columns["difficulty"] == prompt.columns["needed_depth"]
    assert prompt.columns["worked"].endswith(f"={prompt.answer}")


def test_a_task_depends_on_seed_and_split_alone() -> None:
    assert load(**SUMS) == load(**SUMS)
    assert load(**SUMS) != load(seed=8, **SUMS)
    assert load(seed=8, **SUMS) == load(**SUMS, seed=8)
    held_out = {p.question for p in load(**SUMS, split="test")}
    assert not held_out & {p.question for p in load(**SUMS)}


def test_the_seed_of_a_source_wins() -> None:
    recipe_seed = load_prompts("t", PromptSource(**SUMS, seed=8), seed=7)
    assert recipe_seed == load_prompts("t", PromptSource(**SUMS), seed=8)


def test_several_tasks_are_mixed_evenly() -> None:
    names = ["sums", "swaps", "chains"]
    mixed = load(task=names, size=31, difficulty=(2, 4))
    counts = [sum(p.columns["task"] == name for p in mixed) for name in names]
    assert counts == [11, 10, 10]
    assert len({p.columns["task"] for p in mixed[:10]}) == 3
    assert mixed == load(task=names, size=31, difficulty=(2, 4))


def test_an_example_of_one_of_the_entry_s_own_questions_is_refused() -> None:
    first = load(**SUMS)[0]
    example = {"question": f" {first.question}", "answer": first.answer}
    with pytest.raises(PromptError, match=r"prompts.train: examples\[1\] answers a question"):
        load(**SUMS, examples=[{"question": "2+2?", "answer": "4"}, example])
    prompts = load(**SUMS, examples=[{"question": "2+2?", "answer": "4"}])
    assert prompts == load(**SUMS)  # an example is no part of what tells questions apart


def test_ids_come_from_the_question() -> None:
    few = load(**{**SUMS, "size": 5})
    assert [p.id for p in few] == [p.id for p in load(**SUMS)[:5]]
    assert len({p.id for p in load(**SUMS)}) == 40


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"task": "hop", "size": 2, "difficulty": (1, 2)}, "did you mean hops?"),
        ({"task": "hops", "size": 2}, "difficulty is missing"),
        ({**SUMS, "split": "valid"}, "split 'valid' is unknown"),
        ({**SUMS, "answer_after": "####"}, "answer_after means nothing for a task"),
        ({**SUMS, "options": {"a": 1}}, "options means nothing for a task source"),
        ({**SUMS, "task": ["sums", "sums"]}, "listed 2 times"),
        ({**SUMS, "task": []}, "names no task"),
        ({**SUMS, "difficulty": (1, 1), "size": 10_000}, "distinct train questions"),
        ({"gym": "leg_counting", "size": 2, "split": "dev"}, "split 'dev' is unknown"),
        ({"gym": "leg_counting", "size": 2, "care": (0, 1)}, "care means nothing for a gym"),
        ({"gym": "leg_countin", "size": 2}, "did you mean leg_counting?"),
        ({"gym": "leg_counting", "size": 2, "options": {"min_animal": 1}}, "mean min_animals?"),
        ({"gym": "leg_counting", "size": 2, "options": {"min_animals": -1}}, "refuses its options"),
        ({"gym": "coin_flip", "size": 100_000, "options": {"max_trials": 3}}, "distinct train"),
        ({"file": "x.jsonl", "split": "test"}, "a file has no splits"),
        ({"file": "missing.jsonl"}, "there is no file missing.jsonl"),
    ],
)
def test_a_wrong_source_is_refused(source: dict[str, Any], said: str) -> None:
    message = refusal(**source)
    assert message.startswith("prompts.train: ")
    assert said in message


@pytest.mark.parametrize("task", sorted(FAULTY_GYM_SCORERS))
def test_faulty_gym_scorers_are_refused(task: str) -> None:
    assert FAULTY_GYM_SCORERS[task] in refusal(gym=task, size=2)


@pytest.mark.parametrize("task", ["leg_counting", "word_ladder", "acre", "countdown"])
def test_a_gym_answer_scores_full_marks_after_parquet(task: str, tmp_path: Path) -> None:
    import reasoning_gym

    write_prompts(load(gym=task, size=12), tmp_path / "prompts.parquet")
    prompts = read_prompts(tmp_path / "prompts.parquet")
    score: Any = reasoning_gym.get_score_answer_fn(task)
    assert check_golds(prompts, lambda p: score(str(p.answer), p.columns["entry"])) == []
    assert {p.columns["gym"] for p in prompts} == {task}


def test_gym_splits_are_disjoint_by_the_text() -> None:
    train = load(gym="leg_counting", size=30)
    test = load(gym="leg_counting", size=30, split="test")
    assert {split_of(p.question) for p in train} == {"train"}
    assert {split_of(p.question) for p in test} == {"test"}
    assert train == load(gym="leg_counting", size=30)
    assert len({p.id for p in train}) == 30
    assert len(load(gym="leg_counting", size=1, split="test")) == 1
    assert train[0] != load(seed=8, gym="leg_counting", size=30)[0]


def test_a_file_is_read_with_its_columns_mapped(tmp_path: Path) -> None:
    row = {"problem": " 2+2? ", "solution": 4, "level": "easy", "tags": ["a"]}
    path = jsonl(tmp_path / "rows.jsonl", row, row)
    columns = {"question": "problem", "answer": "solution", "grade": "level"}
    first, second = load(file=str(path), columns=columns)
    assert (first.question, first.answer) == (" 2+2? ", "4")
    assert (first.place, second.place) == (f"{path}, line 1", f"{path}, line 2")
    assert first.columns == {"grade": "easy", "tags": ["a"]}
    assert second.id == f"{first.id}-2"


def test_a_file_is_checked_row_by_row_before_it_is_loaded(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", {"question": "1+1?", "answer": "2"})
    source = PromptSource(file=str(path))
    assert len(load_prompts("train", source, seed=0)) == 1
    check_source("train", source)
    assert check_file(source) == 1


def test_the_answer_is_cut_after_its_mark(tmp_path: Path) -> None:
    row = {"question": "q", "answer": "two and two #### is\n#### 4 "}
    prompt = load(file=str(jsonl(tmp_path / "a.jsonl", row)), answer_after="####")[0]
    assert (prompt.answer, prompt.columns["worked"]) == ("4", "two and two #### is")
    row |= {"worked": "theirs"}
    prompt = load(file=str(jsonl(tmp_path / "b.jsonl", row)), answer_after="####")[0]
    assert prompt.columns["worked"] == "theirs"


def test_size_takes_the_first_rows(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", *({"question": f"q{i}"} for i in range(3)))
    prompts = load(file=str(path), size=2)
    assert [p.question for p in prompts] == ["q0", "q1"]
    assert prompts[0].answer is None
    assert "asks for 4 rows and" in refusal(file=str(path), size=4)


GOOD = '{"question": "q", "answer": "a"}\n'


@pytest.mark.parametrize(
    ("text", "source", "said"),
    [
        (GOOD + '{"question": "q", "answer": }\n', {}, "line 2, column 29: not JSON"),
        (GOOD + "[1]\n", {}, "line 2: a list where a JSON object"),
        (GOOD + "\n" + '{"question": "q"}\n', {}, "line 3: column 'answer' is missing"),
        ('{"question": "q"}\n' + GOOD, {}, "line 2: the row has 'answer' and the first"),
        ('{"Question": "q"}\n', {}, "line 1: column 'question' is missing; did you mean Questio"),
        ('{"question": ["q"]}\n', {}, "column 'question' holds a list, not text"),
        ('{"question": " "}\n', {}, "column 'question' is empty"),
        ('{"question": "q", "answer": null}\n', {}, "column 'answer' is null; fill it"),
        (GOOD, {"columns": {"grade": "levle"}}, "column 'levle' is missing"),
        (GOOD, {"answer_after": "####"}, "nothing follows '####'"),
        ("\n", {}, "has no rows"),
    ],
)
def test_a_malformed_row_is_named(
    text: str, source: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    message = refusal(file=str(path), **source)
    assert str(path) in message
    assert said in message
    with pytest.raises(PromptError, match=r"rows\.jsonl"):
        check_file(PromptSource(file=str(path), **source))


def test_bytes_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(GOOD.encode() + b'{"question": "\xff"}\n')
    assert "line 2: byte 15 is not UTF-8" in refusal(file=str(path))


def test_a_close_file_name_is_suggested(tmp_path: Path) -> None:
    jsonl(tmp_path / "train.jsonl", {"question": "q"})
    assert "did you mean train.jsonl?" in refusal(file=str(tmp_path / "trian.jsonl"))


def test_a_hub_data_set_is_read_from_a_folder(tmp_path: Path) -> None:
    jsonl(tmp_path / "test.jsonl", {"query": "1+2?", "answer": "so #### 3"})
    source: dict[str, Any] = {"hub": str(tmp_path), "split": "test", "answer_after": "####"}
    prompt = load(**source, columns={"question": "query"})[0]
    assert (prompt.question, prompt.answer) == ("1+2?", "3")
    message = refusal(**source, columns={"question": "quer"})
    assert f"{tmp_path}, row 1: column 'quer' is missing; did you mean query?" in message
    assert "cannot be read" in refusal(**{**source, "split": "dev"})


def test_an_unreachable_hub_is_explained() -> None:
    code = (
        "from pipeline.prompts.sources import *; from pipeline.recipe.schema import PromptSource\n"
        "load_prompts('train', PromptSource(hub='no-such/set'), seed=0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"HF_HUB_OFFLINE": "1", "PYTHONPATH": "."},
        capture_output=True,
        text=True,
    )
    assert "prompts.train: data set no-such/set cannot be fetched" in done.stderr


def test_golds_that_do_not_score_are_listed() -> None:
    scores = {"a": 1.0, "b": 0.25, "c": None}
    prompts = [Prompt(id=k, question=k, answer=k) for k in scores]
    prompts.append(Prompt(id="d", question="d"))
    rows = check_golds(prompts, lambda p: scores[p.id])
    assert [(r["row"], r["id"], r["score"]) for r in rows] == [
        (2, "b", 0.25),
        (3, "c", None),
        (4, "d", None),
    ]
    assert rows[0]["problem"] == "the gold answer scores 0.25, not 1"


def test_no_machine_learning_library_is_imported() -> None:
    code = (
        "import sys, pipeline.prompts.sources\n"
        "print({'torch', 'datasets', 'reasoning_gym', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_plan_with_its_notes_reads_a_file_once(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"question": "1+1?", "answer": "it is #### 2"}\n')
    source = {"file": str(file), "answer_after": "####"}
    recipe = Recipe.model_validate(
        {
            "name": "r",
            "model": {"path": "data/models/tiny"},
            "prompts": {"train": source},
            "stages": {"cold": {"kind": "sft", "rows": "train.worked", "max_tokens": 64}},
        }
    )
    sources.rows_of_files.cache_clear()
    make_plan(recipe)
    data_notes(recipe)
    assert sources.rows_of_files.cache_info().misses == 1


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    for question in ("short?", "a longer one?"):
        file.write_text(json.dumps({"question": question, "answer": "1"}) + "\n")
        (prompt,) = load_prompts("train", PromptSource(file=str(file)), seed=1)
        assert prompt.question == question
