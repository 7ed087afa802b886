"""What a comparison of two answers decides."""

from __future__ import annotations

from typing import NamedTuple


class Decision(NamedTuple):
    """The verdict (correct, wrong, unparsable, too_complex) and the rule that decided."""

    verdict: str
    rule: str


def decided(equal: bool, rule: str) -> Decision:
    """Correct or wrong, by a rule."""
    return Decision("correct" if equal else "wrong", rule)
