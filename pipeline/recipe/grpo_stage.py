"""`kind: grpo`: reinforcement learning from rule rewards, and R1's alignment RL."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pipeline.recipe.reward_spec import ModelReward
from pipeline.recipe.section import Strict
from pipeline.recipe.stage_base import ENGINE_KEYS, TRAINER_KEYS, FurtherTraining, Input, Product
from pipeline.recipe.stage_work import (
    DIFFERING,
    RESAMPLED,
    UNKNOWN,
    Lengths,
    Rows,
    Sampled,
    TrainerMemory,
    Work,
)

Variant = Literal["grpo", "dapo", "dr_grpo", "gspo", "cispo"]


class Watch(Strict):
    """Held-out accuracy during training."""

    prompts: str
    """Prompts entry that nothing is learned from."""
    every_steps: PositiveInt = 10
    """Steps between two measurements; the last step has one too."""
    size: PositiveInt = 200
    """The first so many of the prompts, one sample each."""
    reward: str | None = None
    """Which of the stage's rewards says that an answer is right, at a value of 1; default: the
    first that judges more than how a completion is written."""


class GrpoStage(FurtherTraining):
    """GRPO on rule rewards (DeepSeekMath, arXiv 2402.03300); also R1's alignment RL."""

    product: ClassVar[Product] = "policy"
    uses_engines: ClassVar[bool] = True
    top_p: ClassVar[float] = 1.0
    hardware_keys: ClassVar[tuple[str, ...]] = (*TRAINER_KEYS, *ENGINE_KEYS)
    neutral_keys: ClassVar[frozenset[str]] = frozenset({"save_steps", "on_divergence", "watch"})
    removed_keys: ClassVar[Mapping[str, str]] = {
        **FurtherTraining.removed_keys,
        "top_p": "RL samples from the full distribution, since the trainer recomputes "
        "log-probabilities over the whole vocabulary",
        "lr_schedule": "the rate is constant",
        "truncation_cap": "a token's importance ratio of trainer to engine is capped at 2",
        "infra_error_limit": "over 1 % of unscored samples stop the run",
    }

    kind: Literal["grpo"]
    """Reinforcement learning by groups of completions."""
    prompts: str
    """Prompts entry to sample from."""
    rewards: list[str | ModelReward]
    """Names under `rewards:`, and at most one reward model."""
    steps: PositiveInt
    """Rollout batches, each used once."""
    prompts_per_step: PositiveInt = 32
    """Prompts of a rollout batch. R1."""
    samples_per_prompt: int = 16
    """Completions of a prompt, which are compared with each other. R1."""
    updates_per_step: PositiveInt = 1
    """Optimizer steps per rollout batch (R1: 16 of 8,192)."""
    temperature: PositiveFloat = 1.0
    """Sampling temperature. R1; 0.7 in alignment RL."""
    max_tokens: PositiveInt = 32768
    """Tokens of a completion. R1."""
    lr: PositiveFloat = 3e-6
    """Peak learning rate. R1."""
    kl: float = Field(default=0.001, ge=0.0)
    """Weight of the divergence from the reference. R1."""
    reference_every: PositiveInt | None = 400
    """Steps until the policy becomes the reference; null: never. R1."""
    clip: PositiveFloat | None = None
    """How far the ratio of new to old probability counts; default: the variant's own. R1: 10."""
    variant: Variant = "grpo"
    """The loss: grpo (arXiv 2402.03300), dapo (2503.14476), dr_grpo (2503.20783), gspo
    (2507.18071) or cispo (2506.13585)."""
    resample_rounds: int = Field(default=2, ge=0)
    """Rounds in which groups of equal rewards are replaced by other prompts'. Ours."""
    first_samples: int | None = Field(default=None, ge=2)
    """Completions of a prompt that are made first, the others where the rewards of these differ.
    Default: all at once."""
    curriculum: bool = False
    """Prompts whose estimated pass rate is near 0 or 1 are drawn less; false: all alike, in passes.
    """
    ahead: int = Field(default=0, ge=0, le=1)
    """1: a step's rollouts are made, with the weights of before it, while the step before it trains
    (AIPO, arXiv 2505.24034). 0: with the weights of now, in turns."""
    watch: Watch | None = None
    """Held-out accuracy during training; default: none."""

    @model_validator(mode="after")
    def _check(self) -> "GrpoStage":
        if self.samples_per_prompt < 2:
            raise ValueError(
                f"samples_per_prompt={self.samples_per_prompt}: GRPO compares samples of one "
                "prompt and needs at least 2"
            )
        self._check_first_samples()
        if not self.rewards:
            raise ValueError("rewards is empty; name at least one entry of `rewards:`")
        models = self._model_rewards()
        if len(models) == len(self.rewards):
            raise ValueError("rewards has no rule reward; name at least one entry of `rewards:`")
        if len(models) > 1:
            raise ValueError(f"rewards has {len(models)} reward models; give one at most")
        watched = None if self.watch is None else self.watch.reward
        if watched is not None and watched not in self.reward_names():
            raise ValueError(
                f"watch.reward: {watched} is none of the stage's rewards "
                f"({', '.join(self.reward_names())}); name one of them, or add it to rewards"
            )
        if self.prompts_per_step % self.updates_per_step:
            raise ValueError(
                f"updates_per_step={self.updates_per_step} must divide "
                f"prompts_per_step={self.prompts_per_step}"
            )
        return self

    def _check_first_samples(self) -> None:
        if self.first_samples is None:
            return
        if self.first_samples >= self.samples_per_prompt:
            raise ValueError(
                f"first_samples={self.first_samples} must be less than "
                f"samples_per_prompt={self.samples_per_prompt}; leave it out to make all at once"
            )
        if not self.resample_rounds:
            raise ValueError(
                "first_samples stops groups of equal rewards and resample_rounds=0 replaces none; "
                "give resample_rounds at least 1, or leave first_samples out"
            )

    def _model_rewards(self) -> list[ModelReward]:
        return [reward for reward in self.rewards if isinstance(reward, ModelReward)]

    @property
    def model_reward(self) -> ModelReward | None:
        """The reward model among its rewards, if there is one."""
        return next(iter(self._model_rewards()), None)

    @property
    def completions_per_step(self) -> int:
        """Completions of a rollout batch."""
        return self.prompts_per_step * self.samples_per_prompt

    def inputs(self) -> tuple[Input, ...]:
        model, watch = self.model_reward, self.watch
        return (
            Input.of("init", self.init),
            Input.of("prompts", self.prompts),
            *([] if model is None else [Input.of("reward_model", model.model)]),
            *([] if watch is None else [Input.of("watch", watch.prompts)]),
        )

    def reward_names(self) -> tuple[str, ...]:
        return tuple(reward for reward in self.rewards if isinstance(reward, str))

    @property
    def rows_per_update(self) -> int | None:
        return self.completions_per_step // self.updates_per_step

    @property
    def longest_completion(self) -> int:
        return self.max_tokens

    def work(self, rows: Mapping[str, float], *, lengths: Lengths = UNKNOWN) -> Work:
        """Rollouts and those that replace groups without variance, what a reward model scores in
        its last fraction of the steps, a forward pass of the reference where there is a KL term,
        and training: without it, of the groups whose rewards differ."""
        count, model = self.steps * self.completions_per_step, self.model_reward
        sampled = Sampled(
            sequences=count * (1 + RESAMPLED * min(self.resample_rounds, 1)),
            max_tokens=self.max_tokens,
            lengths=lengths,
            samples=self.samples_per_prompt,
        )
        scored = (
            ()
            if model is None
            else (
                Sampled(
                    sequences=count * model.last_fraction,
                    max_tokens=self.max_tokens,
                    model=model.model,
                    lengths=lengths,
                ),
            )
        )
        used = replace(sampled, sequences=count)
        trained = self.trained(
            (used.tokens + used.prompt_tokens) * self._taught_share,
            frozen=(None,) if self.kl else (),
        )
        return Work(
            sampled=(sampled, *self._watched(lengths)),
            scored=scored,
            trained=(trained,),
            syncs=self.steps,
            overlaps=self.samples_ahead,
        )

    @property
    def _taught_share(self) -> float:
        """Of the completions, those that are trained on."""
        return 1.0 if self.kl or self.resample_rounds else DIFFERING

    def _watched(self, lengths: Lengths) -> tuple[Sampled, ...]:
        """What is sampled to measure held-out accuracy."""
        if self.watch is None:
            return ()
        times = 1 + self.steps // self.watch.every_steps
        count = float(times * self.watch.size)
        return (Sampled(sequences=count, max_tokens=self.max_tokens, lengths=lengths),)

    def training_rows(self, lengths: Lengths) -> Rows:
        """Packed: a prompt once for its samples, as many rows as fit in the room of the longest."""
        return Rows(
            longest=lengths.longest_tokens(self.max_tokens),
            mean=lengths.completion_tokens(self.max_tokens),
            prompt=lengths.prompt_tokens(self.max_tokens),
            samples=self.samples_per_prompt,
            fills=True,
            whole_logits=True,
        )

    @property
    def samples_ahead(self) -> bool:
        return self.ahead > 0

    @property
    def trainer_memory(self) -> TrainerMemory | None:
        return TrainerMemory(
            reference=self.has_reference_weights,
            adapter_rank=self.adapter_rank,
            eight_bit=self.has_8bit_adam,
        )

    @property
    def has_reference_weights(self) -> bool:
        """Whether the KL term's reference is weights of its own. With adapters it is the model
        without them, until the policy becomes the reference."""
        replaced = self.reference_every is not None and self.reference_every < self.steps
        return bool(self.kl) and (self.lora is None or replaced)

    @property
    def batch_text(self) -> str:
        count, updates = self.completions_per_step, self.updates_per_step
        product = f"{self.prompts_per_step} prompts x {self.samples_per_prompt} samples"
        if updates == 1:
            text = f"{product} = {count:,} completions per optimizer step"
        else:
            each = self.rows_per_update
            text = f"{product} = {count:,} completions, {updates} optimizer steps of {each:,}"
        return f"{text}, {self.steps:,} times"

    @property
    def short_batch(self) -> str:
        return f"{self.steps:,} x {self.prompts_per_step} x {self.samples_per_prompt}"
