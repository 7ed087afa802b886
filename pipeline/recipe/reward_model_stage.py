"""`kind: reward_model`: a model that scores completions, from pairs."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import PositiveFloat, PositiveInt

from pipeline.recipe.stage_base import FurtherTraining, Input, Product
from pipeline.recipe.stage_work import UNKNOWN, Lengths, Rows, Work


class RewardModelStage(FurtherTraining):
    """A pairwise reward model (Bradley-Terry) on `pairs`."""

    product: ClassVar[Product] = "reward_model"
    removed_keys: ClassVar[Mapping[str, str]] = {
        **FurtherTraining.removed_keys,
        "length_balance": "chosen and rejected completions have comparable lengths (R1)",
    }

    kind: Literal["reward_model"]
    """A model that scores completions."""
    pairs: str
    """A reject stage (correct against wrong), or prompts with columns `chosen` and `rejected`."""
    lr: PositiveFloat = 1e-5
    """Peak learning rate. Ours."""
    epochs: PositiveFloat = 1
    """Passes over the pairs. Ours."""
    batch_rows: PositiveInt = 128
    """Pairs per optimizer step, over all ranks. Ours."""
    max_tokens: PositiveInt = 32768
    """Tokens of prompt and completion."""
    max_pairs: PositiveInt | None = None
    """Use the first so many pairs; default: all."""

    def inputs(self) -> tuple[Input, ...]:
        return Input.of("init", self.init), Input.of("pairs", self.pairs)

    @property
    def rows_per_update(self) -> int | None:
        return self.batch_rows

    def work(self, rows: Mapping[str, float], *, lengths: Lengths = UNKNOWN) -> Work:
        pairs = rows[self.pairs]
        sequences = 2 * min(pairs, self.max_pairs or pairs)
        tokens = sequences * self.epochs * lengths.row_tokens(self.max_tokens)
        return Work(trained=(self.trained(tokens),))

    def training_rows(self, lengths: Lengths) -> Rows:
        return Rows(
            longest=lengths.longest_row_tokens(self.max_tokens),
            mean=lengths.row_tokens(self.max_tokens),
            sequences=2,
        )

    @property
    def batch_text(self) -> str:
        return f"{self.batch_rows} pairs per optimizer step"

    @property
    def short_batch(self) -> str:
        return f"{self.batch_rows} rows"
