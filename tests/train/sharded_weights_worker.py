"""One rank of a check on sharded weights, as a script: `sharded_weights_worker.py JOB.pickle _`."""

import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import deepspeed
import torch
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers import LlamaConfig, LlamaForCausalLM

from pipeline.generate.weights import checkpoint_weights
from pipeline.train.arguments import trainer_process
from pipeline.train.engine_weights import EngineWeights
from pipeline.train.whole_weights import full_weights, load_weights
from tests.train.pushed import joined

CONFIG = LlamaConfig(
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=2,
    vocab_size=40,
    tie_word_embeddings=True,
)


def network() -> nn.Module:
    """Parameters of odd sizes; DeepSpeed shards those outside a configured run in bfloat16."""
    return nn.Sequential(nn.Linear(7, 5), nn.LayerNorm(5), nn.Linear(5, 3))


Module = TypeVar("Module", bound=nn.Module)


def shared(make: Callable[[], Module], *, sharding: str) -> Module:
    """A bfloat16 module of which every rank holds a part."""
    if sharding == "zero3":
        with deepspeed.zero.Init(dtype=torch.bfloat16):
            module = make()
        assert sum(p.numel() for p in module.parameters()) == 0, "not sharded"
        return module
    module = make().bfloat16()
    fully_shard(module)
    assert all(isinstance(p, DTensor) for p in module.parameters()), "not sharded"
    return module


if __name__ == "__main__":
    job = pickle.loads(Path(sys.argv[1]).read_bytes())
    with trainer_process(job):
        whole = network().bfloat16()
        policy, reference = (shared(network, sharding=job.sharding) for _ in range(2))
        load_weights(policy, full_weights(whole))
        load_weights(reference, full_weights(policy))
        for name, tensor in full_weights(reference).items():
            assert torch.equal(tensor, whole.state_dict()[name]), name
        model = shared(lambda: LlamaForCausalLM(CONFIG), sharding=job.sharding)
        expected = checkpoint_weights(model, full_weights(model))
        weights = EngineWeights(model, named=model, bucket_bytes=2**10)
        assert len(weights) > 4
        described, sent = weights.metadata(), joined(weights)
        assert list(described) == list(sent)
        assert sent.keys() == expected.keys()
        for name, tensor in sent.items():
            assert tensor.shape == described[name].shape, name
            assert torch.equal(tensor, expected[name]), name
