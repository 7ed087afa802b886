"""What engines are sent of a trainer's state."""

from pathlib import Path

import pytest
import torch

from pipeline.depth.model.head import write_whole
from pipeline.depth.model.packing import packed
from pipeline.generate.weights import unpack


def test_a_head_is_sent_without_its_optimizer(tmp_path: Path) -> None:
    state = {"model.halting.out.bias": torch.ones(1), "optimizer.out.bias.step": torch.ones(1)}
    write_whole(state, tmp_path / "state")
    assert [name for name, _ in unpack(packed(tmp_path / "state"))] == ["model.halting.out.bias"]


def test_a_file_without_weights_is_refused(tmp_path: Path) -> None:
    write_whole({"optimizer.out.bias.step": torch.ones(1)}, tmp_path / "state")
    with pytest.raises(ValueError, match="holds no weights"):
        packed(tmp_path / "state")
