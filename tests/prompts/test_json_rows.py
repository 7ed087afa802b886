import io

import pytest

from pipeline.prompts import json_rows
from pipeline.prompts.prompt_error import PromptError

GOOD = '{"question": "q", "answer": "a"}'


def rows(text: str) -> list[tuple[str, dict[str, object]]]:
    return list(json_rows.json_rows(io.BytesIO(text.encode()), origin="F"))


def refusal(text: str) -> str:
    with pytest.raises(PromptError) as caught:
        rows(text)
    return str(caught.value)


def test_rows_say_where_they_stand() -> None:
    assert [place for place, _ in rows(f"\n{GOOD}\n\n{GOOD}")] == ["line 2", "line 4"]
    assert [place for place, _ in rows(f"\n[\n{GOOD},\n\n {GOOD}\n]")] == [
        "row 1, line 3",
        "row 2, line 5",
    ]
    assert rows("[]") == rows(" \n\t\r\n") == rows("") == []


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("NaN", "NaN is not JSON"),
        ("-Infinity", "-Infinity is not JSON"),
        ('{"deep": [Infinity]}', "Infinity is not JSON"),
        ("1e999", "1e999 is too large for a number"),
        ("-1E400", "-1E400 is too large for a number"),
        ("9" * 5000, "a whole number of 5,000 digits"),
        (f"[{'8' * 4301}]", "a whole number of 4,301 digits"),
        ("[" * 3000 + "]" * 3000, "nested too deep"),
        ('{"a":' * 3000 + "1" + "}" * 3000, "nested too deep"),
        ('{"a": 1, "a": 1}', "the key 'a' stands twice"),
    ],
)
def test_what_other_readers_refuse_or_change_is_refused(value: str, said: str) -> None:
    row = f'{{"question": "q", "extra": {value}}}'
    assert f"F, line 1: {said}" in refusal(row)
    assert f"F, line 3: {said}" in refusal(f"{GOOD}\n\n{row}\n")
    assert f"F, row 2, line 2: {said}" in refusal(f"[{GOOD},\n{row}]")


def test_the_longest_number_that_python_converts_is_read() -> None:
    ((_, row),) = rows(f'{{"n": {"9" * json_rows.MAX_DIGITS}}}')
    assert row["n"] == 10**json_rows.MAX_DIGITS - 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f'{GOOD}\n{GOOD[:-1]}\n', "F, line 2, column 32: not JSON"),
        (f'{GOOD}\n"text"', "F, line 2: a text where a JSON object"),
        (f"{GOOD}\nnull", "F, line 2: a null where"),
        (f"{GOOD},\n{GOOD}", "F, line 1, column 33: not JSON"),
        (f"[{GOOD}, 5]", "F, row 2, line 1: a number where"),
        (f"[{GOOD}, [true]]", "F, row 2, line 1: a list where"),
        ("[true]", "F, row 1, line 1: a true or false where"),
        ("5", "F, row 1, line 1: a number where"),
        (f"[{GOOD}\n {GOOD}]", "F, after row 1, line 1: not JSON (no comma)"),
        (f"[{GOOD}", "F, after row 1, line 1: not JSON (the array has no end)"),
        (f"[{GOOD},\n{GOOD[:-2]}", "F, line 2, column 29: not JSON (Unterminated string"),
        (f"[{GOOD},]", "not JSON (Expecting value); correct the array"),
        (f"[{GOOD}]\n[{GOOD}]", "F, line 2: something follows the array"),
        ("{'question': 'q'}", "F, line 1, column 2: not JSON"),
        ('{"question": "a\nb"}', "F, line 1, column 16: not JSON (Invalid control character"),
    ],
)  # fmt: skip
def test_what_is_no_json_is_named_with_its_place(text: str, said: str) -> None:
    assert said in refusal(text)


def test_a_line_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_rows, "MAX_LINE", 2**20)
    text = GOOD + '\n{"question": "' + "a" * 2**20
    assert "F, line 2: the line has more than 1 MiB" in refusal(text)


def test_bytes_that_are_not_utf8_are_named_in_lines_and_arrays() -> None:
    for before, where in ((f"{GOOD}\n".encode(), 2), (f"[\n{GOOD},\n".encode(), 3)):
        stream = io.BytesIO(before + b'{"question": "\xff"}]')
        with pytest.raises(PromptError, match=f"F, line {where}: byte 15 is not UTF-8"):
            list(json_rows.json_rows(stream, origin="F"))
