"""Trained weights on their way to the engines."""

from pathlib import Path

from safetensors.torch import load_file

from pipeline.depth.rl.policy_update import OPTIMIZER
from pipeline.generate.packed_weights import PackedWeights
from pipeline.generate.weights import pack


def packed(state: Path) -> PackedWeights:
    """The weights of a head or a state file, by checkpoint name, as `weights.unpack` reads them.

    Raises ValueError where the file has none.
    """
    named = {k: v for k, v in load_file(state).items() if not k.startswith(OPTIMIZER)}
    if not named:
        raise ValueError(f"{state} holds no weights: it is no state of a trainer")
    return pack(named)
