"""LiveCodeBench's private tests: JSON as text, pickled, compressed by zlib, in base64.

A pickle can run code. Only one that holds nothing but a text or bytes is read: the unpickler here
finds no class and no function at all.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import pickle
import zlib
from typing import Any, NoReturn

from rewards.sandbox.kinds import BadTests

MAX_BYTES = 256 << 20
"""Of decompressed tests: a small text may decompress to any size."""


class _TextOnly(pickle.Unpickler):
    """Reads plain data; every name that a pickle could call is refused."""

    def find_class(self, module: str, name: str, /) -> NoReturn:
        raise pickle.UnpicklingError(f"it names {module}.{name}, and only a text is read")

    def persistent_load(self, pid: Any, /) -> NoReturn:
        raise pickle.UnpicklingError("it refers to something outside, and only a text is read")


def unpacked(text: str) -> Any:
    """The JSON in a column of packed tests, or in plain text.

    Raises:
        BadTests: when it holds anything else.
    """
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        unzip = zlib.decompressobj()
        data = unzip.decompress(base64.b64decode(text, validate=True), MAX_BYTES)
        if unzip.unconsumed_tail:
            raise BadTests(f"packed tests hold more than {MAX_BYTES >> 20} MiB; drop the row")
        content = _TextOnly(io.BytesIO(data)).load()
        if not isinstance(content, (str, bytes)):
            raise pickle.UnpicklingError(f"it is a {type(content).__name__}, not a text")
        return json.loads(content)
    except BadTests:
        raise
    except (binascii.Error, zlib.error, ValueError, EOFError, RecursionError) as error:
        raise BadTests(_words(error)) from error
    except (pickle.UnpicklingError, AttributeError, IndexError, KeyError, TypeError) as error:
        raise BadTests(_words(error)) from error


def _words(error: Exception) -> str:
    return (
        f"packed tests cannot be read: {error}; they are JSON, or JSON as a text that is pickled, "
        "compressed by zlib and written in base64, as LiveCodeBench has it"
    )
