"""The GPU weight transfer's arithmetic; the transfer itself needs a GPU."""

from collections.abc import Iterator

import torch

from pipeline.generate.transfer import TensorSource, for_engine


def test_every_engine_has_its_own_ranks() -> None:
    info = {"init_info": {"rank_offset": 1, "world_size": 7, "master_port": 5}}
    offsets = [
        for_engine("init_weight_transfer_engine", info, engine=i, gpus_per_engine=2)["init_info"][
            "rank_offset"
        ]
        for i in range(3)
    ]
    assert offsets == [1, 3, 5]
    assert info["init_info"]["rank_offset"] == 1
    assert for_engine("update_weights", {"update_info": 1}, engine=2, gpus_per_engine=2) == {
        "update_info": 1
    }


class TwoBuckets:
    """Weights of one tensor each."""

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        yield {"a": torch.zeros(2, 3)}
        yield {"b": torch.ones(4, dtype=torch.bfloat16)}

    def metadata(self) -> dict[str, torch.Tensor]:
        return {name: tensor.to("meta") for bucket in self for name, tensor in bucket.items()}


def test_the_source_declares_what_it_yields() -> None:
    first, second = TensorSource(TwoBuckets()).metadata()
    assert (first.name, first.dtype, first.shape) == ("a", torch.float32, (2, 3))
    assert (second.name, second.dtype, second.shape) == ("b", torch.bfloat16, (4,))
