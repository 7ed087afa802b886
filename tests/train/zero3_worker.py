"""One rank of a check on sharded weights, as a script: `zero3_worker.py JOB.pickle _`."""

import pickle
import sys
from pathlib import Path

import deepspeed
import torch
from torch import nn
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


if __name__ == "__main__":
    with trainer_process(pickle.loads(Path(sys.argv[1]).read_bytes())):
        whole = network().bfloat16()
        with deepspeed.zero.Init(dtype=torch.bfloat16):
            policy, reference = network(), network()
        assert sum(p.numel() for p in policy.parameters()) == 0, "not sharded"
        load_weights(policy, full_weights(whole))
        load_weights(reference, full_weights(policy))
        for name, tensor in full_weights(reference).items():
            assert torch.equal(tensor, whole.state_dict()[name]), name
        with deepspeed.zero.Init(dtype=torch.bfloat16):
            model = LlamaForCausalLM(CONFIG)
        expected = checkpoint_weights(model, full_weights(model))
        weights = EngineWeights(model, named=model, bucket_bytes=2**10)
        assert len(weights) > 4
        described, sent = weights.metadata(), joined(weights)
        assert list(described) == list(sent)
        assert sent.keys() == expected.keys()
        for name, tensor in sent.items():
            assert tensor.shape == described[name].shape, name
            assert torch.equal(tensor, expected[name]), name
