"""`stepwell plan`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.answer import Answer, Json
from pipeline.cli.planned import planned
from pipeline.cli.recipe_arguments import Overrides, RecipeRef
from pipeline.cli.streams import say
from pipeline.errors import UsageError


def plan(
    recipe: RecipeRef,
    overrides: Overrides = None,
    matmul_gflops: Annotated[
        float | None,
        typer.Option(
            "--matmul-gflops", min=1e-3, help="Of this machine's cores, as doctor measures them."
        ),
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Measure the rates first: a few steps, minutes.")
    ] = False,
    simulate: Annotated[
        str | None,
        typer.Option("--simulate", metavar="GPUS...", help="GRPO on clusters, such as 8 64 1024."),
    ] = None,
    costs: Annotated[
        Path | None, typer.Option("--costs", help="Measured costs of a simulation, a JSON file.")
    ] = None,
    mtbf_hours: Annotated[
        float | None,
        typer.Option("--mtbf-hours", min=0, help="Of a node, in a simulation; 0: none fails."),
    ] = None,
    as_json: Json = False,
) -> Answer:
    """Show stages, batches, tokens, memory, hours and placement. Runs nothing; with --probe a few
    steps in a temporary folder, whose rates take the place of assumed ones."""
    if probe and (simulate is not None or matmul_gflops is not None):
        raise UsageError("--probe measures the rates: leave --simulate and --matmul-gflops out")
    if simulate is not None:
        from pipeline.cli.simulate_view import DEFAULT_MTBF_HOURS, simulate_answer

        hours = DEFAULT_MTBF_HOURS if mtbf_hours is None else mtbf_hours
        return simulate_answer(recipe, simulate, overrides or [], costs=costs, mtbf_hours=hours)
    if costs is not None or mtbf_hours is not None:
        raise UsageError("--costs and --mtbf-hours are of a simulation: add --simulate GPUS")
    from pipeline.plan.data_notes import data_notes
    from pipeline.watch.plan_view import plan_document, show_plan

    resolved = planned(recipe, overrides or [])
    data = data_notes(resolved.recipe)
    each = None if matmul_gflops is None else matmul_gflops / len(os.sched_getaffinity(0))
    measured = None
    if probe:
        from pipeline.use.plan_probe import measure
        from pipeline.watch.console import make_console

        measured = measure(resolved, console=make_console(json=as_json), tell=say)
    return Answer(
        document=plan_document(resolved, data, matmul_gflops=each, measured=measured),
        show=lambda: show_plan(resolved, data, matmul_gflops=each, measured=measured),
    )
