"""What is left out on the way from rows to weights: how many of how many, why, and by which key."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Drop:
    """One reason for which things of one kind were left out."""

    what: str
    """Rows, prompts, pairs, completions: what was counted."""
    reason: str
    """Why, such as "longer than 512 tokens"."""
    dropped: int
    total: int
    """How many there were, the dropped ones included."""
    key: str
    """The key of the recipe that decides it; empty where none does."""

    @property
    def sentence(self) -> str:
        """For a log.

        >>> Drop(what="rows", reason="blank", dropped=1, total=1200, key="prompts.a").sentence
        '1 of 1,200 rows left out: blank (prompts.a)'
        """
        by = f" ({self.key})" if self.key else ""
        return f"{self.dropped:,} of {self.total:,} {self.what} left out: {self.reason}{by}"


def drop_rows(drops: Iterable[Drop]) -> list[dict[str, Any]]:
    """What manifests and documents say of those that dropped something."""
    return [asdict(drop) for drop in drops if drop.dropped]
