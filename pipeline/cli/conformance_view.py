"""`stepwell doctor RECIPE --conformance`: a recipe's values beside R1's."""

from pipeline.cli.answer import Answer
from pipeline.cli.planned import planned
from pipeline.errors import UsageError
from pipeline.plan.conformance import PAPER, Field, conformance


def conformance_answer(recipe: str | None) -> Answer:
    """Every field with its published value and source. Differences are choices: exit code 0.

    Raises UsageError without a recipe.
    """
    if recipe is None:
        raise UsageError("--conformance compares a recipe: stepwell doctor RECIPE --conformance")
    plan = planned(recipe, [])
    fields = conformance(plan.recipe)
    counts = {
        "same": sum(field.same is True for field in fields),
        "other": sum(field.same is False for field in fields),
        "not_stated": sum(field.same is None for field in fields),
    }

    def show() -> None:
        for field in fields:
            print(_line(field))
        print(
            f"{recipe}: {counts['same']} as published, {counts['other']} otherwise, "
            f"{counts['not_stated']} where the paper ({PAPER}) is silent"
        )

    return Answer(
        document={
            "recipe": plan.recipe.name,
            "conformance": [field.document() for field in fields],
            **counts,
        },
        show=show,
    )


def _line(field: Field) -> str:
    if field.same is None:
        return f"ours   {field.field} = {field.recipe}  (R1 does not say)"
    mark = "same" if field.same else "other"
    place = field.source.removeprefix(f"{PAPER}, ")
    return f"{mark:6} {field.field} = {field.recipe}  (R1: {field.published}; {place})"
