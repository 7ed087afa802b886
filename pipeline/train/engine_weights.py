"""The policy's weights for engines, bucket by bucket: no process holds a second copy of all."""

from collections.abc import Iterator

from torch import Tensor, nn
from transformers import PreTrainedModel

from pipeline.generate.weights import BUCKET_BYTES, buckets, checkpoint_weights
from pipeline.train.whole_weights import whole_tensors


class EngineWeights:
    """`pipeline.generate.client.Weights` of a model in training. Where ranks share its weights,
    every rank must iterate, as each tensor is gathered on all of them."""

    def __init__(
        self, model: nn.Module, *, named: PreTrainedModel, bucket_bytes: int = BUCKET_BYTES
    ) -> None:
        """`named`: the model itself, which knows the names that files have."""
        self._named = named
        self._tensors = whole_tensors(model)
        self._empty = {name: tensor.empty for name, tensor in self._tensors.items()}
        self._buckets = buckets(named, self._empty, bucket_bytes=bucket_bytes)

    def __len__(self) -> int:
        return len(self._buckets)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for names in self._buckets:
            yield checkpoint_weights(
                self._named, {name: self._tensors[name].read(copied=False) for name in names}
            )

    def metadata(self) -> dict[str, Tensor]:
        """All names in their order, each with a tensor on the device "meta"."""
        return {
            sent: empty
            for names in self._buckets
            for sent, empty in checkpoint_weights(
                self._named, {name: self._empty[name] for name in names}
            ).items()
        }
