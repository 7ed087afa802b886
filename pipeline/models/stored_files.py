"""The files of a model folder, as they were downloaded. Loads no ML library."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.recipe.pointers import not_the_file

_OBJECTS = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
_LENGTH_BYTES = 8  # before the head of a safetensors file (its format's own page)


def json_object(file: Path) -> dict[str, Any]:
    """The object in a file; empty where there is none: `file_faults` says so."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a file that is not ours
        return {}
    return value if isinstance(value, dict) else {}


def file_faults(folder: Path) -> Iterator[str]:
    """Files of a model folder that are not what their names say, each with the fix."""
    for name in _OBJECTS:
        file = folder / name
        if file.is_file() and (fault := _place_fault(file) or _object_fault(file)) is not None:
            yield f"{file} {fault}"
    for file in sorted(folder.glob("*.safetensors")):
        if file.is_file() and (fault := _place_fault(file) or _tensors_fault(file)) is not None:
            yield f"{file} {fault}"


def _place_fault(file: Path) -> str | None:
    try:
        return not_the_file(file)
    except OSError as error:
        return f"cannot be read: {error.strerror}; make it readable"


def _object_fault(file: Path) -> str | None:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a file that is not ours
        value = None
    return None if isinstance(value, dict) else "holds no JSON object; download it again"


def _tensors_fault(file: Path) -> str | None:
    """Whether a file ends before its tensors do; what is no such file at all, loading says."""
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(_LENGTH_BYTES))
            tensors = json.loads(stream.read(min(length, size)))
        ends = [t["data_offsets"][1] for name, t in tensors.items() if name != "__metadata__"]
        whole = _LENGTH_BYTES + length + max(ends, default=0)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, struct.error):
        return None
    if size < whole:
        return f"is cut off: {size:,} of {whole:,} bytes; download it again"
    return None
