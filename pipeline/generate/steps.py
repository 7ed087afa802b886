"""The steps of a GRPO stage: groups with variance, replaced where they have none, journaled."""

import time
from collections.abc import Sequence
from typing import Protocol

from pipeline.generate.groups import Group, choose, has_variance, unscored_share
from pipeline.generate.journal import Journal, StepRollouts
from pipeline.generate.priced_depths import PricedDepths
from pipeline.generate.schedule import prompts_of_step, replacements_of_step
from pipeline.generate.service import (
    Depths,
    RolloutError,
    RolloutService,
    Sampling,
    in_groups,
    sampling_of,
)
from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.records import Prompt, Scored, group_names

UNSCORED_LIMIT = 0.01  # share of a step that the rewards may fail to score; ours
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

    def held_out(self, step: int) -> dict[str, float]:
        """Held-out accuracy at this step's weights, where the recipe watches it, over the samples
        that were scored, and the share that was not. No accuracy where none was."""
        if self._spec.watch is None or step % self._spec.watch.every_steps:
            return {}
        groups = self._service.sample(
            self._watch,
            source=self._spec.watch.prompts,
            sampling=Sampling(
                samples=1,
                temperature=WATCH_TEMPERATURE,
                top_p=WATCH_TOP_P,
                max_tokens=self._spec.max_tokens,
            ),
            seed=self._seed,
            step=-1,
            version=step,
        )
        values = [g.samples[0].components[self._watch_reward] for g in groups]
        scored = [value for value in values if value is not None]
        return {"held_out_unscored_share": 1.0 - len(scored) / len(values)} | (
            {"held_out_accuracy": sum(scored) / len(scored)} if scored else {}
        )

    def _make(self, step: int) -> StepRollouts:
        started = time.monotonic()
        spec = self._spec
        held_out = self.held_out(step)
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
        metrics |= held_out
        return StepRollouts(groups=choose(useful, flat, wanted), metrics=metrics)

    def _groups(self, batch: Sequence[Prompt], step: int) -> list[Group]:
        spec = self._spec
        groups = self._service.sample(
            batch,
            source=spec.prompts,
            sampling=sampling_of(spec),
            seed=self._seed,
            step=step,
            version=step,
            depths=self._depth_requests(batch, step),
        )
        return self._with_preference(batch, groups, step)

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

    def _check_scored(self, groups: Sequence[Group], step: int) -> None:
        share = unscored_share(groups)
        if share > UNSCORED_LIMIT:
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
                f"{UNSCORED_LIMIT:.1%}): {'; '.join(reasons[:3])}"
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
    rewards = {"reward": [s.reward for s in samples]} | {
        f"reward/{name}": [s.components[name] for s in samples] for name in samples[0].components
    }
    for name, values in rewards.items():
        scored = [value for value in values if value is not None]
        if scored:
            metrics[name] = _mean(scored)
    return metrics


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
