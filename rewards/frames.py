"""Length-prefixed messages on a pipe: four bytes, big-endian, then the body.

The parent pickles jobs to its workers. A worker has handled untrusted text, so what comes back
is JSON, bounded in size and read strictly.
"""

from __future__ import annotations

import json
import os
import select
import struct
import time
from typing import Any

MAX_BYTES = 64 << 20
_HEADER = struct.Struct(">I")


class BrokenFrame(ValueError):
    """The other side wrote something that is no message."""


class OutOfTime(TimeoutError):
    """No complete message arrived before the deadline."""


def write(descriptor: int, body: bytes) -> None:
    """Write one message; blocks until all of it is in the pipe.

    Raises:
        OSError: when the reader is gone (``BrokenPipeError``).
        ValueError: when the body is longer than ``MAX_BYTES``.
    """
    if len(body) > MAX_BYTES:
        raise ValueError(f"message of {len(body)} bytes, more than {MAX_BYTES}")
    data = memoryview(_HEADER.pack(len(body)) + body)
    while data:
        data = data[os.write(descriptor, data) :]


def read(
    descriptor: int, *, deadline: float | None = None, writer: int | None = None
) -> bytes | None:
    """One message's body, or None when the writer is gone (also halfway through a message).

    Args:
        deadline: value of ``time.monotonic()`` after which to give up.
        writer: a pidfd of the writing process, whose end counts as closing the pipe: a process
            that it left behind may hold the pipe open.

    Raises:
        BrokenFrame: when the announced length is over ``MAX_BYTES``.
        OutOfTime: at the deadline.
    """
    header = _exactly(descriptor, _HEADER.size, deadline, writer)
    if header is None:
        return None
    (length,) = _HEADER.unpack(header)
    if length > MAX_BYTES:
        raise BrokenFrame(f"announced {length} bytes, more than {MAX_BYTES}")
    return _exactly(descriptor, length, deadline, writer)


def _exactly(
    descriptor: int, length: int, deadline: float | None, writer: int | None
) -> bytes | None:
    chunks: list[bytes] = []
    while length:
        if deadline is not None and not _readable(descriptor, deadline, writer):
            return None
        chunk = os.read(descriptor, min(length, 1 << 20))
        if not chunk:
            return None
        chunks.append(chunk)
        length -= len(chunk)
    return b"".join(chunks)


def _readable(descriptor: int, deadline: float, writer: int | None) -> bool:
    """Wait for bytes; False when there are none and the writer has ended."""
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    if writer is not None:
        poller.register(writer, select.POLLIN)
    left_s = deadline - time.monotonic()
    ready = poller.poll(left_s * 1000) if left_s > 0 else []
    if not ready:
        raise OutOfTime
    return descriptor in dict(ready)


def to_json(message: dict[str, Any]) -> bytes:
    """A message as JSON; values that JSON lacks are written as text."""
    return json.dumps(message, default=str, allow_nan=False).encode()


def from_json(body: bytes) -> dict[str, Any]:
    """A JSON object, strictly.

    Raises:
        BrokenFrame: for anything else, NaN and infinities included.
    """
    try:
        message = json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise BrokenFrame(f"not JSON: {error}") from error
    if not isinstance(message, dict):
        raise BrokenFrame("not a JSON object")
    return message


def _refuse(constant: str) -> float:
    raise BrokenFrame(f"{constant} is no JSON number")
