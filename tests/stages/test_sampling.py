"""Chunks that the rewards could not score stop the stage and leave no trace."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.errors import Stopped
from pipeline.generate.groups import Group
from pipeline.generate.journal import Journal
from pipeline.generate.service import Sampling
from pipeline.generate.unscored import TooManyUnscored
from pipeline.records import Prompt, Rollout, Scored
from pipeline.recurrent.request import DepthRequest
from pipeline.stages.sampling import CHUNK_COMPLETIONS, sample_in_chunks


def group(prompt: Prompt, reward: float | None) -> Group:
    rollout = Rollout(
        prompt_id=prompt.id,
        sample=0,
        seed=1,
        prompt_tokens=(1,),
        tokens=(2,),
        logprobs=(0.0,),
        stop="eos",
        weight_version=0,
    )
    scored = Scored(
        rollout=rollout,
        text="x",
        reward=reward,
        components={"answer": reward},
        verdicts={"answer": "x"},
    )
    return Group(prompt_id=prompt.id, samples=(scored,))


def test_every_choice_of_depths_has_a_journal(tmp_path: Path) -> None:
    prompts = [Prompt(id=str(i), question="?") for i in range(3)]
    seen: list[Any] = []

    class Serving:
        def sample(self, prompts: list[Prompt], *, depths: Any, **_: Any) -> list[Group]:
            seen.append(depths)
            return [group(p, 1.0) for p in prompts]

    ctx: Any = SimpleNamespace(
        stopping=lambda: False, console=SimpleNamespace(metrics=lambda *_: None)
    )
    plan: Any = SimpleNamespace(name="depth")
    serving: Any = Serving()

    def run(depth: int | None) -> None:
        chosen = None if depth is None else {p.id: [DepthRequest(depth=depth)] for p in prompts}
        found = sample_in_chunks(
            ctx,
            plan,
            lambda: serving,
            prompts,
            source="train",
            sampling=Sampling(samples=1, temperature=1.0, top_p=1.0, max_tokens=4),
            seed=1,
            journal=Journal(tmp_path),
            depths=chosen,
        )
        assert len(list(found)) == 3

    for depth in (2, 3, None, 2, 3, None):
        run(depth)
    asked = [None if d is None else d["1"][0].depth for d in seen]
    assert asked == [2, 3, None]  # the second time all came from the journals


def test_an_unscored_chunk_is_refused_and_made_again(tmp_path: Path) -> None:
    prompts = [Prompt(id=str(i), question="?") for i in range(50)]
    rewards: list[float | None] = [None, 1.0]  # the first attempt fails to score

    class Serving:
        def sample(self, prompts: list[Prompt], **_: Any) -> list[Group]:
            first = rewards.pop(0)
            return [group(p, first if p.id == "7" else 1.0) for p in prompts]

    ctx: Any = SimpleNamespace(
        stopping=lambda: False, console=SimpleNamespace(metrics=lambda *_: None)
    )
    plan: Any = SimpleNamespace(name="harvest")
    serving: Any = Serving()

    def run() -> list[Group]:
        found = sample_in_chunks(
            ctx,
            plan,
            lambda: serving,
            prompts,
            source="train",
            sampling=Sampling(samples=1, temperature=1.0, top_p=1.0, max_tokens=4),
            seed=1,
            journal=Journal(tmp_path),
        )
        return list(found)

    with pytest.raises(TooManyUnscored, match=r"2\.0% of the samples could not be scored"):
        run()
    assert [g.prompt_id for g in run()] == [p.id for p in prompts]
    assert not rewards


def test_sampling_that_goes_on_says_where(tmp_path: Path) -> None:
    prompts = [Prompt(id=str(i), question="?") for i in range(3 * CHUNK_COMPLETIONS)]
    stopped, said = [False], list[str]()

    class Serving:
        def sample(self, prompts: list[Prompt], **_: Any) -> list[Group]:
            stopped[0] = len(said) == 0
            return [group(p, 1.0) for p in prompts]

    console = SimpleNamespace(metrics=lambda *_: None, log=said.append)
    ctx: Any = SimpleNamespace(stopping=lambda: stopped[0], console=console)
    plan: Any = SimpleNamespace(name="harvest")
    serving: Any = Serving()

    def run() -> list[Group]:
        found = sample_in_chunks(
            ctx,
            plan,
            lambda: serving,
            prompts,
            source="train",
            sampling=Sampling(samples=1, temperature=1.0, top_p=1.0, max_tokens=4),
            seed=1,
            journal=Journal(tmp_path),
        )
        return list(found)

    with pytest.raises(Stopped):
        run()
    assert said == []
    stopped[0] = False
    assert len(run()) == len(prompts)
    assert said == ["harvest: resumed at part 2 of 3"]
