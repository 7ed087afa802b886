"""`stepwell launch`: a run on a cluster, by files that a person can read and edit."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.answer import Answer, Json
from pipeline.cli.planned import planned
from pipeline.cli.streams import say
from pipeline.errors import FAILED, OK, UsageError

SEEDS = "Of a SLURM array, such as 1,2,3."


def launch(
    recipe: Annotated[str | None, typer.Argument(metavar="RECIPE")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[a.b=c]...", help="Changes, such as stages.reason.lr=2e-6."),
    ] = None,
    on: Annotated[str | None, typer.Option(help="slurm, ray, kuberay or sky.")] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            help="Folder of runs that every node sees; default: runs/ here for slurm, else /shared."
        ),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", help="Folder of the files; default launch/NAME-ON.")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help=SEEDS)] = None,
    address: Annotated[
        str | None,
        typer.Option(help="Of a Ray cluster's job server; default: RAY_API_SERVER_ADDRESS."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write the files and submit nothing.")
    ] = False,
    status: Annotated[
        bool, typer.Option("--status", help="Show the jobs that were launched from here.")
    ] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Stop such a job.")] = False,
    as_json: Json = False,
) -> Answer:
    """Run a recipe on a cluster: write its files, submit them and follow the log.

    Ctrl-C leaves the job running. --status and --stop take the recipe's name where there are more.
    """
    if status or stop:
        return _jobs(recipe, on=on, stop=stop)
    if recipe is None or on is None:
        raise UsageError("write `stepwell launch RECIPE --on slurm|ray|kuberay|sky`")
    from pipeline.launch.launch import make_launch

    made = make_launch(
        planned(recipe, overrides or []),
        on=on,
        reference=recipe,
        overrides=overrides or [],
        storage=storage,
        to=to,
        seeds=_numbers(seeds),
        address=address,
    )
    edited = made.write()
    for name in edited:
        say(f"{made.job.folder / name} was edited and is kept; remove it to have it written anew")
    for note in made.notes:
        say(f"note: {note}")
    folder = made.job.folder
    document: dict[str, Any] = {
        "on": on,
        "folder": str(folder),
        "files": {str(folder / name): text for name, text in made.texts.items()},
        "copies": {str(folder / name): str(path) for name, path in made.job.bundle.copies.items()},
        "edited": [str(folder / name) for name in edited],
        "submit": made.shell,
        "run_dir": made.job.run_dir,
        "notes": list(made.notes),
    }
    if dry_run:
        return Answer(document=document, show=lambda: _show_files(document))
    ticket = made.send()
    say(f"submitted: {ticket.on} job {ticket.id}; its run folder: {ticket.run_dir}")
    if as_json:
        return Answer(document={**document, "job": ticket.document()}, show=lambda: None)
    from pipeline.launch.tool import follow

    try:
        state = follow(made.scheduler, ticket, say)
    except KeyboardInterrupt:
        left = f"the job goes on; `stepwell launch {made.job.name} --status` or `--stop`"
        return Answer(document=document, show=lambda: print(left))
    return Answer(
        document=document,
        show=lambda: print(f"{state}; run folder: {ticket.run_dir}"),
        code=OK if state in made.scheduler.success else FAILED,
    )


def _show_files(document: dict[str, Any]) -> None:
    for name in [*document["files"], *document["copies"]]:
        print(name)
    print(f"to submit: {document['submit']}")


def _jobs(recipe: str | None, *, on: str | None, stop: bool) -> Answer:
    """The states of launched jobs, or the end of one."""
    from pipeline.launch.job import LaunchError
    from pipeline.launch.launch_folder import tickets
    from pipeline.launch.scheduler import UNKNOWN
    from pipeline.launch.schedulers import SCHEDULERS
    from pipeline.launch.tool import call, state_of

    name = None if recipe is None else Path(recipe).stem if recipe.endswith("ml") else recipe
    chosen = [t for t in tickets() if name in (None, t.name) and on in (None, t.on)]
    if not chosen:
        what = "" if name is None else f" of {name}"
        raise UsageError(f"no job{what} was launched from this folder; launch/ has no ticket")
    if stop and len(chosen) > 1:
        names = ", ".join(f"{ticket.name} --on {ticket.on}" for ticket in chosen)
        raise UsageError(f"--stop: which of these? {names}")
    missing = [t.on for t in chosen if shutil.which(SCHEDULERS[t.on].tool) is None]
    if missing:
        raise UsageError(f"{SCHEDULERS[missing[0]].tool} is not installed here; ask where it is")
    if stop:
        call(SCHEDULERS[chosen[0].on].stop(chosen[0]))
    rows: list[dict[str, Any]] = []
    for ticket in chosen:
        try:
            state = state_of(SCHEDULERS[ticket.on], ticket)
        except LaunchError as error:  # the others may still be asked
            say(f"{ticket.name}: {error}")
            state = UNKNOWN
        rows.append({**ticket.document(), "state": state})
    return Answer(document={"jobs": rows}, show=lambda: _show_jobs(rows))


def _show_jobs(rows: Sequence[dict[str, Any]]) -> None:
    for row in rows:
        print(f"{row['name']}: {row['on']} job {row['id']}: {row['state']}; {row['run_dir']}")


def _numbers(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise UsageError(f"--seeds {text}: write whole numbers with commas, such as 1,2,3")
    if len(set(parts)) < len(parts):
        raise UsageError(f"--seeds {text}: a seed stands there twice, with one run folder")
    return tuple(int(part) for part in parts)
