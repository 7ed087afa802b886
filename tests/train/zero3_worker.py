"""One rank of a check on sharded weights, as a script: `zero3_worker.py JOB.pickle _`."""

import pickle
import sys
from pathlib import Path

import deepspeed
import torch
from torch import nn

from pipeline.train.arguments import trainer_process
from pipeline.train.whole_weights import full_weights, load_weights


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
