"""Weights that leave a trainer in buckets are those of its weights file, and none is held twice."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from pipeline.generate.weights import checkpoint_weights
from pipeline.recipe.lora import Lora
from pipeline.train.adapter import transformers_model, with_adapters
from pipeline.train.engine_weights import EngineWeights
from pipeline.train.whole_weights import full_weights
from tests.generate.test_weights import QUICK
from tests.tiny_families import FAMILIES, write_family
from tests.train.conftest import MakeJob
from tests.train.pushed import joined

SMALL = 2**14


@pytest.mark.parametrize(
    "family",
    [f if f in QUICK else pytest.param(f, marks=pytest.mark.slow) for f in FAMILIES],
)
@pytest.mark.parametrize("bucket_bytes", [1, SMALL, 2**28])
def test_buckets_are_the_whole_in_parts(family: str, bucket_bytes: int, tmp_path: Path) -> None:
    """Also of families whose files have other tensors than the model has."""
    model = write_family(family, tmp_path)
    whole = checkpoint_weights(model, full_weights(model))
    weights = EngineWeights(model, named=model, bucket_bytes=bucket_bytes)
    sent = joined(weights)
    assert sent.keys() == whole.keys()
    assert all(torch.equal(sent[name], tensor) for name, tensor in whole.items())
    described = weights.metadata()
    assert list(described) == list(sent)
    assert all(described[name].shape == tensor.shape for name, tensor in sent.items())
    assert all(described[name].dtype == tensor.dtype for name, tensor in sent.items())
    assert len(weights) == sum(1 for _ in weights)
    assert (len(weights) == 1) == (bucket_bytes == 2**28)


def test_a_bucket_has_a_bound_or_one_tensor(tmp_path: Path) -> None:
    model = write_family("llama", tmp_path)
    for bucket in EngineWeights(model, named=model, bucket_bytes=SMALL):
        size = sum(tensor.nbytes for tensor in {t.data_ptr(): t for t in bucket.values()}.values())
        assert size <= SMALL or len({t.data_ptr() for t in bucket.values()}) == 1


def test_what_lies_on_the_cpu_is_not_copied(tmp_path: Path) -> None:
    model = write_family("llama", tmp_path)
    places = {parameter.data_ptr() for parameter in model.parameters()}
    for bucket in EngineWeights(model, named=model, bucket_bytes=SMALL):
        assert {tensor.data_ptr() for tensor in bucket.values()} <= places


def test_adapters_are_added_in(make_job: MakeJob, tiny_model: Path) -> None:
    plain = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    model = with_adapters(plain, make_job(lora=Lora(rank=4, alpha=8)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_()
    named = transformers_model(model)
    sent = joined(EngineWeights(model, named=named, bucket_bytes=SMALL))
    whole = checkpoint_weights(named, full_weights(model))
    assert sent.keys() == whole.keys()
    assert all(torch.equal(sent[name], tensor) for name, tensor in whole.items())
