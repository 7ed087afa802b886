"""What engines are sent of a trainer's state."""

from pathlib import Path

import pytest
import torch

from pipeline.depth.model.head import write_whole
from pipeline.depth.model.packing import packed
from pipeline.generate.weights import unpack

EMBEDDING = torch.arange(6.0).view(3, 2)


def test_weights_are_sent_without_the_optimizers_and_a_tied_head_twice(tmp_path: Path) -> None:
    state = {
        "model.embed_tokens.weight": EMBEDDING,
        "optimizer.model.embed_tokens.weight.step": torch.ones(1),
    }
    write_whole(state, tmp_path / "state")
    found = dict(unpack(packed(tmp_path / "state")))
    assert found.keys() == {"model.embed_tokens.weight", "lm_head.weight"}
    assert torch.equal(found["lm_head.weight"], EMBEDDING)


def test_an_untied_head_is_its_own(tmp_path: Path) -> None:
    state = {"model.embed_tokens.weight": EMBEDDING, "lm_head.weight": EMBEDDING + 1}
    write_whole(state, tmp_path / "state")
    assert torch.equal(dict(unpack(packed(tmp_path / "state")))["lm_head.weight"], EMBEDDING + 1)


def test_a_heads_file_sends_the_head_alone(tmp_path: Path) -> None:
    write_whole({"model.halting.out.bias": torch.ones(1)}, tmp_path / "state")
    assert [name for name, _ in unpack(packed(tmp_path / "state"))] == ["model.halting.out.bias"]


def test_a_file_without_weights_is_refused(tmp_path: Path) -> None:
    write_whole({"optimizer.out.bias.step": torch.ones(1)}, tmp_path / "state")
    with pytest.raises(ValueError, match="holds no weights"):
        packed(tmp_path / "state")
