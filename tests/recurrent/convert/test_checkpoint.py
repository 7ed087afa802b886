"""Every tensor has its place: shards, types, names, tied heads."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from pipeline.recurrent.convert import tensor_files
from pipeline.recurrent.convert.checkpoint import ConversionError
from pipeline.recurrent.convert.folder import (
    convert_dense,
)
from pipeline.recurrent.convert.tensor_files import INDEX
from pipeline.recurrent.model import RecurrentForCausalLM
from tests.recurrent.convert.checkpoints import (
    llama_model,
    reweighed,
    saved,
)


@pytest.mark.parametrize("file_bytes", [2**28, 2**15])
def test_bfloat16_is_kept_in_files_of_a_size(
    file_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensor_files, "FILE_BYTES", file_bytes)
    model = llama_model(tie_word_embeddings=False).to(torch.bfloat16)
    dense = saved(model, tmp_path / "dense", max_shard_size="60KB")
    assert len(list(dense.glob("*.safetensors"))) > 2
    done = convert_dense(dense, tmp_path / "ours", split=(1, 2, 1))
    assert done.max_logit_diff is not None
    assert done.max_logit_diff < 1e-4
    shards = sorted((tmp_path / "ours").glob("*.safetensors"))
    assert (len(shards) > 1) == (file_bytes == 2**15)
    stored = {name: tensor for shard in shards for name, tensor in load_file(shard).items()}
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
    assert (tmp_path / "ours" / INDEX).exists() == (len(shards) > 1)
    if len(shards) > 1:
        assert max(sum(t.nbytes for t in load_file(file).values()) for file in shards) <= file_bytes
        index = json.loads((tmp_path / "ours" / INDEX).read_text())
        assert set(index["weight_map"]) == set(stored)
    assert RecurrentForCausalLM.from_pretrained(tmp_path / "ours").dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda w: w.update({"model.layers.0.lora.weight": torch.ones(2)}), "lora"),
        (lambda w: w.update({"model.layers.4.mlp.up_proj.weight": torch.ones(2)}), r"layers\.4"),
        (lambda w: w.update({"model.visual.weight": torch.ones(2)}), "unknown tensor model.visual"),
        (lambda w: w.pop("model.norm.weight"), "nothing fills model.norm.weight"),
        (lambda w: w.update({"model.norm.weight": torch.ones(2)}), r"shape \[2\], not \[48\]"),
    ],
)
def test_tensors_that_do_not_fit_are_named_and_nothing_is_left_behind(
    llama: Path, tmp_path: Path, change: Callable[[dict[str, Tensor]], object], says: str
) -> None:
    reweighed(llama, change)
    with pytest.raises(ConversionError, match=says):
        convert_dense(llama, tmp_path / "ours", split=(1, 2, 1))
    assert [path.name for path in tmp_path.iterdir()] == ["dense"]


def test_a_tied_head_is_left_out_only_where_it_is_the_embedding(tmp_path: Path) -> None:
    dense = saved(llama_model(tie_word_embeddings=True), tmp_path / "dense")
    embedding = "model.embed_tokens.weight"
    reweighed(dense, lambda w: w.update({"lm_head.weight": w[embedding].clone()}))
    done = convert_dense(dense, tmp_path / "ours", split=(1, 2, 1))
    assert done.left_out == ("lm_head.weight",)
    reweighed(dense, lambda w: w.update({"lm_head.weight": w[embedding] + 1}))
    with pytest.raises(ConversionError, match="tie_word_embeddings"):
        convert_dense(dense, tmp_path / "other", split=(1, 2, 1))
