"""What a rollout client was given, as it was then."""

from torch import Tensor

from pipeline.generate.client import Weights


def joined(weights: Weights) -> dict[str, Tensor]:
    """Copies of all buckets' tensors: the trainer's own change afterwards."""
    return {name: tensor.clone() for bucket in weights for name, tensor in bucket.items()}
