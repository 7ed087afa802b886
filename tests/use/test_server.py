"""`stepwell serve`, with OpenAI's own client over loopback."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.errors import OK, WRONG
from pipeline.use.model_place import ModelPlace, model_place
from pipeline.use.server import NotServed, check_served, server_options
from pipeline.use.spoken_model import spoken_model
from pipeline.use.talk import Talk

ROOT = Path(__file__).resolve().parents[2]
STUDENT = ROOT / "data" / "models" / "tiny-student"
QUESTION = "2;25;24?"
PLACE = ModelPlace(name="/models/a", words="/models/a")
DENSE: dict[str, Any] = {"model_type": "llama", "hidden_size": 64, "num_attention_heads": 2}
RECURRENT: dict[str, Any] = {**DENSE, "model_type": "stepwell_recurrent"}


@pytest.mark.parametrize(
    ("place", "config", "said"),
    [
        (ModelPlace(name="a.gguf", words="a.gguf", is_gguf=True), {}, "no GGUF files"),
        (PLACE, {"model_type": "huginn_raven"}, "make it ours first"),
        (PLACE, {**RECURRENT, "warm_start": True}, "warm_start and kv_planes"),
        (PLACE, {**RECURRENT, "kv_planes": 2}, "warm_start and kv_planes"),
        (PLACE, {**DENSE, "num_attention_heads": 4}, "a size of 16"),
        (PLACE, {**DENSE, "head_dim": 48}, "a size of 48"),
    ],
)
def test_what_vllm_would_stumble_over(place: ModelPlace, config: dict[str, Any], said: str) -> None:
    with pytest.raises(NotServed, match=said):
        check_served(place, config, device="cpu")


def test_what_vllm_serves() -> None:
    for config in (DENSE, RECURRENT, {}):
        check_served(PLACE, config, device="cpu")
    check_served(PLACE, {**DENSE, "num_attention_heads": 4}, device="cuda")


def test_options_of_the_user_come_last() -> None:
    def options(config: dict[str, Any], device: str) -> list[str]:
        return server_options(
            PLACE,
            config,
            name="runs/a",
            host="127.0.0.1",
            port=1,
            device=device,
            own_code=False,
            more=["--max-num-seqs", "8"],
        )

    recurrent, dense = options(RECURRENT, "cuda"), options(DENSE, "cuda")
    assert recurrent[-2:] == dense[-2:] == ["--max-num-seqs", "8"]
    assert "--worker-extension-cls" in recurrent
    assert "--enforce-eager" in recurrent
    assert not {"--worker-extension-cls", "--enforce-eager", "--dtype"} & set(dense)
    assert {"--enforce-eager", "--dtype"} <= set(options(DENSE, "cpu"))
    names = dense[dense.index("--served-model-name") + 1 :][:2]
    assert names == ["runs/a", "a"]


@contextmanager
def server(model: Path, log: Path, *, port: int | None = None) -> Iterator[Any]:
    """A server's process, address and client, once it answers."""
    import openai

    port = port or free_port()
    command = [sys.executable, "-m", "pipeline", "serve", str(model), "--port", str(port)]
    with log.open("w") as stream:
        process = subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=stream)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: "Ctrl-C ends" in log.read_text(), process, log)
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60)
        yield process, url, client
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def wait_for(condition: Any, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 180
    while not condition():
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < end, log.read_text()[-3000:]
        time.sleep(0.2)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def ask(client: Any, **fields: Any) -> Any:
    known = {k: fields.pop(k) for k in ("max_tokens", "stream", "n", "temperature") if k in fields}
    return client.chat.completions.create(
        model=client.models.list().data[0].id,
        messages=[{"role": "user", "content": QUESTION}],
        extra_body=fields or None,
        **{"max_tokens": 24, "temperature": 0.0, **known},
    )


def talk(folder: Path, choice: dict[str, Any]) -> Any:
    """What the model says in `stepwell chat`."""
    spoken = spoken_model(model_place(str(folder)))
    return Talk.begin(spoken, choice, max_tokens=24).ask(QUESTION, tell=lambda _: None)


def shown(text: str) -> str:
    """An answer as the server has it: without the special tokens that a random model writes."""
    return re.sub("<(user|assistant|pad)>", "", text)


@pytest.fixture(scope="module")
def recurrent(calibrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with server(calibrated, tmp_path_factory.mktemp("logs") / "server.log") as served:
        yield served


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with server(STUDENT, tmp_path_factory.mktemp("logs") / "server.log") as served:
        yield served


@pytest.mark.slow
@pytest.mark.parametrize(
    "choice",
    [{}, {"effort": "low"}, {"effort": "high"}, {"budget": 0.4}, {"depth": 4}],
    ids=str,
)
def test_effort_is_respected_and_reported(
    recurrent: Any, calibrated: Path, choice: dict[str, Any]
) -> None:
    _, _, client = recurrent
    answer, own = ask(client, **choice), talk(calibrated, choice)
    message = answer.choices[0].message
    assert (message.content or "") == shown(own.answer)
    assert answer.usage.completion_tokens == own.tokens
    assert answer.depth["mean"] == pytest.approx(own.mean_depth, abs=1e-3)
    assert answer.depth["full"] == own.full_depth


@pytest.mark.slow
def test_32_clients_at_efforts_of_their_own(recurrent: Any, calibrated: Path) -> None:
    _, url, client = recurrent
    choices = [{"effort": "low"}, {"effort": "high"}, {"depth": 1}, {"depth": 8}]
    own = [talk(calibrated, choice) for choice in choices]

    def one(number: int) -> tuple[str, float]:
        choice = choices[number % len(choices)]
        if number % 2:
            answer = ask(client, **choice)
            return answer.choices[0].message.content or "", answer.depth["mean"]
        text, depth = "", 0.0
        for chunk in ask(client, stream=True, **choice):
            text += chunk.choices[0].delta.content or ""
            if chunk.choices[0].finish_reason:
                depth = chunk.depth["mean"]
        return text, depth

    with ThreadPoolExecutor(32) as pool:
        for number, (text, depth) in enumerate(pool.map(one, range(64))):
            expected = own[number % len(choices)]
            assert text == shown(expected.answer)
            assert depth == pytest.approx(expected.mean_depth, abs=1e-3)
    metrics = urllib.request.urlopen(f"{url}/metrics").read().decode()
    assert re.search(r"^stepwell:request_mean_depth_count [1-9]", metrics, re.MULTILINE)
    assert "vllm:" in metrics


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"effort": "most"}, "'most' is none of low, medium, high"),
        ({"effort": "low", "depth": 2}, "give one of"),
        ({"depth": 9}, "max_iterations=8"),
        ({"depth": 1.5}, "must be a whole number"),
        ({"budget": 7}, "at most 1"),
        ({"budget": [1]}, "must be a number"),
        ({"temperature": -1.0}, "temperature"),
        ({"thinking_budget": "much"}, "thinking_token_budget"),
    ],
)
def test_bad_requests_are_400_and_the_server_lives(
    recurrent: Any, fields: dict[str, Any], said: str
) -> None:
    import openai

    _, url, client = recurrent
    with pytest.raises(openai.BadRequestError, match=re.escape(said)):
        ask(client, **fields)
    assert urllib.request.urlopen(f"{url}/health").status == 200


@pytest.mark.slow
@pytest.mark.parametrize("body", [b"{", b"[]", b"", b'{"messages": 3}', b'{"model": "x"}'])
def test_malformed_bodies_are_400(dense: Any, body: bytes) -> None:
    _, url, _ = dense
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", data=body, headers={"content-type": "application/json"}
    )
    with pytest.raises(urllib.error.HTTPError) as failure:
        urllib.request.urlopen(request)
    assert failure.value.code in (400, 422)
    assert "error" in json.loads(failure.value.read())


@pytest.mark.slow
def test_a_dense_model_has_no_effort(dense: Any) -> None:
    import openai

    _, _, client = dense
    with pytest.raises(openai.BadRequestError, match="a dense model has no depth to choose"):
        ask(client, effort="low")
    answer = ask(client)
    assert not hasattr(answer, "depth")
    own = talk(STUDENT, {})
    assert answer.choices[0].message.content == own.answer


@pytest.mark.slow
def test_reasoning_is_apart_and_has_a_budget(tmp_path: Path) -> None:
    """The tiny base blurts most answers out; asked for reasoning by its own first words it writes
    moves down, and a thinking budget ends them."""
    with server(ROOT / "data" / "models" / "tiny", tmp_path / "log") as (_, _, client):
        free = [ask(client, temperature=1.0, seed=i, max_tokens=64) for i in range(16)]
        moves = [a for a in free if getattr(a.choices[0].message, "reasoning_content", None)]
        assert moves
        for answer in moves:
            message = answer.choices[0].message
            assert "<think>" not in message.reasoning_content + (message.content or "")
            assert message.reasoning == message.reasoning_content
        for i in range(16):
            short = ask(client, temperature=1.0, seed=i, max_tokens=64, thinking_budget=2)
            reasoning = getattr(short.choices[0].message, "reasoning_content", None) or ""
            assert len(reasoning) <= 2


@pytest.mark.slow
def test_kill_9_and_again(calibrated: Path, tmp_path: Path) -> None:
    """Nothing is left of a server that was killed: the same port serves again."""
    port = free_port()
    with server(calibrated, tmp_path / "first", port=port) as (process, _, client):
        before = ask(client).choices[0].message.content
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        process.wait()
        gone, alive = psutil.wait_procs(children, timeout=30)
        assert not alive, [child.cmdline() for child in alive]
        assert gone
    with server(calibrated, tmp_path / "second", port=port) as (process, _, client):
        assert ask(client).choices[0].message.content == before
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == OK


@pytest.mark.slow
def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", "serve", str(STUDENT), "--port", str(port)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            env=os.environ,
        )
    assert done.returncode == WRONG
    assert done.stderr.splitlines()[-1].endswith("choose another --port")
