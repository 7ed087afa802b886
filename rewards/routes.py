"""One reward for rows of several sources: a column of the row says which function judges it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rewards.api import Sample

BY_ROW = "builtin:by_source"
"""The reference of a reward whose ``args`` are ``column`` and ``routes``: value -> use, args."""


class NoRoute(ValueError):
    """A row's source is none of those that a reward has a route for."""


def by_row(column: str, routes: Mapping[str, tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """The ``args`` of :data:`BY_ROW`; each route is a reference with its arguments."""
    plain = {value: {"use": use, "args": dict(args)} for value, (use, args) in routes.items()}
    return {"column": column, "routes": plain}


def route(sample: Sample, args: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The reference that judges this sample, and its arguments.

    Raises:
        NoRoute: naming the column and its value.
    """
    column, routes = args["column"], args["routes"]
    if column not in sample.columns:
        raise NoRoute(f"the row has no column {column!r} that says its source")
    value = str(sample.columns[column])
    if value not in routes:
        raise NoRoute(f"{column} is {value!r}, and there are routes for {', '.join(routes)}")
    return routes[value]["use"], routes[value]["args"]
