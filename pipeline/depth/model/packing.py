"""Trained weights on their way to the engines."""

from pathlib import Path

from safetensors.torch import load_file

from pipeline.depth.rl.policy_update import OPTIMIZER
from pipeline.generate.weights import HEAD, pack
from pipeline.recurrent.convert.checkpoint import EMBEDDING


def packed(state: Path) -> bytes:
    """The weights of a head's or a state's file, by checkpoint name, as `weights.unpack` reads
    them; a tied output head is named too, as engines want it.

    Raises ValueError where the file has none.
    """
    named = {k: v for k, v in load_file(state).items() if not k.startswith(OPTIMIZER)}
    if not named:
        raise ValueError(f"{state} holds no weights: it is no state of a trainer")
    if EMBEDDING in named:
        named.setdefault(HEAD, named[EMBEDDING])
    return pack(named)
