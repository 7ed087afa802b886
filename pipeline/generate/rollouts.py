"""The rollout service: prompts -> engines -> verifiers (as each sequence ends) -> groups -> journal.

A plain class: `pipeline.cluster` runs it in an actor, tests run it with a fake engine.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pipeline.generate.chat import completion_text, encode, render
from pipeline.generate.engine import Engine
from pipeline.generate.groups import Group, choose, has_variance, unscored_share
from pipeline.generate.journal import Journal, StepRollouts
from pipeline.generate.schedule import derived_seed, prompts_of_step, replacements_of_step
from pipeline.recipe import GrpoStage
from pipeline.records import Prompt, Request, Rollout, Scored
from rewards.api import Reward, Sample


class RolloutError(RuntimeError):
    """Rollouts cannot be made: a prompt too long, or too many samples that nothing could score."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How completions are drawn."""

    samples: int
    temperature: float
    top_p: float
    max_tokens: int


@dataclass(frozen=True, kw_only=True)
class RewardUse:
    """One reward of the recipe, ready to submit to the pool."""

    name: str
    ref: str
    weight: float
    args: Mapping[str, Any]


class VerifierPool(Protocol):
    """The part of `rewards.pool.Pool` that the service needs."""

    def submit(
        self, ref: str, sample: Sample, *, args: Mapping[str, Any], base: Path | None
    ) -> Future[Reward]: ...


class PreferenceModel(Protocol):
    """A trained reward model. `score` takes prompts and completions of equal length."""

    def score(self, prompts: list[str], completions: list[str]) -> list[float]: ...


class RolloutService:
    """Generates and scores completions on one or more engines."""

    def __init__(
        self,
        engines: Sequence[Engine],
        tokenizer: Any,
        pool: VerifierPool,
        *,
        rewards: Sequence[RewardUse],
        system: Mapping[str, str | None],
        base: Path,
        max_model_tokens: int,
    ) -> None:
        self._engines = engines
        self._tokenizer = tokenizer
        self._pool = pool
        self._rewards = rewards
        self._system = system  # system message by prompts entry
        self._base = base  # where user reward files are looked up
        self._max_model_tokens = max_model_tokens

    def sample(
        self,
        prompts: Sequence[Prompt],
        *,
        source: str,
        sampling: Sampling,
        seed: int,
        step: int | None,
        version: int,
    ) -> list[Group]:
        """Generate and score `sampling.samples` completions of every prompt, in prompt order.

        Verification of a completion starts when it ends; generation goes on meanwhile.
        """
        texts = {p.id: render(self._tokenizer, p.question, self._system[source]) for p in prompts}
        requests = self._requests(prompts, texts, sampling, seed, step)
        by_id = {p.id: p for p in prompts}
        pending: list[tuple[Rollout, str, list[Future[Reward]]]] = []
        for rollout in self._generate(requests, version):
            text = completion_text(self._tokenizer, rollout)
            prompt = by_id[rollout.prompt_id]
            sample = _sample(prompt, texts[prompt.id], text, rollout, sampling, step)
            pending.append((rollout, text, self._submit(sample)))
        scored = [
            self._scored(rollout, text, [f.result() for f in futures])
            for rollout, text, futures in pending
        ]
        return _grouped(prompts, scored)

    def prompt_text(self, prompt: Prompt, source: str) -> str:
        """The prompt as the model sees it."""
        return render(self._tokenizer, prompt.question, self._system[source])

    def _requests(
        self,
        prompts: Sequence[Prompt],
        texts: Mapping[str, str],
        sampling: Sampling,
        seed: int,
        step: int | None,
    ) -> list[Request]:
        requests = []
        for prompt in prompts:
            tokens = encode(self._tokenizer, texts[prompt.id])
            if len(tokens) + sampling.max_tokens > self._max_model_tokens:
                raise RolloutError(
                    f"prompt {prompt.id} has {len(tokens)} tokens and max_tokens is "
                    f"{sampling.max_tokens}, but the model takes {self._max_model_tokens} "
                    f"altogether; lower max_tokens to at most {self._max_model_tokens - len(tokens)}"
                )
            requests += [
                Request(
                    prompt_id=prompt.id,
                    prompt_tokens=tokens,
                    sample=i,
                    seed=derived_seed(seed, step, prompt.id, i),
                    max_tokens=sampling.max_tokens,
                    temperature=sampling.temperature,
                    top_p=sampling.top_p,
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

    def _submit(self, sample: Sample) -> list[Future[Reward]]:
        return [
            self._pool.submit(use.ref, sample, args=use.args, base=self._base)
            for use in self._rewards
        ]

    def _scored(self, rollout: Rollout, text: str, results: Sequence[Reward]) -> Scored:
        components = {use.name: r.value for use, r in zip(self._rewards, results, strict=True)}
        return Scored(
            rollout=rollout,
            text=text,
            reward=weighted_sum(components, {u.name: u.weight for u in self._rewards}),
            components=components,
            verdicts={u.name: r.verdict for u, r in zip(self._rewards, results, strict=True)},
        )


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


class GrpoRollouts:
    """The rollouts of one GRPO stage, step by step, journaled."""

    def __init__(
        self,
        service: RolloutService,
        journal: Journal,
        spec: GrpoStage,
        prompts: Sequence[Prompt],
        *,
        seed: int,
        preference: tuple[PreferenceModel, str, float, float] | None,
        watch: Sequence[Prompt],
        watch_reward: str,
    ) -> None:
        self._service = service
        self._journal = journal
        self._spec = spec
        self._prompts = prompts
        self._seed = seed
        self._preference = preference  # model, name, weight, last fraction
        self._watch = watch
        self._watch_reward = watch_reward

    def step(self, step: int) -> StepRollouts:
        """The groups of one step: from the journal where it has them, generated otherwise.

        Raises RolloutError when more samples than the recipe allows could not be scored.
        """
        journaled = self._journal.read(step)
        if journaled is not None:
            return journaled
        made = self._make(step)
        self._journal.write(step, made)
        return made

    def held_out(self, step: int) -> float | None:
        """Held-out accuracy at this step's weights, where the recipe watches it."""
        if self._spec.watch is None or step % self._spec.watch.every_steps:
            return None
        return self._watched(step)

    def _watched(self, step: int) -> float:
        assert self._spec.watch is not None
        groups = self._service.sample(
            self._watch,
            source=self._spec.watch.prompts,
            sampling=Sampling(
                samples=1, temperature=0.6, top_p=0.95, max_tokens=self._spec.max_tokens
            ),
            seed=self._seed,
            step=-1,
            version=step,
        )
        values = [g.samples[0].components[self._watch_reward] or 0.0 for g in groups]
        return sum(values) / len(values)

    def _make(self, step: int) -> StepRollouts:
        started = time.monotonic()
        spec = self._spec
        accuracy = self.held_out(step)
        sampled_from = time.monotonic()
        wanted = spec.prompts_per_step
        batch = prompts_of_step(self._prompts, seed=self._seed, step=step, count=wanted)
        useful: list[Group] = []
        flat: list[Group] = []
        used: frozenset[str] = frozenset()
        everything: list[Group] = []
        for attempt in range(spec.resample_rounds + 1):
            groups = self._groups(batch, step)
            everything += groups
            used |= {g.prompt_id for g in groups}
            useful += [g for g in groups if has_variance(g)]
            flat += [g for g in groups if not has_variance(g)]
            missing = wanted - len(useful)
            if missing <= 0:
                break
            batch = replacements_of_step(
                self._prompts, seed=self._seed, step=step, attempt=attempt, count=missing, used=used
            )
            if not batch:
                break
        self._check_scored(everything, step)
        metrics = step_metrics(everything, seconds=time.monotonic() - sampled_from)
        metrics["resampled_groups"] = float(len(everything) - wanted)
        metrics["rollout_seconds"] = time.monotonic() - started
        if accuracy is not None:
            metrics["held_out_accuracy"] = accuracy
        return StepRollouts(groups=choose(useful, flat, wanted), metrics=metrics)

    def _groups(self, batch: Sequence[Prompt], step: int) -> list[Group]:
        spec = self._spec
        groups = self._service.sample(
            batch,
            source=spec.prompts,
            sampling=Sampling(
                samples=spec.samples_per_prompt,
                temperature=spec.temperature,
                top_p=spec.top_p,
                max_tokens=spec.max_tokens,
            ),
            seed=self._seed,
            step=step,
            version=step,
        )
        return self._with_preference(batch, groups, step)

    def _with_preference(
        self, batch: Sequence[Prompt], groups: list[Group], step: int
    ) -> list[Group]:
        if self._preference is None:
            return groups
        model, name, weight, last_fraction = self._preference
        if step < self._spec.steps * (1.0 - last_fraction):
            return groups
        texts = {p.id: self._service.prompt_text(p, self._spec.prompts) for p in batch}
        samples = [s for g in groups for s in g.samples]
        values = model.score(
            [texts[s.rollout.prompt_id] for s in samples], [s.text for s in samples]
        )
        scored = [add_component(s, name, v, weight) for s, v in zip(samples, values, strict=True)]
        return _grouped(batch, scored)

    def _check_scored(self, groups: Sequence[Group], step: int) -> None:
        share = unscored_share(groups)
        if share > self._spec.infra_error_limit:
            reasons = sorted(
                {
                    f"{name}: {verdict}"
                    for g in groups
                    for s in g.samples
                    if s.reward is None
                    for name, verdict in s.verdicts.items()
                    if s.components[name] is None
                }
            )
            raise RolloutError(
                f"step {step}: {share:.1%} of the samples could not be scored (limit "
                f"{self._spec.infra_error_limit:.1%}): {'; '.join(reasons[:3])}"
            )


def add_component(scored: Scored, name: str, value: float, weight: float) -> Scored:
    """The same sample with one more reward component."""
    reward = None if scored.reward is None else scored.reward + weight * value
    return Scored(
        rollout=scored.rollout,
        text=scored.text,
        reward=reward,
        components={**scored.components, name: value},
        verdicts={**scored.verdicts, name: "scored"},
    )


def step_metrics(groups: Sequence[Group], *, seconds: float) -> dict[str, float]:
    """What a step's generation looked like, over all its groups, dropped ones included."""
    samples = [s for g in groups for s in g.samples]
    tokens = [len(s.rollout.tokens) for s in samples]
    rewards = [s.reward for s in samples if s.reward is not None]
    metrics = {
        "reward": _mean(rewards),
        "completion_tokens": _mean(tokens),
        "zero_variance_share": _mean([not has_variance(g) for g in groups]),
        "truncated_share": _mean([s.rollout.stop == "length" for s in samples]),
        "unscored_share": unscored_share(groups),
        "tokens_per_s": sum(tokens) / max(seconds, 1e-9),
    }
    for name in samples[0].components:
        values = [v for s in samples if (v := s.components[name]) is not None]
        metrics[f"reward/{name}"] = _mean(values)
    return metrics


def _dealt(requests: Sequence[Request], engines: int) -> list[list[Request]]:
    """Requests by engine: whole groups, so that samples of one prompt share its prefix cache."""
    order = {name: i for i, name in enumerate(dict.fromkeys(r.prompt_id for r in requests))}
    shares: list[list[Request]] = [[] for _ in range(engines)]
    for request in requests:
        shares[order[request.prompt_id] % engines].append(request)
    return shares


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _grouped(prompts: Sequence[Prompt], scored: Sequence[Scored]) -> list[Group]:
    by_prompt: dict[str, list[Scored]] = {p.id: [] for p in prompts}
    for s in scored:
        by_prompt[s.rollout.prompt_id].append(s)
    return [
        Group(
            prompt_id=p.id,
            samples=tuple(sorted(by_prompt[p.id], key=lambda s: s.rollout.sample)),
        )
        for p in prompts
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
        prompt=text,
        completion=completion,
        gold=prompt.answer,
        columns=prompt.columns,
        id=f"{prompt.id}/{rollout.sample}",
        step=step,
        completion_tokens=len(rollout.tokens),
        max_tokens=sampling.max_tokens,
        finished=rollout.stop == "eos",
    )


def stream_chunks(
    rollouts: Iterator[Rollout], *, every_s: float, clock: Callable[[], float] = time.monotonic
) -> Iterator[list[Rollout]]:
    """Rollouts in lists, each list at most `every_s` seconds' worth, to cross a process boundary."""
    chunk: list[Rollout] = []
    last = clock()
    for rollout in rollouts:
        chunk.append(rollout)
        if clock() - last >= every_s:
            yield chunk
            chunk, last = [], clock()
    if chunk:
        yield chunk
