"""Tensors from files and into files, a few at a time: no process holds a whole model."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
FILE_BYTES = 2**28
"""Bytes of a file that is written, which is what is in memory at a time, unless one tensor has
more."""


@contextmanager
def opened(files: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """The open file of each tensor, by the tensor's name. Raises SafetensorError.

    Open it anew for every few tensors: the pages that were read count as memory until it closes.
    """
    with ExitStack() as stack:
        handles = [stack.enter_context(safe_open(file, "pt")) for file in files]
        yield {name: handle for handle in handles for name in list(handle.keys())}


def write_tensors(
    planned: Mapping[str, Tensor],
    folder: Path,
    read: Callable[[Sequence[str]], Mapping[str, Tensor]],
) -> None:
    """Write a model's tensors to a folder: to one file where they fit in it, else with an index.

    `planned` has their shapes and dtypes, on the device "meta"; `read` gives those of one file, by
    name, and is called once a file.
    """
    split = split_torch_state_dict_into_shards(dict(planned), max_shard_size=FILE_BYTES)
    for file, names in split.filename_to_tensors.items():
        save_file(dict(read(names)), folder / file, metadata={"format": "pt"})
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")
