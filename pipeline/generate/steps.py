"""The steps of a GRPO stage: groups with variance, replaced where they have none, journaled."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from pipeline.generate.curriculum import Counts, PassHistory, pass_counts, weighted_prompts
from pipeline.generate.groups import Group, choose, has_variance, joined, unscored_share
from pipeline.generate.journal import Journal, StepRollouts
from pipeline.generate.priced_depths import PricedDepths
from pipeline.generate.schedule import prompts_of_step, replacements_of_step, version_of_step
from pipeline.generate.service import (
    Depths,
    Part,
    RolloutError,
    RolloutService,
    Sampling,
    in_groups,
    sampling_of,
)
from pipeline.generate.unscored import check_scored, no_reward
from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.records import Prompt, Scored, group_names
from rewards.api import INFRA_ERROR

WATCH_TEMPERATURE, WATCH_TOP_P = 0.6, 0.95  # as R1 evaluates


class PreferenceModel(Protocol):
    """A trained reward model. `score` takes prompts and completions of equal length."""

    def score(self, prompts: list[str], completions: list[str]) -> list[float]: ...


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
        depths: PricedDepths | None = None,
    ) -> None:
        self._service = service
        self._journal = journal
        self._spec = spec
        self._prompts = prompts
        self._seed = seed
        self._preference = preference  # model, name, weight, last fraction
        self._watch = watch
        self._watch_reward = watch_reward
        self._depths = depths  # None: the model's own
        self._passes = PassHistory()  # of the first steps, from the journal

    def step(self, step: int) -> StepRollouts:
        """The groups of one step: from the journal where it has them, generated otherwise.

        Raises TooManyUnscored when over 1 % of the samples could not be scored.
        """
        journaled = self._journal.read(step)
        if journaled is not None:
            return journaled
        made = self._make(step)
        self._journal.write(step, made)
        return made

    def held_out(self, step: int) -> dict[str, float]:
        """How the held-out prompts go at the weights of this step's rollouts, where the recipe
        watches them: every so many steps, and at the last one.

        held_out_accuracy: share with a watched reward of at least 1, as an evaluation counts, of
        the samples that it scored; held_out_unscored_share: of those that it did not;
        held_out_reward/NAME: mean of each reward over what it scored. A reward that scored
        nothing has neither accuracy nor mean.
        """
        watch, last = self._spec.watch, self._spec.steps - 1
        if watch is None or (step % watch.every_steps and step != last):
            return {}
        groups = self._service.sample(
            self._watch,
            source=watch.prompts,
            sampling=Sampling(
                samples=1,
                temperature=WATCH_TEMPERATURE,
                top_p=WATCH_TOP_P,
                max_tokens=self._spec.max_tokens,
            ),
            seed=self._seed,
            step=-1,
            version=self._version(step),
        )
        samples = [group.samples[0] for group in groups]
        scored = _values(samples, self._watch_reward)
        metrics = {"held_out_unscored_share": 1.0 - len(scored) / len(samples)}
        if scored:
            metrics["held_out_accuracy"] = _mean([value >= 1.0 for value in scored])
        return metrics | _means(samples, prefix="held_out_reward/")

    def _make(self, step: int) -> StepRollouts:
        started = time.monotonic()
        spec = self._spec
        held_out = self.held_out(step)
        sampled_from = time.monotonic()
        verified = self._service.verification_s
        wanted = spec.prompts_per_step
        rates = self._pass_rates(step)
        batch = self._batch(step, rates)
        everything: dict[str, Group] = {}
        batches: list[Sequence[Prompt]] = []
        for attempt in range(spec.resample_rounds + 1):
            batches.append(batch)
            everything |= self._groups(batch, step)
            missing = wanted - sum(has_variance(group) for group in everything.values())
            used = frozenset(group.prompt_id for group in everything.values())
            if missing <= 0:
                break
            batch = self._replacements(step, rates, attempt=attempt, count=missing, used=used)
            if not batch:
                break
        chosen = choose(everything, wanted)
        for batch in batches:
            everything |= self._completed(batch, step, everything, chosen)
        groups = [*everything.values()]
        check_scored(groups, step=step)
        metrics = step_metrics(groups, seconds=time.monotonic() - sampled_from)
        metrics["resampled_groups"] = float(len(groups) - wanted)
        if spec.first_samples is not None:
            short = [len(group.samples) < spec.samples_per_prompt for group in groups]
            metrics["stopped_groups"] = float(sum(short))
        metrics["rollout_seconds"] = time.monotonic() - started
        metrics["held_out_seconds"] = sampled_from - started
        metrics["verification_seconds"] = self._service.verification_s - verified
        metrics |= held_out
        passes: Mapping[str, Counts] = {}
        if rates is not None:
            metrics |= rate_metrics(rates)
            passes = pass_counts(groups, reward=self._watch_reward)
        return StepRollouts(
            groups=[everything[name] for name in chosen], metrics=metrics, passes=passes
        )

    def _pass_rates(self, step: int) -> Mapping[str, float] | None:
        """What the steps before say of their prompts; None without a curriculum.

        Raises RolloutError where the journal lacks one of them.
        """
        if not self._spec.curriculum:
            return None
        if self._passes.steps > step:
            self._passes = PassHistory()
        for earlier in range(self._passes.steps, step):
            passes = self._journal.passes(earlier)
            if passes is None:
                raise RolloutError(
                    f"the curriculum of step {step + 1} needs {self._journal.path(earlier)}, which "
                    "is not there; restore it, or remove the stage's work folder to begin anew"
                )
            self._passes.add(passes)
        return self._passes.rates()

    def _batch(self, step: int, rates: Mapping[str, float] | None) -> list[Prompt]:
        count, prompts = self._spec.prompts_per_step, self._prompts
        if rates is None:
            return prompts_of_step(prompts, seed=self._seed, step=step, count=count)
        rounds, rest = divmod(count, len(prompts))  # no round, unless there are few prompts
        drawn = weighted_prompts(
            prompts, rates, seed=self._seed, step=step, attempt=-1, count=rest, used=frozenset()
        )
        return [*prompts] * rounds + drawn

    def _replacements(
        self,
        step: int,
        rates: Mapping[str, float] | None,
        *,
        attempt: int,
        count: int,
        used: frozenset[str],
    ) -> list[Prompt]:
        options = {"seed": self._seed, "step": step, "attempt": attempt, "count": count}
        if rates is None:
            return replacements_of_step(self._prompts, **options, used=used)
        return weighted_prompts(self._prompts, rates, **options, used=used)

    def _groups(self, batch: Sequence[Prompt], step: int) -> dict[str, Group]:
        """The groups of a batch by name; with `first_samples` whole where those of its rewards
        differ."""
        names, first = group_names(batch), self._spec.first_samples
        if first is None:
            return dict(zip(names, self._sampled(batch, step), strict=True))
        groups = self._sampled(batch, step, part=dict.fromkeys(names, range(first)))
        begun = dict(zip(names, groups, strict=True))
        return self._completed(batch, step, begun, [n for n in names if has_variance(begun[n])])

    def _completed(
        self, batch: Sequence[Prompt], step: int, groups: Mapping[str, Group], names: Sequence[str]
    ) -> dict[str, Group]:
        """A batch's groups, of which those with these names have all their samples."""
        every = group_names(batch)
        samples = self._spec.samples_per_prompt
        own = {name: groups[name] for name in every}
        part = {n: range(len(own[n].samples), samples) for n in every if n in set(names)}
        if not any(part.values()):
            return own
        further = self._sampled(batch, step, part=part)
        return dict(zip(every, joined([*own.values()], further), strict=True))

    def _sampled(
        self, batch: Sequence[Prompt], step: int, *, part: Part | None = None
    ) -> list[Group]:
        spec = self._spec
        groups = self._service.sample(
            batch,
            source=spec.prompts,
            sampling=sampling_of(spec),
            seed=self._seed,
            step=step,
            version=self._version(step),
            depths=self._depth_requests(batch, step),
            part=part,
        )
        return self._with_preference(batch, groups, step)

    def _version(self, step: int) -> int:
        return version_of_step(step, ahead=self._spec.ahead)

    def _depth_requests(self, batch: Sequence[Prompt], step: int) -> Depths | None:
        if self._depths is None:
            return None
        samples = self._spec.samples_per_prompt
        return self._depths.requests(
            group_names(batch), samples=samples, seed=self._seed, step=step
        )

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
        return in_groups(batch, scored)


def add_component(scored: Scored, name: str, value: float, weight: float) -> Scored:
    """The same sample with one more reward component; a value that is no number is none."""
    if (why := no_reward(value, weight=weight)) is not None:
        place = f"sample {scored.rollout.group}/{scored.rollout.sample}"
        return replace(
            scored,
            reward=None,
            components={**scored.components, name: None},
            verdicts={**scored.verdicts, name: INFRA_ERROR},
            details={**scored.details, name: {"error": f"{place}: the reward model {why}"}},
        )
    reward = None if scored.reward is None else scored.reward + weight * value
    return replace(
        scored,
        reward=reward,
        components={**scored.components, name: value},
        verdicts={**scored.verdicts, name: "scored"},
    )


def rate_metrics(rates: Mapping[str, float]) -> dict[str, float]:
    """Mean and standard deviation of the pass rates that a step drew by; empty before the first."""
    if not rates:
        return {}
    values = list(rates.values())
    return {"pass_rate_mean": _mean(values), "pass_rate_std": statistics.pstdev(values)}


def step_metrics(groups: Sequence[Group], *, seconds: float) -> dict[str, float]:
    """What a step's generation looked like, over all its groups, dropped ones included.

    A reward that scored nothing has no mean.
    """
    samples = [s for g in groups for s in g.samples]
    tokens = [len(s.rollout.tokens) for s in samples]
    metrics = {
        "completion_tokens": _mean(tokens),
        "zero_variance_share": _mean([not has_variance(g) for g in groups]),
        "truncated_share": _mean([s.rollout.stop == "length" for s in samples]),
        "unscored_share": unscored_share(groups),
        "tokens_per_s": sum(tokens) / max(seconds, 1e-9),
    }
    totals = [s.reward for s in samples if s.reward is not None]
    if totals:
        metrics["reward"] = _mean(totals)
    return metrics | _means(samples, prefix="reward/")


def _means(samples: Sequence[Scored], *, prefix: str) -> dict[str, float]:
    """Mean of each reward over what it scored, by prefix and name."""
    by_name = {name: _values(samples, name) for name in samples[0].components}
    return {f"{prefix}{name}": _mean(values) for name, values in by_name.items() if values}


def _values(samples: Sequence[Scored], name: str) -> list[float]:
    return [value for s in samples if (value := s.components[name]) is not None]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
