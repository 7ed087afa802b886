"""A trained head on its way to the engines."""

from pathlib import Path

from pipeline.generate.weights import pack
from pipeline.train.depth.head import load


def packed(state: Path) -> bytes:
    """The head of a head's or a state's file, by checkpoint name, as `weights.unpack` reads it.

    Raises ValueError where the file has no head.
    """
    return pack(load(state))
