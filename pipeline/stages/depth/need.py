"""Did depth go where it was needed? The tokens of `lookups` whose needed depth is known. Pure.

A written query with its result, such as `!a3d`, needs as many look-ups for `d` as its digit says;
the digit of a query marked `.` is as large, and nothing depends on its result.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

QUERY = re.compile(r"([!.])[a-z](\d+)([a-z])")
ASKED = "!"


@dataclass(frozen=True, kw_only=True)
class Spent:
    """A result's token: the depth that it ran at, and what it needed."""

    depth: int
    digit: int
    asked: bool

    @property
    def needed(self) -> int:
        """Iterations that the answer depends on."""
        return self.digit if self.asked else 1


def spent_on_queries(pieces: Sequence[str], depths: Sequence[int]) -> list[Spent]:
    """The results that a completion wrote.

    Args:
        pieces: [_T] text of each token.
        depths: [_T] of the positions that predicted them.
    """
    places = [index for index, piece in enumerate(pieces) for _ in piece]
    text = "".join(pieces)
    return [
        Spent(
            depth=depths[places[match.start(3)]],
            digit=int(match.group(2)),
            asked=match.group(1) == ASKED,
        )
        for match in QUERY.finditer(text)
    ]
