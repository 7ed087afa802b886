"""Every path that a recipe names, made absolute where it is read; nobody looks one up again.

A relative path is looked up beside the file that wrote it, then in the current folder; `data/...`
falls back to the data that ships with the package. What is nowhere stays as it was written, for
the plan to refuse in the user's words.
"""

import glob
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pipeline.recipe.places import data_path, gguf_files

_ENTRY_NAME = re.compile(r"[\w-]+")

Kind = Literal["path", "gguf", "function", "rows", "hub"]
"""A file or folder; a GGUF file or `package:NAME`; `path/file.py:fn`; a file of rows or a pattern;
a folder where there is one, else an id of the hub."""


def locate_beside(content: dict[str, Any], folder: Path) -> None:
    """Make absolute what lies in `folder`, that of the file which the content was read from."""
    for section, key, kind in places_in(content):
        name, suffix = split_place(section[key], kind)
        if name and _is_there(folder / name, kind):
            section[key] = f"{(folder / name).resolve()}{suffix}"
        elif kind == "rows" and glob.has_magic(name):
            beside = f"{glob.escape(str(folder.resolve()))}/{name}"
            section[key] = beside if glob.glob(beside, recursive=True) else name


def locate(content: dict[str, Any]) -> None:
    """Make absolute what lies in the current folder, in the package's data or in a package."""
    for section, key, kind in places_in(content):
        section[key] = _LOCATED[kind](section[key])


def _function(text: str) -> str:
    name, suffix = split_place(text, "function")
    path = Path(name).expanduser()
    return f"{path.resolve()}{suffix}" if name and path.is_file() else text


def _gguf(text: str) -> str:
    files = gguf_files(text)
    return str(files[0].resolve()) if len(files) == 1 else text


def _rows(text: str) -> str:
    """A pattern becomes absolute by the folder that it begins with."""
    if not glob.has_magic(text) or data_path(text) != text:
        return data_path(text)
    parts = Path(text).expanduser().parts
    fixed = next(place for place, part in enumerate(parts) if glob.has_magic(part))
    base = str(Path(*parts[:fixed]))
    located = data_path(base)
    return text if not Path(located).is_dir() else str(Path(glob.escape(located), *parts[fixed:]))


def _hub(text: str) -> str:
    path = Path(text).expanduser()
    return str(path.resolve()) if text and _is_there(path, "hub") else text


def _is_there(path: Path, kind: Kind) -> bool:
    try:
        match kind:
            case "function":
                return path.is_file()
            case "hub":
                return path.is_dir()
        return path.exists()
    except OSError:  # no name that a file can have
        return False


_LOCATED: Mapping[Kind, Callable[[str], str]] = {
    "path": data_path,
    "gguf": _gguf,
    "function": _function,
    "rows": _rows,
    "hub": _hub,
}


def split_place(text: str, kind: Kind) -> tuple[str, str]:
    """A path, and `:fn` after that of a function."""
    if kind != "function":
        return text, ""
    name, colon, function = text.rpartition(":")
    return name, f"{colon}{function}"


def places_in(content: Mapping[str, Any]) -> Iterator[tuple[Any, Any, Kind]]:
    """(section or list, key or index, kind) of every text that may name a file."""
    for section, key, kind in _keys(content):
        value = section.get(key) if isinstance(section, dict) else None
        if isinstance(value, str):
            yield section, key, kind
        if isinstance(value, list) and kind == "rows":
            for place, name in enumerate(value):
                if isinstance(name, str):
                    yield value, place, kind
    for entry in entries(content, "prompts"):
        references = entry.get("decontaminate")
        for place, reference in enumerate(references if isinstance(references, list) else ()):
            if isinstance(reference, str) and not _ENTRY_NAME.fullmatch(reference):
                yield references, place, "rows"


def _keys(content: Mapping[str, Any]) -> Iterator[tuple[Any, str, Kind]]:
    students = [entry.get("student") for entry in entries(content, "stages")]
    for source in (content.get("model"), *students):
        yield source, "path", "path"
        yield source, "gguf", "gguf"
    for entry in entries(content, "prompts"):
        yield entry, "file", "rows"
        yield entry, "hub", "hub"
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
