"""A head travels alone or in a model's folder, and nothing else of the folder changes."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline.depth.model import head as heads
from pipeline.recurrent.model import RecurrentForCausalLM


def test_a_head_survives_its_file(tmp_path: Path, folder: Path) -> None:
    config = RecurrentForCausalLM.from_pretrained(folder).config
    head = heads.fresh(config, width=5, seed=1)
    heads.write_whole(heads.tensors(head), tmp_path / "head.safetensors")
    again = heads.policy_of(heads.load(tmp_path / "head.safetensors"))
    for name, tensor in head.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
    assert [p.name for p in tmp_path.iterdir()] == ["head.safetensors"]
    other = heads.fresh(config, width=5, seed=2)
    assert not torch.equal(other.state.weight, head.state.weight)


@pytest.mark.parametrize("shard", ["5GB", "60KB"])
def test_a_folder_takes_a_head_of_another_width(tmp_path: Path, folder: Path, shard: str) -> None:
    model = RecurrentForCausalLM.from_pretrained(folder).eval()
    source = tmp_path / "source"
    model.save_pretrained(source, max_shard_size=shard)
    (source / "chat_template.jinja").write_text("{{ messages }}")
    assert (source / "model.safetensors.index.json").is_file() == (shard == "60KB")
    head = heads.fresh(model.config, width=11, seed=1)
    out = heads.with_head(source, tmp_path / "out", head)

    assert (out / "chat_template.jinja").read_text() == "{{ messages }}"
    settings = json.loads((out / "config.json").read_text())
    assert settings["halting_width"] == 11
    assert settings["hidden_size"] == 64
    loaded, info = RecurrentForCausalLM.from_pretrained(out, output_loading_info=True)  # pyright: ignore[reportGeneralTypeIssues]
    assert not any(info.values()), info
    for name, tensor in model.state_dict().items():
        if not name.startswith(heads.HALTING):
            assert torch.equal(loaded.state_dict()[name], tensor), name
    for name, tensor in heads.load(out).items():
        assert torch.equal(tensor, heads.tensors(head)[name])
        assert torch.equal(loaded.state_dict()[name], tensor)
    stored = [name for file in out.glob("*.safetensors") for name in load_file(file)]
    assert len(stored) == len(set(stored))


def test_a_folder_takes_a_gate(tmp_path: Path, folder: Path) -> None:
    gate = torch.nn.Linear(64, 1)
    out = heads.with_gate(folder, tmp_path / "out", gate)
    loaded = RecurrentForCausalLM.from_pretrained(out)
    assert loaded.model.exit_gate is not None
    assert torch.equal(loaded.model.exit_gate.weight, gate.weight)
    assert heads.load(out).keys() == heads.load(folder).keys()


def test_a_file_without_a_head_is_refused(tmp_path: Path) -> None:
    heads.write_whole({"other": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="holds no halting head"):
        heads.load(tmp_path / "x.safetensors")
