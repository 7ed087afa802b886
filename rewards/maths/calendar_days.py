"""Days of a year as people write them: ``March 5``, ``5th of March``, ``January 1, 2000``."""

from __future__ import annotations

import re

from rewards.maths.spoken import words_of

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    r"|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_DAY = r"(?P<day>\d{1,2})(?: ?(?:st|nd|rd|th))?"
_YEAR = r"(?:,? (?:of )?(?P<year>\d{4}))?"
_ORDERS = (
    re.compile(rf"(?:on )?{_MONTH} (?:the )?{_DAY}{_YEAR}"),
    re.compile(rf"(?:on )?(?:the )?{_DAY} (?:of )?{_MONTH}{_YEAR}"),
)


def same_day(gold: str, answer: str) -> bool | None:
    """Whether two answers are the same day; None unless both are days.

    A year that the gold has must not be missing.

    >>> same_day("March 5", "\\\\text{5th of March}"), same_day("March 5", "May 5")
    (True, False)
    """
    ours = _day(gold)
    theirs = _day(answer) if ours else None
    if ours is None or theirs is None:
        return None
    return ours[:2] == theirs[:2] and ours[2] in ("", theirs[2])


def _day(text: str) -> tuple[int, int, str] | None:
    """Month, day and year, or an empty year."""
    if len(text) > 60 or not any(month in text.lower() for month in _MONTHS):
        return None
    words = words_of(text)
    for order in _ORDERS:
        match = order.fullmatch(words)
        if match:
            return _MONTHS.index(match["month"][:3]) + 1, int(match["day"]), match["year"] or ""
    return None
