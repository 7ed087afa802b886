"""What of a run's recipe is another than at its last launch, in a line."""

from collections.abc import Iterator
from typing import Any

import yaml

MOST_SHOWN = 6
ABSENT = "absent"


def recipe_changes(before: str, now: str) -> str | None:
    """The keys of two recipes (as `dump_recipe` writes them) that differ, each with both values;
    None where none does, or the earlier one cannot be read.

    >>> recipe_changes("a: {b: 1, c: x}", "a: {b: 2, c: x}")
    'a.b 1, now 2'
    """
    try:
        changes = changed_keys(yaml.safe_load(before), yaml.safe_load(now))
    except (yaml.YAMLError, AttributeError):
        return None
    texts = [f"{key} {old}, now {new}" for key, old, new in changes]
    more = len(texts) - MOST_SHOWN
    shown = texts[:MOST_SHOWN] + ([f"and {more} keys more"] if more > 0 else [])
    return "; ".join(shown) or None


def changed_keys(before: Any, now: Any) -> list[tuple[str, Any, Any]]:
    """(key by its path, value before, value now) where two recipes differ; what one lacks is
    `ABSENT`. Lists are one value.

    >>> changed_keys({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}})
    [('a.c', 2, 'absent')]
    """
    old, new = dict(_leaves(before)), dict(_leaves(now))
    keys = [key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)]
    return [(key, old.get(key, ABSENT), new.get(key, ABSENT)) for key in keys]


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and (value or not place):
        for key, item in value.items():
            yield from _leaves(item, f"{place}.{key}" if place else str(key))
    else:
        yield place, value
