"""Weights on their way from a trainer to engines, through a real Ray."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from ray._private.internal_api import get_memory_info_reply, get_state_from_address
from ray.exceptions import RayActorError, RayTaskError
from torch import Tensor

from pipeline.cluster.actors import EngineActor, ServiceClient
from pipeline.cluster.deaths import innermost
from pipeline.cluster.ray_session import FREED_AT_ONCE
from pipeline.generate.engine import Part, WeightVersionError
from pipeline.generate.weights import folder_weights
from pipeline.records import Request
from tests.generate.engine_settings import cpu_settings

MODEL = Path("data/models/tiny").absolute()
SETTINGS = cpu_settings(tokens=64, sequences=4, gib=0.1, engine="native")
BUCKET_BYTES, BUCKETS = 2**23, 12


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        _system_config=dict(FREED_AT_ONCE),
    )
    yield
    ray.shutdown()


class Buckets:
    """Weights for a client, with something to happen before a bucket is made."""

    def __init__(self, buckets: list[dict[str, Tensor]], events: dict[int, Any]) -> None:
        self.buckets, self.events = buckets, events

    def __len__(self) -> int:
        return len(self.buckets)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for number, bucket in enumerate(self.buckets):
            if number in self.events:
                self.events[number]()
            yield bucket

    def metadata(self) -> dict[str, Tensor]:
        return {}


@ray.remote
class SlowEngine:
    """Takes weights slower than they come, and notes what the object store holds then."""

    def __init__(self) -> None:
        self.held: list[int] = []
        self.parts: list[tuple[bool, bool]] = []

    def load_weights(self, packed: Any, *, version: int, part: Part) -> None:
        time.sleep(0.3)  # the next one is put meanwhile
        address = ray.get_runtime_context().gcs_address
        reply = get_memory_info_reply(get_state_from_address(address))
        self.held.append(reply.store_stats.object_store_bytes_used)
        self.parts.append((part.first, part.last))

    def seen(self) -> tuple[list[int], list[tuple[bool, bool]]]:
        return self.held, self.parts


def test_two_buckets_are_in_the_store_at_a_time() -> None:
    engines = [SlowEngine.remote() for _ in range(2)]
    client = ServiceClient(None, engines)
    made = [{f"w{i}": torch.full((BUCKET_BYTES // 4,), float(i))} for i in range(BUCKETS)]
    client.push_weights(Buckets(made, {}), version=0)
    held, parts = ray.get(engines[0].seen.remote())
    print(held)
    print(f"of {BUCKETS} buckets the store held {max(held) / BUCKET_BYTES:.2f} at most")
    assert parts == [(i == 0, i == BUCKETS - 1) for i in range(BUCKETS)]
    assert 1.9 * BUCKET_BYTES < max(held) < 2.1 * BUCKET_BYTES


@pytest.fixture
def engines(tmp_path: Path) -> list[Any]:
    actors = [EngineActor.remote(tmp_path / f"engine-{i}.log") for i in range(2)]
    ray.get([actor.load.remote(MODEL, SETTINGS, version=0) for actor in actors])
    return actors


def rollouts(engine: Any, *, version: int) -> list[Any]:
    requests = [
        Request(
            prompt_id="p",
            prompt_tokens=(2, 10, 11, 12),
            sample=i,
            seed=i,
            max_tokens=8,
            temperature=1.0,
            top_p=1.0,
        )
        for i in range(4)
    ]
    chunks = engine.generate.options(num_returns="streaming").remote(requests, version=version)
    rows = [rollout for chunk in chunks for rollout in ray.get(chunk)]
    return sorted(rows, key=lambda rollout: rollout.sample)


def refuses(engine: Any, *, version: int) -> bool:
    try:
        rollouts(engine, version=version)
    except RayTaskError as error:
        return isinstance(innermost(error), WeightVersionError)
    return False


@pytest.mark.slow
def test_half_of_new_weights_is_served_by_nobody(engines: list[Any]) -> None:
    """Engines fail between two buckets, then the sync is repeated; then one is killed."""
    client = ServiceClient(None, engines)
    weights = [(name, tensor * 1.01) for name, tensor in folder_weights(MODEL)]
    made = [dict(weights[i::4]) for i in range(4)]
    old = rollouts(engines[0], version=0)
    wrong = [*made[:2], {"model.nowhere": torch.zeros(1)}, *made[2:]]
    with pytest.raises(RayTaskError, match=r"hold model\.nowhere"):
        client.push_weights(Buckets(wrong, {}), version=1)
    assert all(refuses(engine, version=v) for engine in engines for v in (0, 1))
    client.push_weights(Buckets(made, {}), version=1)
    client.push_weights(Buckets([dict(weights)], {}), version=2)
    one, two = (rollouts(engine, version=2) for engine in engines)
    assert one == two
    assert [r.logprobs for r in one] != [r.logprobs for r in old]
    client.push_weights(Buckets(made, {}), version=3)
    in_parts = rollouts(engines[0], version=3)
    assert [(r.tokens, r.logprobs) for r in in_parts] == [(r.tokens, r.logprobs) for r in one]
    kill = {2: lambda: ray.kill(engines[1])}
    with pytest.raises((RayTaskError, RayActorError)) as caught:
        client.push_weights(Buckets(made, kill), version=4)
    assert isinstance(innermost(caught.value), RayActorError)
    assert all(refuses(engines[0], version=v) for v in (3, 4))
