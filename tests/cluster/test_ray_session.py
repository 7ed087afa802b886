"""Where there is no Ray to join: one sentence, and soon."""

import socket
import time

import pytest

from pipeline.cluster.ray_session import ComponentFailed, check_reachable, join_ray
from pipeline.errors import FAILED


def test_a_listener_is_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        check_reachable(f"127.0.0.1:{server.getsockname()[1]}")
        check_reachable(f"ray://127.0.0.1:{server.getsockname()[1]}")


@pytest.mark.parametrize("address", ["auto", "local"])
def test_rays_own_words_are_left_to_it(address: str) -> None:
    check_reachable(address)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1"),
        ("ray://127.0.0.1:1", "no Ray cluster answers"),
        ("127.0.0.1:99999", "write HOST:PORT"),
        ("no-such-host.invalid:6379", "no Ray cluster answers"),
        ("somewhere", "write HOST:PORT"),
    ],
)
def test_a_wrong_address_is_one_sentence_within_seconds(address: str, says: str) -> None:
    began = time.monotonic()
    with pytest.raises(ComponentFailed, match=says) as caught:
        join_ray(address, [{"CPU": 1.0}])
    assert time.monotonic() - began < 20
    assert caught.value.exit_code == FAILED
    assert len(str(caught.value).splitlines()) == 1


def test_what_ray_raises_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError("no memory for the object store\nand a long story")

    monkeypatch.setattr("ray.init", fail)
    with pytest.raises(ComponentFailed, match="cannot be started .*: no memory") as caught:
        join_ray(None, [{"CPU": 1.0}])
    assert "story" not in str(caught.value)
