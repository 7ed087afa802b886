"""One hash of a model's weights, whatever files they lie in."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pipeline.models.weights_digest import weights_sha256

A = np.arange(12, dtype=np.float32).reshape(3, 4)
B = np.ones(5, dtype=np.float16)


def written(folder: Path, *files: dict[str, np.ndarray], below: str = "model") -> str | None:
    """The hash of a folder with these files."""
    (folder / below).mkdir(parents=True)
    for number, tensors in enumerate(files):
        save_file(
            tensors, folder / below / f"part-{number}.safetensors", metadata={"n": str(number)}
        )
    return weights_sha256(folder)


def test_it_is_the_same_however_tensors_are_split_over_files(tmp_path: Path) -> None:
    whole = written(tmp_path / "whole", {"a": A, "b": B})
    assert whole == written(tmp_path / "parts", {"b": B}, {"a": A})
    assert whole is not None


@pytest.mark.parametrize(
    "other",
    [
        {"a": A + 1, "b": B},
        {"a": A.reshape(4, 3), "b": B},
        {"a": A.view(np.int32), "b": B},
        {"A": A, "b": B},
        {"a": A},
    ],
)
def test_bytes_shape_dtype_and_name_count(other: dict[str, np.ndarray], tmp_path: Path) -> None:
    assert written(tmp_path / "one", {"a": A, "b": B}) != written(tmp_path / "two", other)


def test_an_adapter_is_no_model(tmp_path: Path) -> None:
    one = written(tmp_path / "one", {"a": A}, below="model")
    assert one != written(tmp_path / "two", {"a": A}, below="adapter")


def test_no_weights_no_hash_and_half_a_file_is_named(tmp_path: Path) -> None:
    assert weights_sha256(tmp_path) is None
    written(tmp_path, {"a": A})
    file = tmp_path / "model" / "part-0.safetensors"
    for content in (file.read_bytes()[:-1], b"", b"no safetensors file at all"):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"part-0\.safetensors is no whole"):
            weights_sha256(tmp_path)
