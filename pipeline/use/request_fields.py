"""What our server adds to vLLM's requests and answers, as a layer around its application.

A request may have `effort`, `budget` or `depth`, and `thinking_budget`; an answer has `depth`, with
the mean that its tokens ran at, and `reasoning_content` beside vLLM's `reasoning`. What is no JSON
object, or none of these fields, goes through as it came: vLLM refuses it in its own words.
"""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from prometheus_client import Histogram

from pipeline.errors import WrongInput
from pipeline.generate.depth_choice import full_depth
from pipeline.recurrent.request import DepthRequest
from pipeline.recurrent.shape import MODEL_TYPE

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/responses")
DEPTH_FIELDS = ("effort", "budget", "depth")
THINKING, VLLM_THINKING = "thinking_budget", "thinking_token_budget"
REASONING, REASONING_CONTENT = "reasoning", "reasoning_content"
EVENT_END, DATA = b"\n\n", b"data: "

MEAN_DEPTH = Histogram(
    "stepwell:request_mean_depth",
    "Mean iterations of a request's tokens.",
    buckets=(1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 12, 16, 24, 32, 64),
)


class Refused(WrongInput):
    """A field that the model cannot serve."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


class RequestFields:
    """An ASGI application around another one."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in PATHS:
            await self._app(scope, receive, send)
            return
        client = scope["app"].state.engine_client
        config = client.model_config.hf_config.to_dict()
        body = await _body(receive)
        try:
            body = with_fields(body, config)
        except Refused as refusal:
            await _refuse(send, refusal)
            return
        headers = [(k, v) for k, v in scope["headers"] if k != b"content-length"]
        scope["headers"] = [*headers, (b"content-length", str(len(body)).encode())]
        await self._app(scope, _replayed(body, receive), Reply(client, config, send))


def with_fields(body: bytes, config: MutableMapping[str, Any]) -> bytes:
    """A request's body as vLLM takes it: our fields in its own.

    Raises Refused for a depth of a dense model, and for fields of ours in another shape than a
    number or a name.
    """
    try:
        fields = json.loads(body)
    except ValueError:
        return body
    if not isinstance(fields, dict):
        return body
    asked = {name: fields.pop(name) for name in DEPTH_FIELDS if name in fields}
    asked = {name: value for name, value in asked.items() if value is not None}
    if config.get("model_type") != MODEL_TYPE:
        if asked:
            name = next(iter(asked))
            raise Refused(f"a dense model has no depth to choose: leave {name} out", name)
    elif not asked and fields.get("reasoning_effort") in (config.get("efforts") or {}):
        asked = {"effort": fields["reasoning_effort"]}
    for name, value in asked.items():
        if not isinstance(value, str | int | float) or isinstance(value, bool):
            raise Refused(f"{name} must be a number or the name of an effort", name)
    if THINKING in fields:
        fields[VLLM_THINKING] = fields.pop(THINKING)
    if asked:
        own = fields.get("vllm_xargs")
        fields["vllm_xargs"] = {**(own if isinstance(own, dict) else {}), **asked}
    return json.dumps(fields).encode()


class Reply:
    """An answer on its way out: whole, or as a stream of events."""

    def __init__(self, client: Any, config: MutableMapping[str, Any], send: Send) -> None:
        self._client, self._config, self._send = client, config, send
        self._start: Message = {}
        self._stream, self._rest, self._tokens = False, b"", 0

    async def __call__(self, message: Message) -> None:
        """Take what the application sends."""
        if message["type"] == "http.response.start":
            self._start = message
            kinds = [value for key, value in message["headers"] if key == b"content-type"]
            self._stream = any(kind.startswith(b"text/event-stream") for kind in kinds)
            if self._stream:
                await self._send(message)
            return
        self._rest += message.get("body", b"")
        more = message.get("more_body", False)
        if self._stream:
            await self._send({**message, "body": await self._events(over=not more)})
        elif not more:
            await self._whole()

    async def _whole(self) -> None:
        body = self._rest
        if self._start["status"] == 200:
            body = await self._extended(body)
        headers = [(k, v) for k, v in self._start["headers"] if k != b"content-length"]
        headers.append((b"content-length", str(len(body)).encode()))
        await self._send({**self._start, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    async def _events(self, *, over: bool) -> bytes:
        """The whole events that came so far, extended; at the end all that is left."""
        *events, self._rest = self._rest.split(EVENT_END)
        out = b"".join([await self._event(event) + EVENT_END for event in events])
        if over:
            out, self._rest = out + self._rest, b""
        return out

    async def _event(self, event: bytes) -> bytes:
        plain = f'"{REASONING}":'.encode() not in event and b'"finish_reason":"' not in event
        if plain or not event.startswith(DATA):
            return event
        return DATA + await self._extended(event.removeprefix(DATA))

    async def _extended(self, text: bytes) -> bytes:
        """A document of an answer with our fields."""
        try:
            document = json.loads(text)
        except ValueError:
            return text
        if not isinstance(document, dict):
            return text
        choices = document.get("choices") or []
        for choice in choices:
            said = choice.get("message") or choice.get("delta") or {}
            if said.get(REASONING) is not None:
                said[REASONING_CONTENT] = said[REASONING]
        if any(choice.get("finish_reason") for choice in choices):
            depth = await self._depth(document, single=len(choices) == 1)
            if depth is not None:
                document["depth"] = depth
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()

    async def _depth(self, document: dict[str, Any], *, single: bool) -> dict[str, Any] | None:
        """The mean depth of an answer's tokens, and the full one; None for a dense model."""
        if self._config.get("model_type") != MODEL_TYPE:
            return None
        usage = document.get("usage") or {}
        tokens = usage.get("completion_tokens") if single else None
        asked = (document["id"], tokens)
        ((iterations, count), *_) = await self._client.collective_rpc("stepwell_depths", args=asked)
        if not count:
            return None
        MEAN_DEPTH.observe(iterations / count)
        full = full_depth(self._config, DepthRequest(depth=1))
        return {"mean": round(iterations / count, 4), "full": full}


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body once, then whatever else the client does."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


async def _refuse(send: Send, refusal: Refused) -> None:
    error = {
        "message": str(refusal),
        "type": "BadRequestError",
        "param": refusal.field,
        "code": 400,
    }
    body = json.dumps({"error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": body})
