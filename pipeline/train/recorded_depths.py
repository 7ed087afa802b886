"""TRL's GRPO trainer on a recurrent model: every pass at the depths that the rollouts ran at.

TRL's own objective is left alone. What changes is the model that it calls: all three passes (the
policy in training, the policy that sampled, the reference) are given `depths` with the tokens.

    rollouts ─ depths of every position ─┐
    TRL: sampling policy, reference  <── at these depths ── whole batch, in chunks
         shuffled and split with the batch
    TRL: policy in training          <── at these depths ── one micro-batch
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from trl import GRPOTrainer

from pipeline.train.logprob_gap import check_gap

DEPTHS = "depths"  # in the batches that TRL shuffles and splits
UNREAD = 1  # depth of positions whose output nobody reads: padding, and the last token

PositionDepths = Sequence[Sequence[int]]
"""[_B][_P + _T - 1] of each completion: the depths of the positions that ran."""


@dataclass(frozen=True)
class AtDepths:
    """A model whose passes run at `depths` [B, T]."""

    model: Any
    depths: Tensor

    def __call__(self, **inputs: Any) -> Any:
        """The model's own output."""
        return self.model(**inputs, depths=self.depths)


class RecordedDepthsTrainer(GRPOTrainer):
    """TRL's trainer at the newest rollouts' depths; without any it is TRL's as it stands.

    Before a batch is used, its tokens' log-probabilities are compared with those that the engine
    sampled them with.
    """

    rollout_depths: PositionDepths | None = None  # of the newest rollouts, in their order
    engine_dtype: str = "float32"
    rollout_updates: int = 1  # optimizer steps per rollout batch

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        batch = super()._generate_and_score_completions(inputs)
        largest, mean = (
            self._metrics["train"][f"sampling/sampling_logp_difference/{name}"][-1]
            for name in ("max", "mean")
        )
        step = self.state.global_step // self.rollout_updates
        check_gap(step=step, largest=largest, mean=mean, dtype=self.engine_dtype)
        if self.rollout_depths is not None:
            mask = torch.cat((batch["prompt_mask"], batch["completion_mask"]), dim=1)
            batch[DEPTHS] = padded_depths(self.rollout_depths, mask)
        return batch

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        if DEPTHS in inputs:
            model = AtDepths(model, inputs[DEPTHS])
        return super()._compute_loss(model, inputs)

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        **options: Any,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """TRL's, of which the passes over a whole batch of rollouts come without depths yet."""
        passes = super()._get_per_token_logps_and_entropies
        if self.rollout_depths is None or isinstance(model, AtDepths):
            return passes(
                model, input_ids, attention_mask, logits_to_keep, batch_size=batch_size, **options
            )
        depths = padded_depths(self.rollout_depths, attention_mask)
        rows = batch_size or len(input_ids)
        chunks = [
            passes(AtDepths(model, at), ids, mask, logits_to_keep, **options)
            for at, ids, mask in zip(
                depths.split(rows), input_ids.split(rows), attention_mask.split(rows), strict=True
            )
        ]
        return torch.cat([logprobs for logprobs, _, _ in chunks]), None, None


def padded_depths(depths: PositionDepths, mask: Tensor) -> Tensor:
    """Depths [B, S] of a padded batch with this mask [B, S], 0 at padding on either side.

    Raises ValueError where a row has not one more token than depths.
    """
    lengths = [len(row) + 1 for row in depths]  # the last token never ran
    if lengths != mask.sum(dim=1).tolist():
        raise ValueError(
            f"depths of {lengths} positions were recorded for rows of {mask.sum(dim=1).tolist()}"
        )
    flat = [depth for row in depths for depth in (*row, UNREAD)]
    out = torch.full_like(mask, UNREAD, dtype=torch.long)
    out[mask.bool()] = torch.tensor(flat, device=mask.device)
    return out
