import pytest

from pipeline.prompts.csv_rows import csv_rows
from pipeline.prompts.json_rows import PlacedRow
from pipeline.prompts.prompt_error import PromptError


def rows(text: str, delimiter: str | None = None) -> list[PlacedRow]:
    return list(csv_rows(text.encode(), origin="F", delimiter=delimiter))


def test_values_stay_texts_and_rows_say_where_they_begin() -> None:
    text = 'q,a\n"one\ntwo",007\n\n3.10,NA\ntrue,\n'
    assert rows(text) == [
        ("line 2", {"q": "one\ntwo", "a": "007"}),
        ("line 5", {"q": "3.10", "a": "NA"}),
        ("line 6", {"q": "true", "a": ""}),
    ]


def test_the_header_tells_the_delimiter() -> None:
    for delimiter in ",;\t|":
        assert rows(f"a{delimiter}b\n1{delimiter}2\n") == [("line 2", {"a": "1", "b": "2"})]
    assert rows("a,b;c\td\n1\t2\n", "\t") == [("line 2", {"a,b;c": "1", "d": "2"})]
    assert rows("question\nWhy, oh why?\n", "\t") == [("line 2", {"question": "Why, oh why?"})]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("q,a\n1,2\n1,2,3\n", "F, line 3: 3 values for 2 columns (q, a); put quotes"),
        ("q,a\n1\n", "F, line 2: 1 values for 2 columns"),
        ('q,a\n1,2\n"3,4\n', "F, line 3: not CSV (unexpected end of data)"),
        ('q,a\n"1" x,2\n', "F, line 2: not CSV"),
        ("q,q\n1,2\n", "F, line 1: two columns are called 'q'"),
    ],
)
def test_a_row_that_does_not_fit_is_named(text: str, said: str) -> None:
    with pytest.raises(PromptError) as caught:
        rows(text)
    assert said in str(caught.value)
