"""Every key of a recipe as a page, written from the schema itself."""

import json
import re
import types
from collections.abc import Iterator, Sequence
from inspect import cleandoc
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline.recipe.schema import Recipe

START = "<!-- keys: written by `stepwell schema --markdown` -->"
END = "<!-- end of keys -->"

_WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false", Any: "anything"}


def markdown() -> str:
    """A table for each section of a recipe: keys, values, defaults, meanings."""
    parts = [START]
    for where, section in sections():
        parts += [f"### {where}", _text(section.__doc__ or ""), _table(section)]
    return "\n\n".join([*parts, END]) + "\n"


def sections() -> Iterator[tuple[str, type[BaseModel]]]:
    """Every section with its place, such as `stages.NAME (grpo)`, outermost first, each once."""
    seen: set[type[BaseModel]] = set()
    waiting: list[tuple[str, type[BaseModel]]] = [("The recipe", Recipe)]
    while waiting:
        where, section = waiting.pop(0)
        if section in seen:
            continue
        seen.add(section)
        yield where, section
        inner = [
            (_place(where, key, option, nested=nested), option)
            for key, field in section.model_fields.items()
            for option, nested in _models(field.annotation)
        ]
        waiting = [*inner, *waiting]


def _place(where: str, key: str, section: type[BaseModel], *, nested: bool) -> str:
    above = "" if where == "The recipe" else f"{where.strip('`')}."
    kind = section.model_fields.get("kind")
    kinds = get_args(kind.annotation) if kind else ()
    name = f"{above}{key}.NAME" if nested else f"{above}{key}"
    name = name.replace("stages.NAME.", "")
    return f"`{kinds[0]}`" if nested and len(kinds) == 1 else f"`{name}`"


def _models(annotation: Any, *, nested: bool = False) -> Iterator[tuple[type[BaseModel], bool]]:
    """Sections that a key's value may be, and whether they lie under names of the user's."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, nested
    elif get_origin(annotation) is not Literal:
        under = nested or get_origin(annotation) is dict
        for part in get_args(annotation):
            yield from _models(part, nested=under)


def _table(section: type[BaseModel]) -> str:
    rows = [("key", "values", "default", "meaning"), ("---",) * 4]
    for key, field in sorted(section.model_fields.items(), key=lambda item: item[0] != "kind"):
        meaning = _text(field.description)
        rows.append((f"`{key}`", _values(field.annotation), _default(field), meaning))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _values(annotation: Any) -> str:
    """What may be written, in words."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if annotation in _WORDS:
        return _WORDS[annotation]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    if origin is Annotated:
        return _values(parts[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in parts)
    if origin in (Union, types.UnionType):
        words = dict.fromkeys(_values(part) for part in parts if part is not type(None))
        return " or ".join(words)
    if origin is list:
        return f"list of {_values(parts[0])}"
    if origin is tuple:
        return f"[{', '.join(_values(part) for part in parts)}]"
    return "mapping"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return ""
    if isinstance(value, BaseModel):
        return "its defaults"
    if isinstance(value, Sequence) and len(value) > 3 and not isinstance(value, str):
        return "all"
    return f"`{json.dumps(value)}`"


def _text(text: str | None) -> str:
    """One line, fit for a table's cell."""
    return re.sub(r"\s+", " ", cleandoc(text or "")).replace("|", "\\|")
