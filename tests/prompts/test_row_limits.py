import pytest

from pipeline.prompts.prompt_error import PromptError
from pipeline.prompts.row_limits import MAX_NESTING, check_row


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"q": "bad \ud800 char"}, "column 'q' holds half a character (the lone surrogate U+D800)"),
        ({"q": "a", "x": ["b", {"c": "\udbff"}]}, "column 'x' holds half a character"),
        ({"q": "a", "x": {"\udc00": 1}}, "column 'x' holds half a character"),
        ({"q\udfff": "a"}, "the name of column 'q\\udfff' holds half a character"),
        ({"q": "a\0"}, "column 'q' holds the NUL character at position 2"),
        ({"q": "a\ufdd0b"}, "column 'q' holds U+FDD0"),
    ],
)
def test_texts_that_no_file_can_hold_are_refused(row: dict[str, object], said: str) -> None:
    with pytest.raises(PromptError) as caught:
        check_row(row, where="F, line 1")
    assert f"F, line 1: {said}" in str(caught.value)
    str(caught.value).encode()  # the sentence itself can be written


def nested(levels: int) -> object:
    value: object = "x"
    for level in range(levels):
        value = [value] if level % 2 else {"k": value}
    return value


def test_nesting_has_a_limit() -> None:
    check_row({"q": nested(MAX_NESTING - 1), "w": "🙂 \U0010ffff"}, where="F")
    with pytest.raises(PromptError, match=r"F: column 'q' is nested more than 64 levels deep"):
        check_row({"q": nested(MAX_NESTING)}, where="F")
