"""What the processes of a run need, and where Ray puts them."""

from collections.abc import Iterator
from typing import Any

import pytest
import ray
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from pipeline.cluster.places import Place, interface_of, places
from pipeline.cluster.ray_session import reserve
from pipeline.recipe.hardware import Hardware


@pytest.mark.parametrize(("device", "gpu"), [("cpu", {}), ("cuda", {"GPU": 1.0})])
def test_a_reward_model_is_placed_as_an_engine_is(device: str, gpu: dict[str, float]) -> None:
    hardware = Hardware(ranks=2, engines=2, threads_per_rank=3, threads_per_engine=4)
    without = places(hardware, device=device, scorer=False)
    service, *ranks_and_engines = without.bundles
    assert service == {"CPU": 1.0}
    assert ranks_and_engines == [{"CPU": 3.0} | gpu] * 2 + [{"CPU": 4.0} | gpu] * 2
    assert without.scorer is None
    scored = places(hardware, device=device, scorer=True)
    assert scored.bundles == [*without.bundles, {"CPU": 4.0} | gpu]
    assert scored.scorer is not None
    assert scored.scorer.bundle == 5


def test_an_engine_gets_its_gpus_in_one_bundle() -> None:
    found = places(Hardware(engines=2, gpus_per_engine=4), device="cuda", scorer=False)
    assert found.bundles[2:] == [{"CPU": 1.0, "GPU": 4.0}] * 2
    assert [place.gpus for place in found.engines] == [4.0, 4.0]


COLOCATED = Hardware(ranks=2, engines=2, layout="colocated")


def test_colocated_engines_are_in_the_bundles_of_the_trainers() -> None:
    found = places(COLOCATED, device="cuda", scorer=True)
    both = {"CPU": 2.0, "GPU": 1.0}
    assert found.bundles == [{"CPU": 1.0}, both, both, {"CPU": 1.0, "GPU": 1.0}]
    assert [p.bundle for p in found.ranks] == [p.bundle for p in found.engines] == [1, 2]
    on_cpu = places(COLOCATED, device="cpu", scorer=False)
    assert on_cpu == places(Hardware(ranks=2, engines=2), device="cpu", scorer=False)


@pytest.fixture
def gpus() -> Iterator[None]:
    """A Ray that believes in three GPUs."""
    ray.init(address="local", num_cpus=8, num_gpus=3, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@ray.remote
class Process:
    """Knows its GPU."""

    def gpu(self) -> list[int]:
        return ray.get_gpu_ids()


def started(place: Place, group: PlacementGroup) -> Any:
    strategy = PlacementGroupSchedulingStrategy(
        placement_group=group, placement_group_bundle_index=place.bundle
    )
    return Process.options(
        num_cpus=place.cpus, num_gpus=place.gpus, scheduling_strategy=strategy
    ).remote()


def test_ray_gives_a_trainer_and_its_engine_the_same_gpu(gpus: None) -> None:
    found = places(COLOCATED, device="cuda", scorer=True)
    group = reserve(found.bundles, growing=False)

    assert found.scorer is not None
    processes = [started(place, group) for place in (*found.ranks, *found.engines, found.scorer)]
    first, second, beside_first, beside_second, reader = ray.get(
        [p.gpu.remote() for p in processes]
    )
    assert (beside_first, beside_second) == (first, second)
    assert {*first, *second, *reader} == {0, 1, 2}


def test_ray_gives_an_engine_all_its_gpus(gpus: None) -> None:
    found = places(Hardware(gpus_per_engine=2), device="cuda", scorer=False)
    group = reserve(found.bundles, growing=False)
    (trainer,), (engine,) = found.ranks, found.engines
    both = [started(place, group) for place in (trainer, engine)]
    one, two = ray.get([process.gpu.remote() for process in both])
    assert (len(one), len(two)) == (1, 2)
    assert {*one, *two} == {0, 1, 2}


def test_an_address_belongs_to_an_interface() -> None:
    assert interface_of("127.0.0.1") == "lo"
    assert interface_of("192.0.2.1") is None  # of a network for examples (RFC 5737)
