"""The options that choose a recurrent model's depth, of every command that has them."""

from typing import Annotated, Any

import typer

Effort = Annotated[
    str | None, typer.Option(help="Of a calibrated recurrent model: low, medium or high.")
]
Depth = Annotated[
    int | None, typer.Option(min=1, help="Iterations of every token of a recurrent model.")
]
Budget = Annotated[
    float | None, typer.Option(help="Share of the full depth, of a calibrated model.")
]


def asked_depth(effort: str | None, depth: int | None, budget: float | None) -> dict[str, Any]:
    """The option that decides the depth, as an evaluate stage has it; empty: the model's own."""
    from pipeline.use.evaluation import checked_depth

    return checked_depth({"effort": effort, "depth": depth, "budget": budget})
