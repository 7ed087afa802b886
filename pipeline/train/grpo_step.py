"""One optimizer step of GRPO after another, in transformers' training loop.

    rollouts of a step ─ advantages ─ parts of `updates_per_step`
    a part: packed forward passes ─ loss, gradients ─ optimizer

A completion without advantage costs nothing where there is no KL term. Log-probabilities of before
the step are the pass's own where a step is one update. Every token's log-probability is compared
with the one that it was sampled with before the optimizer moves. Of a step that was made ahead the
weights were others: how far they are apart is measured instead.
"""

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel, Trainer

from pipeline.generate.client import Slice
from pipeline.generate.schedule import derived_seed
from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.train.adapter import transformers_model
from pipeline.train.grpo_loss import Objective, Tokens, Totals, advantages, flat_share, loss
from pipeline.train.logprob_gap import check_gap
from pipeline.train.packed_rows import Completion, PackedRows, budget_of, pack, split
from pipeline.train.policy_pass import PolicyPass
from pipeline.train.stale_tokens import stale_metrics, stale_sums


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """What a GRPO trainer is told beside transformers' arguments."""

    spec: GrpoStage
    micro_rows: int  # padded rows whose tokens one forward pass has room for
    seed: int
    engine_dtype: str
    rollouts: Callable[[int], Slice]  # this rank's completions of a step


@dataclass
class _Sums:
    """Over the forward passes of an update, on this rank."""

    loss: Tensor
    kl: Tensor
    entropy: Tensor
    clipped: Tensor
    gap: Tensor
    largest_gap: Tensor
    stale: Tensor  # [4], `pipeline.train.stale_tokens`
    tokens: int = 0

    @classmethod
    def zero(cls, device: torch.device) -> "_Sums":
        def nothing() -> Tensor:
            return torch.zeros((), device=device)

        six = (nothing(), nothing(), nothing(), nothing(), nothing(), nothing())
        return cls(*six, torch.zeros(4, device=device))


class GrpoStepTrainer(Trainer):
    """transformers' loop; each of its batches is one update on a part of a step's rollouts."""

    def __init__(
        self, *, settings: StepSettings, reference: PreTrainedModel | None, **arguments: Any
    ) -> None:
        """`reference`: the model that the KL term measures from; None without one, or where it is
        the policy without its adapters."""
        super().__init__(**arguments)
        spec = settings.spec
        self.settings = settings
        self.objective = Objective.of(
            variant=spec.variant, clip=spec.clip, kl=spec.kl, max_tokens=spec.max_tokens
        )
        trained: Any = self.accelerator.unwrap_model(self.model)
        self._policy = PolicyPass(transformers_model(trained), temperature=spec.temperature)
        # without adapters the policy is what it began as: the reference until it is replaced
        self._adapted = trained if isinstance(trained, PeftModel) else None
        self.ref_model: Any = reference
        self._reference = None
        if reference is not None:
            self._reference = PolicyPass(reference, temperature=spec.temperature)
            self.ref_model = self._placed(reference)
        self._has_kl = bool(spec.kl)
        self._parts: list[list[Completion]] = []
        self._old: dict[int, Tensor] = {}  # by completion, where a step is several updates
        self._flat_share = 0.0
        self._row: dict[str, float] = {}

    def training_step(
        self, model: torch.nn.Module, inputs: Any, num_items_in_batch: Any = None
    ) -> Tensor:
        """Gradients of one update; the loss, so scaled that the ranks' mean is the update's.

        Raises LogprobGapError where engine and trainer do not compute the same model.
        """
        model.train()
        step, update = divmod(self.state.global_step, self.settings.spec.updates_per_step)
        if update == 0 or not self._parts:
            self._begin(model, step)
        part = self._parts[update]
        totals, sums = self._totals(part), _Sums.zero(self.accelerator.device)
        passes = self._passes(part)
        for index, (rows, counts) in enumerate(passes):
            last = index == len(passes) - 1
            self.accelerator.gradient_state._set_sync_gradients(last)
            with contextlib.nullcontext() if last else self.accelerator.no_sync(model):
                # a pass that only keeps step with other ranks moves and measures nothing
                measured = sums if counts else _Sums.zero(self.accelerator.device)
                share = self._share(model, rows, totals, measured)
                self.accelerator.backward(share if counts else 0.0 * share)
        self._row = self._measured(sums, step)
        return sums.loss * self.accelerator.num_processes

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """transformers' row, with the update's own numbers."""
        super().log(logs | self._row if "loss" in logs else logs, start_time)

    def _begin(self, model: torch.nn.Module, step: int) -> None:
        """Rollouts of a step, their advantages, and the parts that its updates take."""
        spec = self.settings.spec
        part = self.settings.rollouts(step)
        values = [torch.nan if reward is None else float(reward) for reward in part.rewards]
        rewards: Any = self.accelerator.gather(torch.tensor(values, device=self.accelerator.device))
        every = advantages(rewards, group=spec.samples_per_prompt, variant=spec.variant).tolist()
        first = self.accelerator.process_index * len(values)
        self._flat_share = flat_share(rewards, group=spec.samples_per_prompt)
        completions = [
            Completion(
                prompt=tuple(part.prompt_tokens[i]),
                tokens=tuple(part.tokens[i]),
                logprobs=tuple(part.logprobs[i]),
                advantage=every[first + i],
                depths=None if part.depths is None else tuple(part.depths[i]),
                staleness=0 if part.versions is None else step - part.versions[i],
            )
            for i in range(len(values))
        ]
        self._parts = self._divided(completions, step)
        self._old = {}
        if spec.updates_per_step > 1:
            self._remember(model, completions)

    def _divided(self, completions: list[Completion], step: int) -> list[list[Completion]]:
        """The completions by update, groups in an order that the step decides."""
        spec = self.settings.spec
        if spec.updates_per_step == 1:
            return [completions]
        size = spec.samples_per_prompt
        groups = [completions[at : at + size] for at in range(0, len(completions), size)]
        random.Random(derived_seed(self.settings.seed, "shuffle", step)).shuffle(groups)
        order = [completion for group in groups for completion in group]
        share = len(order) // spec.updates_per_step
        return [order[at : at + share] for at in range(0, len(order), share)]

    @torch.no_grad()
    def _remember(self, model: torch.nn.Module, completions: Sequence[Completion]) -> None:
        """Log-probabilities of before the step's first update."""
        for rows, _ in self._even(list(self._packed(completions)), completions):
            logprobs, _ = self._run(self._policy, model, rows)
            pieces = logprobs.split(rows.lengths.tolist())
            self._old |= {id(c): p for c, p in zip(rows.completions, pieces, strict=True)}

    def _passes(self, part: Sequence[Completion]) -> list[tuple[PackedRows, bool]]:
        """The forward passes of an update, and whether they count.

        Where nothing moves a completion it is left out; one stays, since every rank takes part.
        """
        used = list(part)
        if not self._has_kl:
            used = [c for c in part if c.advantage] or [min(part, key=lambda c: len(c.tokens))]
        return self._even(list(self._packed(used)), used)

    def _even(
        self, passes: list[PackedRows], completions: Sequence[Completion]
    ) -> list[tuple[PackedRows, bool]]:
        """As many passes as the rank with most has; those that only keep step do not count."""
        counted = [(rows, True) for rows in passes]
        if self.accelerator.num_processes == 1:
            return counted
        most = torch.tensor(len(passes), device=self.accelerator.device)
        dist.all_reduce(most, op=dist.ReduceOp.MAX)
        spare = pack([min(completions, key=lambda c: len(c.tokens))], device=most.device)
        return counted + [(spare, False)] * (int(most) - len(passes))

    def _packed(self, completions: Sequence[Completion]) -> Iterator[PackedRows]:
        budget = budget_of(completions, rows=self.settings.micro_rows)
        for part in split(completions, budget=budget):
            yield pack(part, device=self.accelerator.device)

    def _totals(self, part: Sequence[Completion]) -> Totals:
        """Rows and tokens of the update, over all ranks."""
        counts = torch.tensor(
            [len(part), sum(len(c.tokens) for c in part)], device=self.accelerator.device
        )
        rows, tokens = self.accelerator.reduce(counts, reduction="sum").tolist()  # pyright: ignore
        return Totals(rows=rows, tokens=tokens)

    def _share(
        self, model: torch.nn.Module, rows: PackedRows, totals: Totals, sums: _Sums
    ) -> Tensor:
        """A pass's share of the loss, times the ranks, whose gradients are averaged."""
        logprobs, entropy = self._run(self._policy, model, rows)
        old = logprobs.detach()
        if self._old:
            old = torch.cat([self._old[id(c)] for c in rows.completions])
        reference = None
        if self._has_kl:
            reference = self._reference_logprobs(model, rows)
        result = loss(
            Tokens(
                logprobs=logprobs,
                old=old,
                engine=rows.logprobs,
                advantages=rows.advantages,
                rows=rows.rows,
                lengths=rows.lengths,
                reference=reference,
            ),
            self.objective,
            totals,
        )
        gap = (old - rows.logprobs).abs()
        fresh = gap[rows.staleness == 0]
        sums.loss += result.loss.detach()
        sums.kl += result.kl
        sums.clipped += result.clipped
        sums.entropy += entropy.sum()
        sums.gap += fresh.sum()
        if len(fresh):
            sums.largest_gap = torch.maximum(sums.largest_gap, fresh.max())
        sums.stale += stale_sums(old=old, engine=rows.logprobs, staleness=rows.staleness)
        sums.tokens += len(gap)
        return result.loss * self.accelerator.num_processes

    @torch.no_grad()
    def _reference_logprobs(self, model: torch.nn.Module, rows: PackedRows) -> Tensor:
        """[N] under the reference."""
        if self._reference is not None:
            return self._run(self._reference, self.ref_model, rows)[0]
        assert self._adapted is not None
        with self._adapted.disable_adapter():
            return self._run(self._policy, model, rows)[0]

    def _run(self, policy: PolicyPass, model: Any, rows: PackedRows) -> tuple[Tensor, Tensor]:
        with self.accelerator.autocast():
            return policy(model, rows)

    def _measured(self, sums: _Sums, step: int) -> dict[str, float]:
        """The update's row of metrics, over all ranks."""
        several = self.accelerator.num_processes > 1
        counts = torch.stack(
            [sums.kl, sums.entropy, sums.clipped, sums.gap, torch.tensor(float(sums.tokens))]
        ).to(self.accelerator.device)
        largest, stale = sums.largest_gap.clone(), sums.stale.clone()
        if several:
            dist.all_reduce(counts)
            dist.all_reduce(stale)
            dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        kl, entropy, clipped, gap, tokens = counts.tolist()
        row = stale_metrics(stale, tokens=tokens)
        fresh = tokens - stale[0].item()
        if fresh:
            row |= {"logprob_gap": largest.item(), "logprob_gap_mean": gap / fresh}
            check_gap(
                step=step + 1,
                largest=largest.item(),
                mean=gap / fresh,
                dtype=self.settings.engine_dtype,
            )
        self.state.num_input_tokens_seen += int(tokens)
        row |= {
            "entropy": entropy / tokens,
            "clipped_share": clipped / tokens,
            "zero_variance_share": self._flat_share,
            "num_tokens": float(self.state.num_input_tokens_seen),
        }
        return row | ({} if not self._has_kl else {"kl": kl / tokens})

    def _placed(self, reference: PreTrainedModel) -> Any:
        """The reference on its devices, sharded as the policy is."""
        reference.eval().requires_grad_(False)
        if self.is_deepspeed_enabled:
            from trl.models import prepare_deepspeed  # takes seconds, and only sharded runs need it

            return prepare_deepspeed(reference, self.accelerator)
        if self.is_fsdp_enabled:
            return fsdp2_prepare_model(self.accelerator, reference)
        return self.accelerator.prepare_model(reference, evaluation_mode=True)
