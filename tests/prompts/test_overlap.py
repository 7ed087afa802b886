import random
from collections.abc import Sequence

import pytest

from pipeline.prompts.overlap import MOST_SHARERS, NGRAM, equal_questions, find_matches
from pipeline.records import Prompt

WORDS = [f"w{i}" for i in range(5000)]


def rows(*questions: str) -> list[Prompt]:
    return [Prompt(id=str(i), question=question) for i, question in enumerate(questions)]


def sentence(rng: random.Random, words: int = 20) -> str:
    return " ".join(rng.sample(WORDS, words))


def kinds(train: Sequence[str], test: Sequence[str]) -> list[tuple[str, str, str]]:
    matches = find_matches(rows(*train), {"test": rows(*test)})["test"]
    return [(match.kind, match.row.id, match.other.id) for match in matches]


def naive(train: Sequence[str], test: Sequence[str]) -> set[str]:
    """Rows that share 13 words in a row, by lists alone."""

    def grams(text: str) -> set[tuple[str, ...]]:
        words = text.split()
        return {tuple(words[i : i + NGRAM]) for i in range(len(words) - NGRAM + 1)}

    known = set[tuple[str, ...]]().union(*(grams(text) for text in test))
    return {str(i) for i, text in enumerate(train) if grams(text) & known}


def test_equal_questions_match_however_short() -> None:
    assert kinds(["What is 1+1?", "What is 1+2?"], ["?", "what is 1 + 1"]) == [("equal", "0", "1")]


def test_thirteen_words_match_and_twelve_do_not() -> None:
    thirteen = " ".join(WORDS[:13])
    assert kinds([f"so {thirteen} then"], [f"as {thirteen} is"]) == [("ngram", "0", "0")]
    assert kinds([f"so {thirteen[:-3]} then"], [f"as {thirteen} is"]) == []


def test_a_short_text_inside_another_is_no_match() -> None:
    assert kinds(["What is 1+1? And what is 2+2?"], ["What is 1+1?"]) == []


def test_words_of_two_rows_make_no_ngram() -> None:
    assert kinds([" ".join(WORDS[:7]), " ".join(WORDS[7:14])], [" ".join(WORDS[:14])]) == []


@pytest.mark.parametrize("seed", range(5))
def test_hashes_find_what_lists_find(seed: int) -> None:
    rng = random.Random(seed)
    test = [sentence(rng, rng.randrange(5, 40)) for _ in range(40)]
    train = []
    for index in range(200):
        words = sentence(rng, rng.randrange(5, 40)).split()
        if index % 3 == 0:
            source = rng.choice(test).split()
            start, length = rng.randrange(len(source)), rng.randrange(8, 20)
            words[2:2] = source[start : start + length]
        train.append(" ".join(words))
    assert {row for _, row, _ in kinds(train, test)} == naive(train, test)


def test_a_form_of_words_is_no_match_but_a_whole_question_is() -> None:
    rng = random.Random(0)
    form = sentence(rng, 14)
    test = f"{sentence(rng, 8)} {form}"
    few = [f"{sentence(rng, 6)} {form}" for _ in range(MOST_SHARERS)]
    assert len(kinds(few, [test])) == MOST_SHARERS
    many = [*few, f"{sentence(rng, 6)} {form}"]
    assert kinds(many, [test]) == []
    copies = [f"{sentence(rng, 3)} {test} {sentence(rng, 3)}" for _ in range(MOST_SHARERS + 5)]
    assert len(kinds([*many, *copies], [test])) == len(copies)
    repeated = [few[0]] * (MOST_SHARERS + 5)
    assert len(kinds(repeated, [test])) == len(repeated)


def test_a_row_counts_for_the_first_set_that_has_it() -> None:
    questions = rows("one?", "two?", "three?")
    matches = find_matches(questions, {"a": questions[:2], "b": questions[1:], "c": []})
    assert {name: [m.row.id for m in of_one] for name, of_one in matches.items()} == {
        "a": ["0", "1"],
        "b": ["2"],
        "c": [],
    }


def test_equal_questions_name_the_first_of_the_others() -> None:
    matches = equal_questions(rows("x?"), rows("y?", "X", "x."))
    assert [(m.row.id, m.other.id) for m in matches] == [("0", "1")]
