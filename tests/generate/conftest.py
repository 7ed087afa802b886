"""A fake engine and a fake tokenizer: text in, text out, one token a character."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from pipeline.generate.chat import Chat
from pipeline.generate.service import RewardUse, RolloutService
from pipeline.records import Prompt, Request, Rollout
from rewards.api import Reward, Sample

Answer = Callable[[Request], str]
ANSWER = RewardUse(name="answer", ref="fake", weight=2.0, args={})


class CharTokenizer:
    """Characters are their code points; no chat template."""

    chat_template = None
    pad_token_id = None
    added_tokens_decoder: Mapping[int, Any] = {}

    def __call__(self, texts: Sequence[str], **_: Any) -> dict[str, list[list[int]]]:
        return {"input_ids": [self.encode(text) for text in texts]}

    def encode(self, text: str, **_: Any) -> list[int]:
        return [ord(c) for c in text]

    def decode(self, tokens: Sequence[int], **_: Any) -> str:
        return "".join(chr(t) for t in tokens)


class FakeEngine:
    """Answers by a function of the request, last request first; counts what it generated."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[Request] = []

    def generate(self, requests: Sequence[Request], *, version: int) -> Iterator[Rollout]:
        self.requests += requests
        for request in reversed(requests):
            text = self.answer(request)
            yield Rollout(
                prompt_id=request.prompt_id,
                repeat=request.repeat,
                sample=request.sample,
                seed=request.seed,
                prompt_tokens=request.prompt_tokens,
                tokens=tuple(ord(c) for c in text),
                logprobs=(-0.5,) * len(text),
                stop="eos",
                weight_version=version,
            )


class FakePool:
    """Scores in the calling thread by a function of the sample, times the argument `scale`."""

    def __init__(self, score: Callable[[Sample], float | None]) -> None:
        self.score = score
        self.threads: set[str] = set()

    def submit(self, ref: str, sample: Sample, *, args: Any, base: Path | None) -> Future[Reward]:
        self.threads.add(threading.current_thread().name)
        value = self.score(sample)
        if value is not None:
            value *= args.get("scale", 1.0)
        done: Future[Reward] = Future()
        done.set_result(Reward(value=value, verdict="scored" if value is not None else "broken"))
        return done


@pytest.fixture
def prompts() -> list[Prompt]:
    """Forty questions whose answers are their numbers."""
    return [Prompt(id=f"p{i}", question=f"say {i}", answer=str(i)) for i in range(40)]


@pytest.fixture
def make_service() -> Callable[..., tuple[RolloutService, list[FakeEngine]]]:
    """A service over fake engines: `answer(request) -> text`, `score(sample) -> value`."""

    def build(
        answer: Answer,
        score: Callable[[Sample], float | None],
        *,
        engines: int = 1,
        rewards: Sequence[RewardUse] = (ANSWER,),
    ) -> tuple[RolloutService, list[FakeEngine]]:
        fakes = [FakeEngine(answer) for _ in range(engines)]
        service = RolloutService(
            fakes,  # type: ignore[arg-type]
            Chat(tokenizer=CharTokenizer(), ends=()),
            FakePool(score),
            rewards=rewards,
            preface={"train": (), "held_out": ()},
            base=Path("."),
            max_model_tokens=100,
        )
        return service, fakes

    return build
