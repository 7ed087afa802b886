"""`stepwell plan RECIPE --simulate GPUS...`: GRPO stages on clusters of several sizes."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.cli.answer import Answer
from pipeline.cli.planned import planned
from pipeline.errors import UsageError
from pipeline.plan.simulate.costs import read_costs
from pipeline.plan.simulate.failures import NODE_MTBF_HOURS
from pipeline.plan.simulate.forecast import Forecast, forecasts

DEFAULT_MTBF_HOURS = NODE_MTBF_HOURS


def split_sizes(first: str, arguments: Sequence[str]) -> tuple[list[int], list[str]]:
    """Numbers of GPUs from what follows `--simulate`, and the other arguments: a number alone is no
    change of a recipe.

    >>> split_sizes("8", ["64", "seed=3", "1024"])
    ([8, 64, 1024], ['seed=3'])

    Raises UsageError for what is no number.
    """
    texts = first.replace(",", " ").split()
    texts += [text for argument in arguments if "=" not in argument for text in argument.split(",")]
    if not texts or not all(text.isdecimal() and int(text) for text in texts):
        raise UsageError(f"--simulate {' '.join(texts)}: write numbers of GPUs, such as 8 64 1024")
    return [int(text) for text in texts], [text for text in arguments if "=" in text]


def simulate_answer(
    recipe: str, first: str, arguments: Sequence[str], *, costs: Path | None, mtbf_hours: float
) -> Answer:
    """A row for every stage, size and staleness.

    Raises UsageError for sizes that are no numbers, PlanError for what cannot be simulated.
    """
    sizes, overrides = split_sizes(first, arguments)
    plan = planned(recipe, overrides)
    spent = None if costs is None else read_costs(costs)
    rows, spent_by_stage = forecasts(plan.recipe, sizes, costs=spent, mtbf_hours=mtbf_hours)

    def show() -> None:
        for row in rows:
            print(_line(row))
        for name, used in spent_by_stage.items():
            print(f"  {name}: costs {used.source}; {_costs_text(used.document())}")
        life = f"a node fails every {mtbf_hours:,.0f} hours" if mtbf_hours else "no node fails"
        print(
            f"  simulated, not measured: log-normal lengths (sigma 0.8); {life}; "
            "the batch stays the recipe's; groups are not replaced"
        )

    return Answer(
        document={
            "name": plan.recipe.name,
            "simulation": [row.document() for row in rows],
            "costs": {name: used.document() for name, used in spent_by_stage.items()},
            "mtbf_hours": mtbf_hours,
        },
        show=show,
    )


def _line(row: Forecast) -> str:
    return (
        f"{row.stage} on {row.gpus:,} GPUs ({row.ranks} trainers, {row.engines} engines), "
        f"staleness {row.staleness}: {row.step_s:,.1f} s a step, engines {row.engine_share:.0%}, "
        f"trainers {row.trainer_share:.0%}, waits for {row.bottleneck}; "
        f"{_duration(row.hours)}, of which {_duration(row.failure_hours)} for {row.deaths} "
        "failure(s) and checkpoints"
    )


def _duration(hours: float) -> str:
    return f"{hours:,.1f} hours" if hours >= 2 else f"{hours * 60:.1f} minutes"


def _costs_text(document: dict[str, object]) -> str:
    return ", ".join(
        f"{key} {value:.3g}" for key, value in document.items() if isinstance(value, int | float)
    )
