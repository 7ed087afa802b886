"""The arguments of commands that begin with a recipe."""

from typing import Annotated

import typer

RecipeRef = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A YAML file, or the name of a shipped recipe.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[a.b=c]...", help="Changes, such as stages.reason.lr=2e-6."),
]
