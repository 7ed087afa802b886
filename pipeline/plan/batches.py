"""How the rows of an optimizer step are split over ranks and forward passes. Pure."""

from dataclasses import dataclass

from pipeline.plan.stage_plan import PlanError
from pipeline.recipe.stage_base import StageBase


@dataclass(frozen=True, kw_only=True)
class Batch:
    """How the rows of one optimizer step are split.

    `rows_per_update = ranks * micro_rows * accumulation`.
    """

    rows_per_update: int
    ranks: int
    micro_rows: int  # per rank and forward pass
    accumulation: int  # forward passes per rank and optimizer step


def batch_of(stage: StageBase, *, ranks: int) -> Batch | None:
    """The split of a training stage's optimizer step; None for a stage without a batch.

    A batch smaller than `micro_batch_rows` on every rank is one smaller forward pass.

    Raises PlanError with the nearest number that works.
    """
    rows, most = stage.rows_per_update, stage.rows_per_forward
    if rows is None or most is None:
        return None
    if rows % ranks:
        raise PlanError(
            f"{rows} rows per optimizer step cannot be split over hardware.ranks={ranks}; "
            f"nearest ranks that work: {_nearest_divisors(rows, ranks)}"
        )
    rows_per_rank = rows // ranks
    micro_rows = min(most, rows_per_rank)
    if rows_per_rank % micro_rows:
        raise PlanError(
            f"micro_batch_rows={micro_rows} does not divide the {rows_per_rank} rows that each of "
            f"{ranks} rank(s) has per optimizer step; "
            f"nearest that do: {_nearest_divisors(rows_per_rank, micro_rows)}"
        )
    return Batch(
        rows_per_update=rows,
        ranks=ranks,
        micro_rows=micro_rows,
        accumulation=rows_per_rank // micro_rows,
    )


def _nearest_divisors(number: int, near: int) -> str:
    divisors = [d for d in range(1, number + 1) if number % d == 0]
    below = [d for d in divisors if d < near][-1:]
    above = [d for d in divisors if d > near][:1]
    return " or ".join(str(d) for d in (*below, *above))
