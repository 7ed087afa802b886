"""What the processes of a run need."""

import pytest

from pipeline.cluster.places import interface_of, places
from pipeline.recipe.hardware import Hardware


@pytest.mark.parametrize(("device", "gpu"), [("cpu", {}), ("cuda", {"GPU": 1.0})])
def test_a_reward_model_is_placed_as_an_engine_is(device: str, gpu: dict[str, float]) -> None:
    hardware = Hardware(ranks=2, engines=2, threads_per_rank=3, threads_per_engine=4)
    without = places(hardware, device=device, scorer=False)
    service, *ranks_and_engines = without
    assert service == {"CPU": 1.0}
    assert ranks_and_engines == [{"CPU": 3.0} | gpu] * 2 + [{"CPU": 4.0} | gpu] * 2
    assert places(hardware, device=device, scorer=True) == [*without, {"CPU": 4.0} | gpu]


def test_an_address_belongs_to_an_interface() -> None:
    assert interface_of("127.0.0.1") == "lo"
    assert interface_of("192.0.2.1") is None  # of a network for examples (RFC 5737)
