"""What the values of a row become: the texts of questions, golds and targets, and JSON.

| value | as a question, gold or target |
|---|---|
| text | exactly that text: indentation, inner and trailing newlines stay |
| integer | its digits |
| float | the shortest decimal that reads back as the same number; a whole one without ".0" |
| Decimal | its digits as stored |
| NaN, Infinity | refused |
| true, false | refused: "True", "yes" and "1" are all meant by them |
| null, blank text | refused |
| object, bytes, dates and all else | refused |
"""

import json
import math
from decimal import Decimal
from typing import Any

from pipeline.prompts.prompt_error import PromptError

EXACT_WHOLE = 2**53
"""Below it every whole number is a float of its own (IEEE 754 binary64)."""


def as_text(value: Any, *, where: str, column: str) -> str:
    """A question, gold or target as text, by the table above.

    Raises PromptError naming the row and the column.
    """
    match value:
        case str() if value.strip():
            return value
        case str() | None:
            empty = "null" if value is None else "empty"
            raise PromptError(f"{where}: column {column!r} is {empty}; fill it or remove the row")
        case bool():
            raise PromptError(
                f"{where}: column {column!r} holds {str(value).lower()}, which people write in "
                "several ways; write the word that is right as text"
            )
        case float() | Decimal() if not math.isfinite(value):
            raise PromptError(
                f"{where}: column {column!r} holds {value}, which is no answer; "
                "write a number or text, or remove the row"
            )
        case float() if value.is_integer() and abs(value) < EXACT_WHOLE:
            return str(int(value))
        case int() | float() | Decimal():
            return str(value)
    raise PromptError(
        f"{where}: column {column!r} holds a {type(value).__name__}, not text or a number; "
        "write it as text"
    )


def split_at_mark(answer: str, mark: str, *, where: str) -> tuple[str, str]:
    """(text before, text after) the last `mark`, without the spacing that sets the mark apart.

    An answer on the mark's line, or alone, has no spacing around it; one that begins on the next
    line and goes on keeps its own, as a program needs.

    >>> split_at_mark("2 + 2\\n#### 4\\n", "####", where="")
    ('2 + 2', '4')
    >>> split_at_mark("so:\\n####\\n    x = 1\\n    return x\\n", "####", where="")
    ('so:', '    x = 1\\n    return x\\n')
    """
    before, mark_there, after = answer.rpartition(mark)
    text = after.strip()
    if not mark_there or not text:
        raise PromptError(
            f"{where}: nothing follows {mark!r} (answer_after) in the answer {answer[-60:]!r}; "
            "correct the row or answer_after"
        )
    if "\n" in text:
        beside, _, below = after.partition("\n")
        text = f"{beside.lstrip()}\n{below}" if beside.strip() else below
    return before.rstrip(), text


def json_safe(value: Any) -> Any:
    """The value as it comes back from JSON: what JSON cannot hold becomes text, and a missing
    number (NaN, Infinity) null."""
    return json.loads(json.dumps(value, default=str), parse_constant=lambda _: None)
