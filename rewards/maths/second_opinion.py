"""Math-Verify's opinion on single values that our parser does not read."""

from __future__ import annotations

import logging
import re

from rewards.maths.decision import Decision, decided
from rewards.maths.plain_text import squeezed

MAX_FALLBACK_CHARS = 100
MAX_FALLBACK_NUMBER = 300
_COMMANDS = re.compile(r"\\(?!text|mbox|le|ge|ne|in|begin)[A-Za-z]+")


def by_math_verify(gold: str, answer: str, reason: str) -> Decision:
    """Math-Verify's opinion on a formula in a style that our parser does not know.

    It reads a part of what it is given and ignores the rest, so it gets single values only. Its
    alarms are off: the worker's CPU limit replaces them.
    """
    problem = _refusal(answer) or _refusal(gold)
    if problem is not None:
        return Decision("unparsable", f"{reason}; {problem}")
    from math_verify import parse as their_parse  # slow to import, so only where it runs
    from math_verify import verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns of limits switched off
    gold_parsed = their_parse(f"${squeezed(gold)}$", parsing_timeout=0)
    answer_parsed = their_parse(f"${squeezed(answer)}$", parsing_timeout=0)
    if not answer_parsed:
        return Decision("unparsable", reason)
    equal = verify(gold_parsed, answer_parsed, timeout_seconds=None)
    return decided(equal, "Math-Verify")


def _refusal(text: str) -> str | None:
    """Why a text that our parser does not read is too risky to be evaluated; None if it is not."""
    if len(text) > MAX_FALLBACK_CHARS:
        return f"longer than {MAX_FALLBACK_CHARS} characters"
    if re.search(r"[^ -~\n]|[|?'\"`@#&]|\\(?:boxed|fbox)", text):
        return "characters that Math-Verify would pass over"
    if re.search(
        r"[=<>,;]|\d\s+\d|[A-Za-z]{4}|\\(?:text|mbox|le|ge|ne|in|begin)", _COMMANDS.sub("", text)
    ):
        return "more than one value"
    if re.search(
        r"\d{30,}|\^[^+\-=,]{0,12}\^|\*\*|!|\\(?:int|sum|prod|lim|det|[bp]mod|mid\b)", text
    ):
        return "more than Math-Verify should be given"
    if any(int(number) > MAX_FALLBACK_NUMBER for number in re.findall(r"\^\{?-?(\d+)", text)):
        return f"an exponent over {MAX_FALLBACK_NUMBER}"
    return None
