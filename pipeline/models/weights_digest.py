"""One SHA-256 of a model's weights, whatever files they lie in. Loads no ML library.

The form of a safetensors file: eight bytes with the header's length (little endian), the header as
JSON (tensor name -> dtype, shape, data_offsets within what follows), the tensors' bytes
(https://github.com/huggingface/safetensors#format).
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

LENGTH_BYTES = 8
CHUNK_BYTES = 2**24


def weights_sha256(folder: Path) -> str | None:
    """SHA-256 (hex) over the tensors in all safetensors files below a folder, by name: of each its
    name (behind that of its file's folder), dtype, shape and bytes. So it is the same however they
    are split over files, and in whatever order they lie there. None where there is no such file.

    Raises ValueError, which names the file, for one that is no safetensors file.
    """
    files = sorted(folder.rglob("*.safetensors"))
    tensors = [
        (f"{file.parent.relative_to(folder).as_posix()}/{name}", file, start, entry)
        for file in files
        for name, start, entry in _tensors(file)
    ]
    if not files:
        return None
    digest = hashlib.sha256()
    for name, file, start, entry in sorted(tensors, key=lambda row: row[:2]):
        digest.update(json.dumps([name, entry["dtype"], entry["shape"]]).encode())
        begin, end = entry["data_offsets"]
        with file.open("rb") as stream:
            stream.seek(start + begin)
            _update(digest, stream, size=end - begin)
    return digest.hexdigest()


def _tensors(file: Path) -> Sequence[tuple[str, int, dict[str, Any]]]:
    """Of each tensor: its name, where the bytes of all begin in the file, and its entry."""
    with file.open("rb") as stream:
        size = file.stat().st_size
        length = int.from_bytes(stream.read(LENGTH_BYTES), "little")
        start = LENGTH_BYTES + length
        try:
            header: Any = json.loads(stream.read(length)) if start <= size else None
            rows = [(name, start, e) for name, e in header.items() if name != "__metadata__"]
            if any(start + entry["data_offsets"][1] > size for _, _, entry in rows):
                raise ValueError("it ends before its tensors do")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{file} is no whole safetensors file") from error
    return rows


def _update(digest: Any, stream: BinaryIO, *, size: int) -> None:
    while size > 0:
        chunk = stream.read(min(size, CHUNK_BYTES))
        digest.update(chunk)
        size -= len(chunk)
