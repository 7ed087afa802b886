"""Every path that a recipe names, made absolute where it is read; nobody looks one up again.

A relative path is looked up beside the file that wrote it, then in the current folder; `data/...`
falls back to the data that ships with the package. What is nowhere stays as it was written, for
the plan to refuse in the user's words.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pipeline.recipe.places import data_path, gguf_files

_ENTRY_NAME = re.compile(r"[\w-]+")

Kind = Literal["path", "gguf", "function"]
"""A file or folder; a GGUF file or `package:NAME`; `path/file.py:fn`."""


def locate_beside(content: dict[str, Any], folder: Path) -> None:
    """Make absolute what lies in `folder`, that of the file which the content was read from."""
    for section, key, kind in _places(content):
        name, suffix = _split(section[key], kind)
        path = folder / name
        if name and (path.is_file() if kind == "function" else path.exists()):
            section[key] = f"{path.resolve()}{suffix}"


def locate(content: dict[str, Any]) -> None:
    """Make absolute what lies in the current folder, in the package's data or in a package."""
    for section, key, kind in _places(content):
        section[key] = _LOCATED[kind](section[key])


def _function(text: str) -> str:
    name, suffix = _split(text, "function")
    path = Path(name).expanduser()
    return f"{path.resolve()}{suffix}" if name and path.is_file() else text


def _gguf(text: str) -> str:
    files = gguf_files(text)
    return str(files[0].resolve()) if len(files) == 1 else text


_LOCATED: Mapping[Kind, Callable[[str], str]] = {
    "path": data_path,
    "gguf": _gguf,
    "function": _function,
}


def _split(text: str, kind: Kind) -> tuple[str, str]:
    """A path, and `:fn` after that of a function."""
    if kind != "function":
        return text, ""
    name, colon, function = text.rpartition(":")
    return name, f"{colon}{function}"


def _places(content: Mapping[str, Any]) -> Iterator[tuple[Any, Any, Kind]]:
    """(section or list, key, kind) of every text that may name a file."""
    for section, key, kind in _keys(content):
        if isinstance(section, dict) and isinstance(section.get(key), str):
            yield section, key, kind
    for entry in entries(content, "prompts"):
        references = entry.get("decontaminate")
        for place, reference in enumerate(references if isinstance(references, list) else ()):
            if isinstance(reference, str) and not _ENTRY_NAME.fullmatch(reference):
                yield references, place, "path"


def _keys(content: Mapping[str, Any]) -> Iterator[tuple[Any, str, Kind]]:
    students = [entry.get("student") for entry in entries(content, "stages")]
    for source in (content.get("model"), *students):
        yield source, "path", "path"
        yield source, "gguf", "gguf"
    for entry in entries(content, "prompts"):
        yield entry, "file", "path"
    for reward in entries(content, "rewards"):
        routes = reward.get("by_source")
        for judge in (reward, *entries(reward, "by_source")):
            yield judge, "use", "function"
        for source in routes if isinstance(routes, dict) else ():
            yield routes, source, "function"


def entries(content: Mapping[str, Any], section: str) -> list[dict[str, Any]]:
    """The mappings among a section's entries."""
    named = content.get(section)
    values = named.values() if isinstance(named, dict) else ()
    return [entry for entry in values if isinstance(entry, dict)]
