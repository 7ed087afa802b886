"""Our own tasks: right answers, honest traces, disjoint splits, determinism."""

import itertools
import re
from collections.abc import Callable
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.prompts.tasks import TASKS, Problem, Split, generate, split_of

DIGITS = ["swaps", "sums", "chains", "scrambles", "nesting", "hops"]
REASONING = [*DIGITS, "arithmetic"]
INSTRUCTIONS = ["copy", "reverse", "sort", "echo"]


def _solve_swaps(question: str) -> str:
    start, *moves = question.rstrip("?").split(";")
    cups = {str(cup): str(cup) == start for cup in range(1, 10)}
    for left, right in moves:
        cups[left], cups[right] = cups[right], cups[left]
    return next(cup for cup, ball in cups.items() if ball)


def _solve_sums(question: str) -> str:
    return str(sum(int(d) for d in re.findall(r"\d", re.sub(r"\(\d\)", "", question))) % 10)


def _solve_chains(question: str) -> str:
    *lines, asked = question.rstrip("?").split(";")
    rules = dict(line.split("=") for line in lines)

    def value(term: str) -> int:
        if term.isdigit():
            return int(term)
        rule = rules[term]
        if "+" in rule:
            return sum(value(part) for part in rule.split("+"))
        return prod(value(part) for part in rule.split("*"))

    return str(value(asked) % 10)


def _solve_nesting(question: str) -> str:
    *rules, expression = question.rstrip("?").split(";")
    table = {rule[0]: rule[1:] for rule in rules}
    *names, start = re.findall(r"\w", expression)
    value = int(start)
    for name in reversed(names):
        amount = int(table[name][1])
        value = (value + amount if table[name][0] == "+" else value * amount) % 10
    return str(value)


def _solve_arithmetic(question: str) -> str:
    expression = question.removeprefix("What is ").split("?")[0].replace(" ", "")
    return str(sum(int(term) for term in re.findall(r"[+-]?\d+", expression)))


def _solve_hops(question: str) -> str:
    *lines, node = question.rstrip("?").split(";")
    table = {line[0]: line[2] for line in lines}
    while not node.isdigit():
        node = table[node]
    return node


def _solve_largest(question: str) -> str:
    return str(max(int(number) for number in re.findall(r"\d+", question.split("?")[0])))


def _solve_lookups(question: str) -> str:
    queries, _, edges = question.partition("?")
    table = {edge[0]: edge[1] for edge in edges.split(";")}
    answer = ""
    for mark, node, arrows in re.findall(r"([!.])(\w)(\d)", queries):
        for _ in range(int(arrows)):
            node = table[node]
        answer += node if mark == "!" else ""
    return answer


def _solve_groups(question: str) -> str:
    """Letters of both tasks as permutations of the places."""
    pictures = {"x": (1, 0, 2), "y": (0, 2, 1), "z": (2, 1, 0), "r": (1, 2, 0), "l": (2, 0, 1)}
    answer = ""
    groups, _, start = question.partition(";")
    for moves in re.findall(r"_([a-z]+)\?", groups):
        place = int(start)
        for move in moves:
            place = pictures[move][place]
        answer += str(place)
    return answer


def _solve_picks(question: str) -> str:
    groups, start, asked = question.split(";")
    by_name = {group[0]: group[1:] for group in groups.split(",")}
    return "".join(_solve_groups(f"{by_name[name]};{start}") for name in asked.split(","))


def _solve_instruction(question: str) -> str:
    verb, letters = question.split(" ")
    return {
        "copy": letters,
        "reverse": letters[::-1],
        "sort": "".join(sorted(letters)),
    }[verb]


SOLVERS: dict[str, Callable[[str], str]] = {
    "swaps": _solve_swaps,
    "sums": _solve_sums,
    "chains": _solve_chains,
    "scrambles": _solve_chains,
    "nesting": _solve_nesting,
    "hops": _solve_hops,
    "arithmetic": _solve_arithmetic,
    "totals": _solve_arithmetic,
    "additions": _solve_arithmetic,
    "largest": _solve_largest,
    "lookups": _solve_lookups,
    "shuffles": _solve_groups,
    "turns": _solve_groups,
    "picks": _solve_picks,
    **dict.fromkeys(INSTRUCTIONS, _solve_instruction),
}


def _draw(task: str, size: int = 50, *, split: Split = "train", seed: int = 0) -> list[Problem]:
    distractors = (0, 0) if task in INSTRUCTIONS else (0, 3)
    return generate(
        task, size=size, split=split, seed=seed, difficulty=(3, 6), distractors=distractors
    )


def test_every_task_has_a_solver() -> None:
    assert set(SOLVERS) == set(TASKS)


@pytest.mark.parametrize("task", TASKS)
@given(seed=st.integers(0, 10**6))
def test_answers_are_right(task: str, seed: int) -> None:
    for problem in _draw(task, 5, seed=seed):
        assert problem.answer == SOLVERS[task](problem.question)


@pytest.mark.parametrize("task", DIGITS)
def test_answers_use_every_digit_they_can(task: str) -> None:
    answers = {problem.answer for problem in _draw(task, 400)}
    assert answers == set("12345" if task == "swaps" else "0123456789")


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("seed", [0, 1])
def test_splits_are_disjoint_for_any_seeds(task: str, seed: int) -> None:
    train = {problem.question for problem in _draw(task, 300, split="train", seed=0)}
    test = {problem.question for problem in _draw(task, 300, split="test", seed=seed)}
    assert len(train) == len(test) == 300
    assert not train & test
    assert all(split_of(question) == "test" for question in test)


@pytest.mark.parametrize("task", TASKS)
def test_a_seed_fixes_the_problems(task: str) -> None:
    assert _draw(task, seed=3) == _draw(task, seed=3)
    assert _draw(task, seed=3) != _draw(task, seed=4)


def test_a_larger_size_only_appends() -> None:
    assert _draw("chains", 80)[:50] == _draw("chains", 50)


@pytest.mark.parametrize("task", DIGITS + INSTRUCTIONS)
def test_text_is_short_printable_ascii(task: str) -> None:
    for problem in _draw(task):
        text = problem.question + problem.worked + problem.answer
        assert text.isascii()
        assert text.isprintable()
        assert len(problem.question) <= 70
        assert len(problem.worked) <= 40


@pytest.mark.parametrize("task", REASONING)
def test_full_care_writes_every_step_and_ends_at_the_answer(task: str) -> None:
    for problem in _draw(task):
        steps = problem.worked.split(",")
        assert len(steps) == problem.difficulty
        if task == "hops":
            assert f"{steps[-1]}={problem.answer}" in problem.question
        else:
            assert re.split(r"[=: ]+", steps[-1])[-1] == problem.answer


def test_lookups_write_every_query_and_answer_those_asked_for() -> None:
    for problem in _draw("lookups"):
        asked = re.findall(r"[!.]\w\d", problem.question)
        results = problem.worked.split(",")
        assert [result[:-1] for result in results] == asked
        assert "".join(r[-1] for r in results if r[0] == "!") == problem.answer
        assert max(int(query[2]) for query in asked) == problem.difficulty == problem.needed_depth


@pytest.mark.parametrize("task", ["shuffles", "turns"])
def test_groups_are_written_where_they_were_asked(task: str) -> None:
    for problem in _draw(task):
        groups, _, start = problem.question.partition(";")
        filled = problem.worked.split(",")
        assert [f"_{group[1:-1]}?" for group in filled] == groups.split(",")
        assert {group[0] for group in filled} == {start}
        asked = [group for group in filled if group[1].islower()]
        assert "".join(group[-1] for group in asked) == problem.answer
        assert max(len(group) - 2 for group in asked) == problem.difficulty
        assert all(len(group) - 2 <= problem.difficulty for group in filled)


def test_picks_differ_in_nothing_but_what_the_question_asks_for() -> None:
    for problem in _draw("picks"):
        groups, _, asked = problem.question.split(";")
        filled = problem.worked.split(",")
        assert [f"{group[0]}_{group[2:-1].lower()}?" for group in filled] == groups.split(",")
        assert {len(group) - 3 for group in filled} == {problem.difficulty}
        assert [group[0] for group in filled if group[2].islower()] == asked.split(",")


@pytest.mark.parametrize("task", REASONING)
def test_no_care_writes_nothing(task: str) -> None:
    problems = generate(task, size=20, split="train", seed=0, difficulty=(3, 6), care=(0, 0))
    assert {problem.worked for problem in problems} == {""}


def test_care_changes_the_trace_and_nothing_else() -> None:
    full = generate("chains", size=200, split="train", seed=0, difficulty=(6, 6))
    half = generate("chains", size=200, split="train", seed=0, difficulty=(6, 6), care=(0.5, 0.5))
    assert [p.question for p in full] == [p.question for p in half]
    written = 0
    for whole, part in zip(full, half, strict=True):
        kept = part.worked.split(",") if part.worked else []
        assert [step for step in whole.worked.split(",") if step in kept] == kept
        written += len(kept)
    assert 0.45 < written / (6 * 200) < 0.55


def test_needed_depth() -> None:
    for task in ("sums", "chains", "scrambles", "nesting", "arithmetic"):
        assert all(p.needed_depth == p.difficulty for p in _draw(task))
    assert all(p.needed_depth == p.difficulty + 1 for p in _draw("hops"))
    for problem in _draw("swaps"):
        places = [problem.question[0], *(step[-1] for step in problem.worked.split(","))]
        moved = sum(a != b for a, b in itertools.pairwise(places))
        assert problem.needed_depth == moved


def test_the_largest_is_asked_of_different_numbers_of_two_digits() -> None:
    for problem in generate("largest", size=300, split="test", seed=0, difficulty=(2, 2)):
        numbers = [int(number) for number in re.findall(r"\d+", problem.question)]
        assert len(set(numbers)) == 3
        assert all(10 <= number <= 99 for number in numbers)


def test_the_largest_of_more_numbers_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="only 90 two-digit numbers"):
        generate("largest", size=1, split="train", seed=0, difficulty=(90, 90))


def test_an_impossible_size_says_how_many_there_are() -> None:
    every = [
        problem
        for split in ("train", "test")
        for problem in _exhaust("sums", split, difficulty=(1, 1))
    ]
    assert len(every) == 90  # ten starts times nine terms


def _exhaust(task: str, split: Split, *, difficulty: tuple[int, int]) -> list[Problem]:
    with pytest.raises(ValueError, match="distinct") as error:
        generate(task, size=1000, split=split, seed=0, difficulty=difficulty)
    found = re.search(r"only (\d+) distinct", str(error.value))
    assert found is not None
    return generate(task, size=int(found[1]), split=split, seed=0, difficulty=difficulty)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "sudoku"}, "unknown task 'sudoku'; known: swaps"),
        ({"difficulty": (0, 3)}, "difficulty"),
        ({"difficulty": (4, 3)}, "difficulty"),
        ({"distractors": (-1, 3)}, "distractors"),
        ({"care": (0.5, 1.5)}, "care"),
        ({"difficulty": (30, 30)}, "only 26 letters"),
        ({"task": "copy", "distractors": (1, 1)}, "no distractors"),
        ({"task": "picks", "distractors": (26, 26)}, "26 distractors need 2. names"),
    ],
)
def test_wrong_settings_are_refused(changes: dict[str, object], message: str) -> None:
    settings = {"task": "chains", "difficulty": (3, 6), **changes}
    with pytest.raises(ValueError, match=message):
        generate(size=5, split="train", seed=0, **settings)  # pyright: ignore[reportArgumentType]
