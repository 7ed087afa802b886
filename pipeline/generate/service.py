"""The rollout service: prompts -> engines -> verifiers (as each sequence ends) -> groups.

A plain class: `pipeline.cluster` runs it in an actor, tests run it with a fake engine.
"""

import json
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from pipeline.errors import RunFailed
from pipeline.generate.chat import Chat, shown
from pipeline.generate.engine import Engine
from pipeline.generate.groups import Group
from pipeline.generate.schedule import derived_seed
from pipeline.generate.unscored import faults, no_reward
from pipeline.recipe.evaluate_stage import EvaluateStage
from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.recipe.reject_stage import RejectStage
from pipeline.records import (
    Message,
    Prompt,
    Request,
    Rollout,
    Scored,
    group_name,
    group_names,
    repeats,
)
from pipeline.recurrent.explore import Exploration
from pipeline.recurrent.request import DepthRequest
from rewards.api import INFRA_ERROR, Reward, Sample


class RolloutError(RunFailed):
    """Rollouts cannot be made: a prompt is too long."""


DETAIL_CHARACTERS = 2000  # of a reward's reasons for one sample that are journaled

Part = Mapping[str, range]
"""Group -> the samples of it that are wanted now."""

Depths = Mapping[str, Sequence[DepthRequest]]
"""Group (`pipeline.records.group_names`) -> how the depths of each of its samples are chosen."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How completions are drawn."""

    samples: int
    temperature: float
    top_p: float
    max_tokens: int
    explore: Exploration | None = None  # None: one path a token


def sampling_of(spec: GrpoStage | RejectStage | EvaluateStage) -> Sampling:
    """How a stage draws its completions."""
    explore = spec.explore if isinstance(spec, EvaluateStage) else None
    return Sampling(
        samples=spec.samples_per_prompt,
        temperature=spec.temperature,
        top_p=spec.top_p,
        max_tokens=spec.max_tokens,
        explore=None if explore is None else Exploration(**explore.model_dump()),
    )


@dataclass(frozen=True, kw_only=True)
class RewardUse:
    """One reward of the recipe, ready to submit to the pool."""

    name: str
    ref: str
    weight: float
    args: Mapping[str, Any]
    source: str | None = None  # the prompts entry whose samples it judges; None: all


class VerifierPool(Protocol):
    """The part of `rewards.pool.Pool` that the service needs."""

    def submit(
        self, ref: str, sample: Sample, *, args: Mapping[str, Any], base: Path | None
    ) -> Future[Reward]: ...


class RolloutService:
    """Generates and scores completions on one or more engines."""

    def __init__(
        self,
        engines: Sequence[Engine],
        chat: Chat,
        pool: VerifierPool,
        *,
        rewards: Sequence[RewardUse],
        preface: Mapping[str, Sequence[Message]],
        base: Path,
        max_model_tokens: int,
    ) -> None:
        self._engines = engines
        self._chat = chat
        self._pool = pool
        self._rewards = rewards
        self._preface = preface  # by prompts entry
        self._base = base  # where user reward files are looked up
        self._max_model_tokens = max_model_tokens
        self.scored = 0  # completions so far
        self.verification_s = 0.0  # in which scores were awaited after all generation

    def sample(
        self,
        prompts: Sequence[Prompt],
        *,
        source: str,
        sampling: Sampling,
        seed: int,
        step: int | None,
        version: int,
        depths: Depths | None = None,
        part: Part | None = None,
    ) -> list[Group]:
        """Generate and score `sampling.samples` completions of every prompt, in prompt order; with
        `part` those that it names alone, which are the same ones.

        Verification of a completion starts when it ends; generation goes on meanwhile. Without
        `depths` a recurrent model runs at its own.

        Raises RolloutError for a prompt too long, ValueError where `depths` has not one request
        for each sample of each prompt.
        """
        names = group_names(prompts)
        texts = {name: self.prompt_text(p, source) for name, p in zip(names, prompts, strict=True)}
        requests = self._requests(prompts, texts, sampling, seed, step)
        if depths is not None:
            requests = with_depths(requests, depths, samples=sampling.samples)
        if part is not None:
            requests = [r for r in requests if r.sample in part.get(r.group, ())]
        by_group = dict(zip(names, prompts, strict=True))
        uses = [use for use in self._rewards if use.source in (None, source)]
        pending: list[tuple[Rollout, str, list[Future[Reward]]]] = []
        for rollout in self._generate(requests, version):
            text = self._chat.completion_text(rollout)
            prompt = by_group[rollout.group]
            sample = _sample(prompt, texts[rollout.group], text, rollout, sampling, step)
            pending.append((rollout, text, self._submit(sample, uses)))
        generated = time.monotonic()
        scored = []
        for rollout, text, futures in pending:
            scored.append(_scored(rollout, text, uses, [future.result() for future in futures]))
            self.scored += 1
        self.verification_s += time.monotonic() - generated
        for line in faults(scored):
            print(line, flush=True)  # into this process's log
        return in_groups(prompts, scored)

    def prompt_text(self, prompt: Prompt, source: str) -> str:
        """The prompt as `Chat.render` has it."""
        return self._chat.render(prompt.question, self._preface[source], prompt.context)

    def _requests(
        self,
        prompts: Sequence[Prompt],
        texts: Mapping[str, str],
        sampling: Sampling,
        seed: int,
        step: int | None,
    ) -> list[Request]:
        requests = []
        for prompt, repeat in zip(prompts, repeats(prompts), strict=True):
            name = group_name(prompt.id, repeat)
            tokens = self._chat.prompt_ids(texts[name])
            if len(tokens) + sampling.max_tokens > self._max_model_tokens:
                room = max(self._max_model_tokens - sampling.max_tokens, 0)
                raise RolloutError(
                    f"prompt {prompt.id} has {len(tokens)} tokens and max_tokens is "
                    f"{sampling.max_tokens}, but the model takes {self._max_model_tokens} "
                    f"altogether, which leaves {room} for a prompt; shorten it, leave it out, or "
                    "lower max_tokens"
                )
            requests += [
                Request(
                    prompt_id=prompt.id,
                    prompt_tokens=tokens,
                    sample=i,
                    seed=derived_seed(seed, step, name, i),
                    max_tokens=sampling.max_tokens,
                    temperature=sampling.temperature,
                    top_p=sampling.top_p,
                    explore=sampling.explore,
                    repeat=repeat,
                )
                for i in range(sampling.samples)
            ]
        return requests

    def _generate(self, requests: Sequence[Request], version: int) -> Iterator[Rollout]:
        """All engines at once; requests are dealt to them in a fixed way, group by group."""
        shares = _dealt(requests, len(self._engines))
        done: queue.Queue[Rollout | BaseException | None] = queue.Queue()

        def drain(engine: Engine, share: Sequence[Request]) -> None:
            try:
                for rollout in engine.generate(share, version=version):
                    done.put(rollout)
                done.put(None)
            except BaseException as error:  # carried to the caller's thread below
                done.put(error)

        for engine, share in zip(self._engines, shares, strict=True):
            threading.Thread(target=drain, args=(engine, share), daemon=True).start()
        running = len(self._engines)
        while running:
            item = done.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                running -= 1
            else:
                yield item

    def _submit(self, sample: Sample, uses: Sequence[RewardUse]) -> list[Future[Reward]]:
        return [self._pool.submit(use.ref, sample, args=use.args, base=self._base) for use in uses]


def with_depths(requests: Sequence[Request], depths: Depths, *, samples: int) -> list[Request]:
    """The requests, each at its depth.

    Raises ValueError naming the prompt that has not one depth request for each sample.
    """
    for name in dict.fromkeys(request.group for request in requests):
        count = len(depths.get(name, ()))
        if count != samples:
            raise ValueError(f"prompt {name} has {count} depth requests for {samples} samples")
    return [replace(r, depth=depths[r.group][r.sample]) for r in requests]


def _scored(
    rollout: Rollout, text: str, uses: Sequence[RewardUse], rewards: Sequence[Reward]
) -> Scored:
    results = [_usable(r, use, rollout) for use, r in zip(uses, rewards, strict=True)]
    components = {use.name: r.value for use, r in zip(uses, results, strict=True)}
    return Scored(
        rollout=rollout,
        text=text,
        reward=weighted_sum(components, {use.name: use.weight for use in uses}),
        components=components,
        verdicts={use.name: r.verdict for use, r in zip(uses, results, strict=True)},
        details={
            use.name: _bounded(r.detail) for use, r in zip(uses, results, strict=True) if r.detail
        },
    )


def _usable(reward: Reward, use: RewardUse, rollout: Rollout) -> Reward:
    """The reward, or a fault where nothing can be learned from a number like it."""
    if reward.value is None or (why := no_reward(reward.value, weight=use.weight)) is None:
        return reward
    name = f"{rollout.group}/{rollout.sample}"
    error = f"reward {use.ref}, sample {name!r}: {why}"
    return Reward(value=None, verdict=INFRA_ERROR, detail={"error": error})


def _bounded(detail: Mapping[str, Any]) -> Mapping[str, Any]:
    """A reward's reasons as they are journaled; of long ones their beginnings, as text."""
    if len(json.dumps(dict(detail))) <= DETAIL_CHARACTERS:
        return detail
    share = DETAIL_CHARACTERS // len(detail)
    return {key: str(value)[:share] for key, value in detail.items()}


def weighted_sum(
    components: Mapping[str, float | None], weights: Mapping[str, float]
) -> float | None:
    """The reward: a weighted sum, or None when any component could not be scored."""
    total = 0.0
    for name, value in components.items():
        if value is None:
            return None
        total += weights[name] * value
    return total


def _dealt(requests: Sequence[Request], engines: int) -> list[list[Request]]:
    """Requests by engine: whole groups, so that samples of one prompt share its prefix cache."""
    order = {name: i for i, name in enumerate(dict.fromkeys(r.group for r in requests))}
    shares: list[list[Request]] = [[] for _ in range(engines)]
    for request in requests:
        shares[order[request.group] % engines].append(request)
    return shares


def in_groups(prompts: Sequence[Prompt], scored: Sequence[Scored]) -> list[Group]:
    """The samples of each prompt of a step, in order; a prompt met twice has two groups."""
    members: dict[str, list[Scored]] = {name: [] for name in group_names(prompts)}
    for s in scored:
        members[s.rollout.group].append(s)
    return [
        Group(prompt_id=p.id, samples=tuple(sorted(some, key=lambda s: s.rollout.sample)))
        for p, some in zip(prompts, members.values(), strict=True)
    ]


def _sample(
    prompt: Prompt,
    text: str,
    completion: str,
    rollout: Rollout,
    sampling: Sampling,
    step: int | None,
) -> Sample:
    return Sample(
        prompt=shown(text),
        completion=completion,
        gold=prompt.answer,
        golds=prompt.golds,
        columns=prompt.columns,
        id=f"{rollout.group}/{rollout.sample}",
        step=step,
        completion_tokens=len(rollout.tokens),
        max_tokens=sampling.max_tokens,
        finished=rollout.stop == "eos",
    )
