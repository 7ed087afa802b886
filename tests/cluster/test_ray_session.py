"""Where there is no Ray to join: one sentence, and soon."""

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import psutil
import pytest
from ray._private.authentication_test_utils import reset_auth_token_state

from pipeline.cluster import ray_session
from pipeline.cluster.ray_session import (
    CLIENT_METHOD,
    HEAD_METHOD,
    ComponentFailed,
    check_reachable,
    check_socket_room,
    gone_nodes,
    is_alive,
    join_ray,
)
from pipeline.errors import FAILED, Stopped

TOKEN = "0123456789abcdef" * 4
SETTINGS = bytes(3) + b"\x04" + bytes(5)  # the first frame of any HTTP/2 server


@contextmanager
def listener(answer: bytes, *, silent: bool = False) -> Iterator[str]:
    """The address of a server that says the same to everybody."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                line, _ = server.accept()
            except OSError:  # closed: the test is over
                return
            with line:
                line.recv(100)
                line.sendall(answer)
                while silent and line.recv(100):
                    pass

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.getsockname()[1]}"
    finally:
        server.close()


@contextmanager
def grpc_server(*methods: str) -> Iterator[str]:
    """The address of a server that knows these methods, and wants TOKEN for them."""

    def answer(_request: bytes, context: grpc.ServicerContext) -> bytes:
        if ("authorization", f"Bearer {TOKEN}") in context.invocation_metadata():
            return b""
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "token missing")

    server = grpc.server(ThreadPoolExecutor(1))
    for method in methods:
        service, _, name = method.strip("/").rpartition("/")
        handler = {name: grpc.unary_unary_rpc_method_handler(answer)}
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handler)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None)


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Gives this machine a token; it has none before, and has its own again afterwards."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")  # so that what Ray sets goes as well
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    reset_auth_token_state()

    def give(text: str) -> None:
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray" / "auth_token").write_text(text)

    yield give
    monkeypatch.undo()
    reset_auth_token_state()


def test_a_server_that_knows_ray_s_calls_is_reached(token: Callable[[str], None]) -> None:
    """Ray sends the token of the home to `auto` alone; the run sends it to any cluster."""
    token(TOKEN)
    with grpc_server(HEAD_METHOD) as address:
        check_reachable(address)
    with grpc_server(CLIENT_METHOD) as address:
        check_reachable(f"ray://{address}")


def test_a_token_that_the_cluster_wants(
    token: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with grpc_server(HEAD_METHOD) as address:
        with pytest.raises(ComponentFailed, match="wants a token, and there is none here"):
            check_reachable(address)
        token("f" * 64)
        with pytest.raises(ComponentFailed, match="refuses the one of this machine"):
            check_reachable(address)
        monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
        reset_auth_token_state()
        with pytest.raises(ComponentFailed, match="RAY_AUTH_MODE=disabled keeps it back"):
            check_reachable(address)


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_another_server_of_grpc_is_no_ray(scheme: str) -> None:
    with (
        grpc_server("/grpc.health.v1.Health/Check") as address,
        pytest.raises(ComponentFailed, match="is no Ray cluster"),
    ):
        check_reachable(f"{scheme}{address}")


def test_a_server_of_http_2_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_session, "REACH_S", 0.5)
    with (
        listener(SETTINGS, silent=True) as address,
        pytest.raises(ComponentFailed, match="is no Ray cluster"),
    ):
        check_reachable(address)


@pytest.mark.parametrize("key", ["RAY_TMPDIR", "TMPDIR"])
def test_a_folder_too_long_for_sockets(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv(key, f"/tmp/{'é' * 20}")
    with pytest.raises(ComponentFailed, match=f"{key}=.* is too long for Ray"):
        check_socket_room()


@pytest.mark.parametrize("folder", ["/dev/null", "/dev/null/x", "/proc/nothing"])
def test_a_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    monkeypatch.setenv("RAY_TMPDIR", folder)
    with pytest.raises(ComponentFailed, match=f"RAY_TMPDIR={folder}: Ray cannot write there"):
        check_socket_room()


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.0 400 Bad request\r\n", b"SSH-2.0-OpenSSH_9\r\n", b"-ERR unknown\r\n", b""]
)
def test_what_listens_and_is_no_ray(answer: bytes) -> None:
    with listener(answer) as address, pytest.raises(ComponentFailed, match="is no Ray cluster"):
        join_ray(address, [{"CPU": 1.0}])


def test_a_listener_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_session, "REACH_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ComponentFailed, match=f"no Ray cluster answers at {address}"):
            join_ray(address, [{"CPU": 1.0}])


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


def test_sigterm_while_ray_starts_is_ours_to_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray puts a handler of its own in place that exits with the signal's number."""
    answers: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: answers.append(number))

    def start(**_: object) -> None:
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("ray.init", start)
    try:
        with pytest.raises(Stopped, match="the same command goes on"):
            join_ray(None, [{"CPU": 1.0}])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert answers == [signal.SIGTERM]


@pytest.mark.parametrize("fault", [errno.EROFS, errno.ENOSPC])
def test_a_home_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, fault: int) -> None:
    def refused(**_: object) -> None:
        raise OSError(fault, os.strerror(fault), "/home/me/.ray")

    monkeypatch.setattr(ray_session.ray, "init", refused)
    with pytest.raises(ComponentFailed) as caught:
        join_ray(None, [{"CPU": 1.0}])
    assert f"/home/me/.ray: {os.strerror(fault)}; set HOME" in str(caught.value)


def test_a_process_that_nobody_has_waited_for_is_not_alive() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = psutil.Process(child.pid)
    assert is_alive(process)
    child.kill()
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert not is_alive(process)
    child.wait()
    assert not is_alive(process)


def test_machines_that_are_gone_are_named() -> None:
    def node(number: int, *, alive: bool) -> dict[str, object]:
        address, name = f"10.0.0.{number}", f"node-{number}"
        return {"NodeManagerHostname": name, "NodeManagerAddress": address, "Alive": alive}

    here = [node(number, alive=True) for number in (1, 2)]
    assert gone_nodes([*here, node(2, alive=False)]) == ""  # it came back
    assert gone_nodes([*here, node(3, alive=False)]) == "node-3 (10.0.0.3)"
    many = [node(number, alive=False) for number in (6, 5, 4, 3)]
    assert gone_nodes([*here, *many]).endswith("node-5 (10.0.0.5) and 1 more")
