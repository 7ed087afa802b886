"""The fields that our server adds, around an application that stands for vLLM's."""

import asyncio
import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.use.request_fields import Message, Receive, Refused, RequestFields, Send, with_fields

DENSE: dict[str, Any] = {"model_type": "llama"}
RECURRENT: dict[str, Any] = {
    "model_type": "stepwell_recurrent",
    "num_iterations": 3,
    "max_iterations": 8,
    "efforts": {"low": 0.3, "high": 0.6},
}
PATH = "/v1/chat/completions"


class Application:
    """Answers every request with the same parts; remembers the body that it read."""

    def __init__(self, parts: Sequence[bytes], *, kind: bytes = b"application/json") -> None:
        self.parts, self.kind, self.body = parts, kind, b""

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.body = (await receive())["body"]
        headers = [(b"content-type", self.kind), (b"content-length", b"1")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number, part in enumerate(self.parts, start=1):
            more = number < len(self.parts)
            await send({"type": "http.response.body", "body": part, "more_body": more})


def client(config: dict[str, Any], ran: tuple[int, int] = (12, 5)) -> SimpleNamespace:
    """An engine's client that reports these iterations and tokens."""
    calls: list[Any] = []

    async def collective_rpc(method: str, args: tuple[Any, ...]) -> list[tuple[int, int]]:
        calls.append((method, *args))
        return [ran]

    config_of = SimpleNamespace(to_dict=lambda: config)
    return SimpleNamespace(
        model_config=SimpleNamespace(hf_config=config_of),
        collective_rpc=collective_rpc,
        calls=calls,
    )


def served(
    application: Application, engine: SimpleNamespace, body: bytes, *, path: str = PATH
) -> tuple[int, bytes]:
    """Status and body of an answer."""
    sent: list[Message] = []
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "headers": [],
        "app": SimpleNamespace(state=SimpleNamespace(engine_client=engine)),
    }
    halves = [body[:3], body[3:]]

    async def receive() -> Message:
        part = halves.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(halves)}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(RequestFields(application)(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def fields(body: dict[str, Any], config: dict[str, Any] = RECURRENT) -> dict[str, Any]:
    return json.loads(with_fields(json.dumps(body).encode(), config))


def test_fields_become_vllms() -> None:
    assert fields({"effort": "low"}) == {"vllm_xargs": {"effort": "low"}}
    assert fields({"depth": 4, "vllm_xargs": {"a": 1}}) == {"vllm_xargs": {"a": 1, "depth": 4}}
    assert fields({"thinking_budget": 9}, DENSE) == {"thinking_token_budget": 9}
    assert fields({"effort": None, "n": 2}) == {"n": 2}


def test_openais_own_effort_counts_where_the_model_has_it() -> None:
    low = {"reasoning_effort": "low"}
    assert fields(low) == {**low, "vllm_xargs": {"effort": "low"}}
    assert fields({**low, "depth": 2}) == {**low, "vllm_xargs": {"depth": 2}}
    assert fields({"reasoning_effort": "minimal"}) == {"reasoning_effort": "minimal"}
    assert fields(low, DENSE) == low


@pytest.mark.parametrize("body", [b"{", b"[]", b"", b"\xff", b"3"])
def test_what_is_no_object_goes_through(body: bytes) -> None:
    assert with_fields(body, RECURRENT) == body


@pytest.mark.parametrize(
    ("body", "config", "field"),
    [
        ({"effort": "low"}, DENSE, "effort"),
        ({"depth": {"rule": "kl"}}, RECURRENT, "depth"),
        ({"budget": True}, RECURRENT, "budget"),
    ],
)
def test_refusals_have_openais_form(
    body: dict[str, Any], config: dict[str, Any], field: str
) -> None:
    with pytest.raises(Refused):
        fields(body, config)
    application = Application([b"{}"])
    status, said = served(application, client(config), json.dumps(body).encode())
    error = json.loads(said)["error"]
    assert (status, error["param"], error["code"]) == (400, field, 400)
    assert not application.body


def test_a_whole_answer() -> None:
    answer = {
        "id": "chatcmpl-1",
        "choices": [{"finish_reason": "stop", "message": {"reasoning": "2+2", "content": "é"}}],
        "usage": {"completion_tokens": 5},
    }
    text = json.dumps(answer).encode()
    engine = client(RECURRENT)
    status, said = served(Application([text[:9], text[9:]]), engine, b'{"effort": "low"}')
    document = json.loads(said)
    assert status == 200
    assert document["depth"] == {"mean": 2.4, "full": 3}
    assert document["choices"][0]["message"]["reasoning_content"] == "2+2"
    assert engine.calls == [("stepwell_depths", "chatcmpl-1", 5)]


def test_a_stream_of_events_whatever_its_parts() -> None:
    """The last event of an answer has the depth; what is not ours stays byte by byte."""
    first = b'data: {"id":"a","choices":[{"delta":{"reasoning":"x"},"finish_reason":null}]}\n\n'
    plain = b'data: {"id":"a","choices":[{"delta":{"content":"y"},"finish_reason":null}]}\n\n'
    last = b'data: {"id":"a","choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
    done = b"data: [DONE]\n\n"
    whole = first + plain + last + done
    for size in (1, 7, 100, len(whole)):
        parts = [whole[i : i + size] for i in range(0, len(whole), size)]
        application = Application(parts, kind=b"text/event-stream; charset=utf-8")
        _, said = served(application, client(RECURRENT), b"{}")
        events = said.split(b"\n\n")
        assert events[1] + b"\n\n" == plain
        assert events[3] + b"\n\n" == done
        begun, ended = (json.loads(events[i].removeprefix(b"data: ")) for i in (0, 2))
        assert begun["choices"][0]["delta"]["reasoning_content"] == "x"
        assert ended["depth"] == {"mean": 2.4, "full": 3}


def test_a_dense_models_answers_have_no_depth() -> None:
    answer = b'{"id":"a","choices":[{"finish_reason":"stop","message":{"content":"b"}}]}'
    engine = client(DENSE)
    _, said = served(Application([answer]), engine, b"{}")
    assert "depth" not in json.loads(said)
    assert engine.calls == []


def test_other_paths_are_left_alone() -> None:
    application = Application([b"abc"])
    engine = client(DENSE)
    assert served(application, engine, b'{"effort": 1}', path="/tokenize") == (200, b"abc")
