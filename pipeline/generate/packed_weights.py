"""The form in which weights travel between processes. Loads no torch: drivers pass it on."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class PackedTensor:
    """A tensor's bytes, which Ray's object store takes in one copy and hands out in none."""

    data: NDArray[np.uint8]  # one-dimensional; tied tensors share it
    dtype: str  # torch's name, such as "float32"
    shape: tuple[int, ...]


PackedWeights = Mapping[str, PackedTensor]
"""Tensors by the names of a weights file."""
