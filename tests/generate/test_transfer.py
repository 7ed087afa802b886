"""The GPU weight transfer's part that is ours; the transfer itself needs a GPU (tests/gpu)."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from pipeline.generate.transfer import Sender, TensorSource, buffer_bytes, for_engine, leave_room
from pipeline.generate.weights import BUCKET_BYTES


def test_every_engine_has_its_own_ranks() -> None:
    info = {"init_info": {"rank_offset": 1, "world_size": 7, "master_port": 5}}
    offsets = [
        for_engine(info, engine=i, gpus_per_engine=2)["init_info"]["rank_offset"] for i in range(3)
    ]
    assert offsets == [1, 3, 5]
    assert info["init_info"]["rank_offset"] == 1
    for other in ({"update_info": 1}, {"init_info": {"packed": True}}, {}):
        assert for_engine(other, engine=2, gpus_per_engine=2) == other


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


class VllmsPart:
    """What vLLM's trainer engines do to a client in a round."""

    def __init__(self, client: Sender, source: TensorSource) -> None:
        self.client, self.source = client, source
        client.init_weight_transfer_engine({"packed": True})

    def send_weights(self) -> None:
        self.client.start_weight_update()
        self.client.update_weights([p.name for p in self.source.metadata()])
        self.client.finish_weight_update()


def test_engines_are_told_of_every_round_at_its_version() -> None:
    calls: list[tuple[str, Mapping[str, Any], int]] = []
    sender = Sender(lambda *call: calls.append(call), VllmsPart)  # type: ignore[arg-type]
    for version in (3, 4):
        sender.push(TwoBuckets(), version=version)
    rounds = [
        ("start_weight_update", {}),
        ("update_weights", {"update_info": ["a", "b"]}),
        ("finish_weight_update", {}),
    ]
    assert calls == [
        ("init_weight_transfer_engine", {"init_info": {"packed": True}}, 3),
        *[(name, keywords, 3) for name, keywords in rounds],
        *[(name, keywords, 4) for name, keywords in rounds],
    ]


def test_the_memory_that_is_passed_on_holds_the_largest_tensor() -> None:
    small = TensorSource(TwoBuckets()).metadata()
    assert buffer_bytes(small) == BUCKET_BYTES
    leave_room()  # nothing to give back, and no other ranks
