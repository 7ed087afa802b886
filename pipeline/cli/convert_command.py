"""`stepwell convert`: the command; `pipeline.models.conversion` does the work."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.answer import Answer, Json
from pipeline.errors import UsageError


def convert(
    source: Annotated[
        str,
        typer.Argument(metavar="SRC", help="Model folder, .gguf file, package:NAME or hub id."),
    ],
    to: Annotated[
        Path | None, typer.Argument(metavar="[DST]", help="A new folder; default: only report.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Layers of prelude/core/coda, such as 10/8/12, or auto.")
    ] = None,
    drop: Annotated[str | None, typer.Option(help="Layers to leave out, such as 3,17.")] = None,
    gate: Annotated[
        float | None, typer.Option(help="What the re-entry gate starts at; default: 0.25.")
    ] = None,
    tie_iterations: Annotated[
        bool,
        typer.Option(help="Untied: iterations are the core's own layers, which tokens leave out."),
    ] = True,
    copy_core: Annotated[
        bool,
        typer.Option("--copy-core", help="Each further iteration has a copy of the core."),
    ] = False,
    num_iterations: Annotated[
        int | None, typer.Option(min=1, help="Depth by default; dense: 1, else as published.")
    ] = None,
    max_iterations: Annotated[
        int | None,
        typer.Option(min=1, help="The deepest depth; dense: 8, copied: 2, untied: core layers."),
    ] = None,
    state_init: Annotated[
        str | None, typer.Option(help="Huginn: zero (default), or normal as published.")
    ] = None,
    text: Annotated[
        Path | None, typer.Option(help="Measure on this file; default: texts of our own.")
    ] = None,
    as_json: Json = False,
) -> Answer:
    """Make a dense, Huginn or Ouro checkpoint a recurrent model. A dense one stays the same model
    at one iteration, untied at all of them; without DST, measure where it can be looped and suggest
    a split."""
    from pipeline.models.conversion import ConvertOptions, convert_model, report_lines
    from pipeline.recurrent.convert.dense import GATE

    if state_init not in (None, "zero", "normal"):
        raise UsageError(f"--state-init {state_init}: write zero or normal")
    if not tie_iterations and gate is not None:
        raise UsageError("--gate is for tied iterations: untied ones enter no layer again")
    layers = drop.split(",") if drop else []
    if not all(layer.strip().isdecimal() for layer in layers):
        raise UsageError(f"--drop {drop}: write layer numbers with commas, such as 3,17")
    options = ConvertOptions(
        split=split,
        drop=tuple(map(int, layers)),
        gate=GATE if gate is None else gate,
        tie_iterations=tie_iterations,
        copy_core=copy_core,
        num_iterations=num_iterations,
        max_iterations=max_iterations,
        state_init=state_init,
        text=text,
    )
    document = convert_model(source, to, options=options)
    return Answer(document=document, show=lambda: print("\n".join(report_lines(document))))
