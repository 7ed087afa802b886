"""What a generation engine is. Everything that samples from a model sits behind this Protocol."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pipeline.errors import RunFailed
from pipeline.plan.engine_choice import Channel
from pipeline.records import Request, Rollout


class WeightVersionError(RunFailed):
    """An engine was asked for rollouts of a weight version that it does not hold."""


def check_version(held: int | None, *, asked: int) -> None:
    """Raises WeightVersionError for rollouts at other weights than an engine holds; `held` is None
    while it has a part of new ones, and for good where the rest never came."""
    if held is None:
        raise WeightVersionError(
            f"the engine holds a part of new weights, rollouts of version {asked} were asked: "
            "send all of them again"
        )
    if held != asked:
        raise WeightVersionError(
            f"the engine holds weight version {held}, rollouts of {asked} were asked"
        )


def check_dense(request: Request) -> None:
    """Raises ValueError for a request of a dense model that asks for depths."""
    if request.depth is not None or request.explore is not None:
        asks = "for a depth" if request.depth is not None else "to explore"
        raise ValueError(
            f"prompt {request.prompt_id!r} asks {asks}, and the model has no core to iterate: "
            "leave Request.depth and Request.explore out, or generate with a recurrent model"
        )


@dataclass(frozen=True, kw_only=True)
class Part:
    """Which of the buckets that weights come in; between the first and the last an engine refuses
    to generate. Another first one begins anew, whatever came before."""

    first: bool
    last: bool


WHOLE = Part(first=True, last=True)


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """What an engine is built with. `max_model_tokens` counts prompt and completion."""

    max_model_tokens: int
    max_sequences: int
    device: str
    dtype: str
    kv_cache_gib: float
    gpus: int
    gpu_memory_fraction: float
    engine: Literal["vllm", "native"] = "vllm"
    channel: Channel = "store"
    own_code: bool = False  # the recipe lets the model run the code that its folder brings along


class Engine(Protocol):
    """Generates completions at a known weight version."""

    def generate(self, requests: Sequence[Request], *, version: int) -> Iterator[Rollout]:
        """Yield each request's rollout as it ends, in no particular order.

        Raises WeightVersionError when the engine holds another version than asked.
        """
        ...

    def load_weights(
        self, weights: Iterable[tuple[str, Any]], *, version: int, part: Part = WHOLE
    ) -> None:
        """Take new weights or a part of them, as (checkpoint name, tensor) pairs; caches of the old
        ones go. What it raises leaves an engine that refuses to generate."""
        ...


def stream_chunks(
    rollouts: Iterator[Rollout], *, every_s: float, clock: Callable[[], float] = time.monotonic
) -> Iterator[list[Rollout]]:
    """Rollouts in lists, each about `every_s` seconds' worth, to cross a process boundary."""
    chunk: list[Rollout] = []
    last = clock()
    for rollout in rollouts:
        chunk.append(rollout)
        if clock() - last >= every_s:
            yield chunk
            chunk, last = [], clock()
    if chunk:
        yield chunk
