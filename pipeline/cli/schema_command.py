"""`stepwell schema`."""

import json
from typing import Annotated

import typer

from pipeline.cli.answer import Answer, Json


def schema(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print tables of all keys instead.")
    ] = False,
    as_json: Json = False,
) -> Answer:
    """Print the JSON schema of recipe files, every key explained, for editors."""
    from pipeline.recipe.editor_schema import editor_schema
    from pipeline.recipe.reference import markdown as tables

    document = editor_schema()
    if markdown:
        return Answer(document=document, show=lambda: print(tables(), end=""))
    return Answer(document=document, show=lambda: print(json.dumps(document, indent=1)))
