"""Random depth in the training of recurrent models, as a column of the training rows.

Every row's depths are a function of the seed and its place in the training order, so a resumed run
draws the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedConfig
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from pipeline.recipe.sft_stage import RandomDepths
from pipeline.recurrent.config import RecurrentConfig
from pipeline.train.depth_distribution import DepthDistribution
from pipeline.train.token_rows import IGNORED

DEPTHS = "depths"


def check_random_depths(config: PreTrainedConfig, depths: RandomDepths, *, folder: Path) -> None:
    """Refuse a model that cannot run at these depths.

    Raises ValueError.
    """
    if not isinstance(config, RecurrentConfig):
        raise ValueError(
            f"random_depths is for recurrent models; {folder} is a {config.model_type} model: "
            "remove it"
        )
    if depths.high > config.max_iterations:
        raise ValueError(
            f"random_depths.high={depths.high} is over max_iterations={config.max_iterations} of "
            f"{folder}"
        )
    if (depths.prompt_depth or 1) > config.max_iterations:
        raise ValueError(
            f"random_depths.prompt_depth={depths.prompt_depth} is over "
            f"max_iterations={config.max_iterations} of {folder}"
        )


def with_depths(
    rows: Dataset, depths: RandomDepths, *, seed: int, batch_rows: int, later: bool = False
) -> Dataset:
    """`rows` in training order with a column `depths`, one for each of their tokens.

    Args:
        batch_rows: consecutive rows that go through the model together, and share their draw
            where `segment` is "batch".
        later: only iterations after the first learn: a row that would run none of them runs `high`
            at the token that gives its first answer, so that no pass is without a gradient.
    """
    generator = torch.Generator().manual_seed(seed)
    together = depths.segment == "batch"
    distribution = DepthDistribution(
        high=depths.high,
        segment=depths.segment if isinstance(depths.segment, int) else None,
    )
    found: list[list[int]] = []
    shared = 0
    for index, labels in enumerate(rows["labels"]):
        if not together:
            drawn = distribution.draw(1, positions=len(labels), generator=generator)
            row = drawn.reshape(-1).expand(len(labels)).tolist()
        else:
            if index % batch_rows == 0:
                shared = int(distribution.draw(1, generator=generator))
            row = [shared] * len(labels)
        prompt = _first_answer(labels) - 1  # the last prompt position answers already
        if later and max(row[prompt:]) == 1:
            row[prompt] = depths.high
        if depths.prompt_depth is not None:
            row[:prompt] = [depths.prompt_depth] * prompt
        found.append(row)
    return rows.add_column(DEPTHS, found)  # pyright: ignore[reportCallIssue]


def _first_answer(labels: Sequence[int]) -> int:
    """Place of the first token with a loss; 1 where all have one."""
    return max(next((i for i, label in enumerate(labels) if label != IGNORED), 1), 1)


@dataclass(frozen=True)
class DepthCollator:
    """TRL's collator, and the rows' depths padded like their tokens."""

    inner: DataCollatorForLanguageModeling

    def __call__(self, examples: list[Mapping[str, Any]]) -> dict[str, Tensor]:
        """A batch with `depths` [B, T]; padding runs one iteration."""
        plain = [{k: v for k, v in e.items() if k != DEPTHS} for e in examples]
        batch: dict[str, Tensor] = self.inner(plain)
        batch[DEPTHS] = torch.ones_like(batch["input_ids"])
        for row, example in zip(batch[DEPTHS], examples, strict=True):
            row[: len(example[DEPTHS])] = torch.tensor(example[DEPTHS])
        return batch
