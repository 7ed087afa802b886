"""The hub is asked once whether it answers, and not for minutes."""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from pipeline.recipe import hub_reach
from pipeline.recipe.hub_reach import OFFLINE, reach_hub, silence
from pipeline.recipe.schema import Recipe

CONTENT = {
    "name": "hub",
    "model": {"hub": "owner/name"},
    "prompts": {"train": {"task": "swaps", "size": 5, "difficulty": [1, 2]}},
    "stages": {"cold": {"kind": "sft", "rows": "train.worked", "max_tokens": 64}},
}
SCRATCH = {"scratch": {"hidden": 32, "layers": 1, "heads": 1, "mlp": 64}}


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv(OFFLINE, "0")
    monkeypatch.delenv(OFFLINE)


@pytest.fixture
def server() -> Iterator[str]:
    """A server that refuses everything, and so answers."""

    class Refusal(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(403)

        def log_message(self, format: str, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Refusal) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


def test_a_server_that_answers(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert silence(server) is None
    monkeypatch.setenv("HF_ENDPOINT", server)
    assert reach_hub(Recipe.model_validate(CONTENT)) is None
    assert OFFLINE not in hub_reach.os.environ


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:1", "http://no-such-host.invalid", "nonsense", "http://", ""]
)
def test_nobody_there(address: str) -> None:
    assert silence(address)


def test_one_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_reach, "ANSWER_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        assert "timed out" in str(silence(f"http://127.0.0.1:{mute.getsockname()[1]}"))


@pytest.mark.parametrize(
    ("changes", "is_asked"),
    [
        ({}, True),
        ({"model": SCRATCH}, False),
        ({"model": SCRATCH, "prompts": {"train": {"hub": "a/b:main", "size": 5}}}, True),
        ({"model": SCRATCH, "prompts": {"train": {"hub": ".", "size": 5}}}, False),
    ],
)
def test_only_who_needs_the_hub_asks(changes: dict[str, object], is_asked: bool) -> None:
    line = reach_hub(Recipe.model_validate(CONTENT | changes))
    assert (line is not None) == is_asked
    assert (OFFLINE in hub_reach.os.environ) == is_asked
    assert line is None or "http://127.0.0.1:1 does not answer" in line
