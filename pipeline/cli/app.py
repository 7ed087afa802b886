"""The command line. Commands return an Answer; `main` shows it, or prints it as one document.

Nothing here loads an ML library before a command needs it.
"""

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline import __version__
from pipeline.cli.answer import INTERRUPTED, Answer, Json
from pipeline.cli.chat_command import chat
from pipeline.cli.compare_command import compare
from pipeline.cli.convert_command import convert
from pipeline.cli.depth_options import Budget, Depth, Effort, asked_depth
from pipeline.cli.doctor_command import doctor
from pipeline.cli.eval_command import evaluate
from pipeline.cli.export_command import export
from pipeline.cli.init_command import init
from pipeline.cli.launch_command import launch
from pipeline.cli.leaderboard_command import leaderboard
from pipeline.cli.metrics_command import metrics
from pipeline.cli.plan_command import plan
from pipeline.cli.planned import planned
from pipeline.cli.recipe_arguments import Overrides, RecipeRef
from pipeline.cli.replay_command import replay
from pipeline.cli.reward_commands import reward_app
from pipeline.cli.schema_command import schema
from pipeline.cli.serve_command import serve
from pipeline.cli.set_up import set_up_again
from pipeline.cli.streams import is_writable, on_any_stream, say, written
from pipeline.cli.verify_command import verify
from pipeline.cli.watch_command import watch
from pipeline.cluster.clean_up import leave
from pipeline.errors import FAILED, OK, STOPPED, WRONG, StepwellError, UsageError
from pipeline.stages.stop_signal import handlers
from rewards.cases import BadCases
from rewards.registry import RewardNotFound

if TYPE_CHECKING:
    from pipeline.plan.stage_plan import Plan

ERROR_LINES = 20

app = typer.Typer(
    name="stepwell",
    help="Post-train reasoning models: the DeepSeek-R1 flow from one recipe.",
    epilog="Exit codes: 0 done, 2 wrong recipe or usage, 3 a stage failed, 4 stopped, resumable.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(help="Look at a recipe's data.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(reward_app, name="reward")
app.command()(chat)
app.command()(convert)
app.command()(export)
app.command()(leaderboard)
app.command()(compare)
app.command()(serve)
app.command()(metrics)
app.command()(replay)
app.command()(verify)
app.command()(launch)
app.command()(plan)
app.command()(schema)
app.command()(doctor)
app.command()(init)
app.command()(watch)
app.command("eval")(evaluate)

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, such as runs/x.")]
RunDir = Annotated[Path | None, typer.Option("--run-dir", help="Where to run; default runs/NAME.")]


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"stepwell {__version__}")
        raise typer.Exit


@app.command()
def run(
    recipe: RecipeRef,
    overrides: Overrides = None,
    run_dir: RunDir = None,
    from_stage: Annotated[
        str | None, typer.Option("--from", help="Run this stage and all later ones again.")
    ] = None,
    to_stage: Annotated[str | None, typer.Option("--to", help="The last stage to run.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would run.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Go on with stages begun with other package versions.")
    ] = False,
    as_json: Json = False,
) -> Answer:
    """Run a recipe. The same command goes on where an earlier one ended."""
    from pipeline.plan.data_notes import data_notes
    from pipeline.start import default_folder, run_planned
    from pipeline.watch.plan_view import plan_document, show_plan

    plan = planned(recipe, overrides or [], run_dir=run_dir, goes_on=True)
    if dry_run:
        data = data_notes(plan.recipe)
        folder = run_dir or default_folder(plan.recipe.name)
        todo = _would_run(plan, folder, from_stage=from_stage, to_stage=to_stage)
        return Answer(
            document={**plan_document(plan, data), "run_dir": str(folder), "would_run": todo},
            show=lambda: show_plan(plan, data, would_run=todo),
        )
    from pipeline.watch.console import make_console

    result = run_planned(
        plan,
        run_dir=run_dir,
        from_stage=from_stage,
        to_stage=to_stage,
        console=make_console(json=as_json),
        tell=say,
        force=force,
    )
    from pipeline.watch.report import report_if_readable

    page = report_if_readable(result.run_dir, tell=say)

    def show() -> None:
        print(f"run folder: {result.run_dir}")
        if page is not None:
            print(f"report: {page}")

    return Answer(document={**result.document(), "report": page and str(page)}, show=show)


@app.command()
def report(run_dir: RunFolder, as_json: Json = False) -> Answer:
    """Write a run's report.html and say where it is."""
    from pipeline.watch.report import write_report

    path = write_report(run_dir)
    return Answer(document={"report": str(path)}, show=lambda: print(path))


@app.command()
def rollouts(
    run_dir: RunFolder,
    stage: Annotated[str | None, typer.Option(help="Default: the one that wrote last.")] = None,
    step: Annotated[int | None, typer.Option(help="From 1 on; default: the last.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many to show.")] = 4,
    order: Annotated[str, typer.Option(help="written, best or worst.")] = "written",
    as_json: Json = False,
) -> Answer:
    """Show what the model wrote, how it was rewarded and why."""
    from pipeline.watch.rollout_log import print_rollouts, show

    if order not in ("written", "best", "worst"):
        raise UsageError(f"--order {order}: write written, best or worst")
    rows = show(run_dir, stage=stage, step=step, limit=limit, order=order)
    return Answer(document={"rollouts": rows}, show=lambda: print_rollouts(rows))


@data_app.command("check")
def data_check(
    recipe: RecipeRef,
    overrides: Overrides = None,
    reward: Annotated[
        str | None, typer.Option(help="The reward that judges answers; default: evaluate's.")
    ] = None,
    as_json: Json = False,
) -> Answer:
    """Load every prompts entry and check its golds: each scores 1 under its own reward, no question
    has two, and no row is both trained on and evaluated on. Exit code 2: a gold is wrong."""
    from pipeline.recipe.hub_reach import reach_hub

    plan = planned(recipe, overrides or [])
    if (line := reach_hub(plan.recipe)) is not None:
        say(line)
    from pipeline.cli.data_check import check_data, show_check

    check = check_data(plan.recipe, reward=reward)
    return Answer(
        document=check.document(),
        show=lambda: show_check(check, limit=ERROR_LINES),
        code=OK if check.is_sound else WRONG,
    )


@app.command()
def trace(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A recurrent model's folder.")],
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What the model is asked.")],
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("trace.html"),
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens to write at most.")] = 64,
    effort: Effort = None,
    depth: Depth = None,
    budget: Budget = None,
    tokens: Annotated[
        str | None, typer.Option(help="Tokens to follow, such as 3,7,12; default: the busiest.")
    ] = None,
    as_json: Json = False,
) -> Answer:
    """Show what a recurrent model's iterations do to the tokens of one answer, as an HTML page.

    Without --effort, --depth or --budget: at the model's default effort where it was calibrated,
    else at its own number of iterations.
    """
    if not out.parent.is_dir():
        raise UsageError(f"--out {out}: there is no folder {out.parent}")
    picked = None if tokens is None else tokens.split(",")
    if picked is not None and not all(token.strip().isdecimal() for token in picked):
        raise UsageError(f"--tokens {tokens}: write positions with commas, such as 3,7,12")
    asked = asked_depth(effort, depth, budget)
    from pipeline.watch.trace import document, trace_prompt
    from pipeline.watch.trace_page import write_page

    found = trace_prompt(
        model,
        prompt,
        max_tokens=max_tokens,
        choice=asked,
        follow=None if picked is None else [int(token) for token in picked],
    )
    page = write_page(found, out)

    def show() -> None:
        print(found.completion)
        print(
            f"depth: {found.mean_depth:.2f} of {found.full_depth} on average ({found.decided_by})"
        )
        print(f"trace: {page}")

    return Answer(document=document(found, page), show=show)


@on_any_stream
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    With `--json`, what libraries print goes to standard error, and the document alone to standard
    output; a failure is a document with `error`.
    """
    with handlers(signal.default_int_handler):  # any of the signals interrupts, until a run begins
        code = _main(list(sys.argv[1:] if arguments is None else arguments))
    return leave(code)


def _main(given: list[str]) -> int:
    os.environ.setdefault("PYTHONSAFEPATH", "1")  # for every process we start
    if "--json" not in given:
        code, _ = _answered(given, as_json=False)
        return code
    sys.stdout.flush()
    output = os.dup(1)
    os.dup2(2, 1)
    try:
        code, document = _answered(given, as_json=True)
    finally:
        sys.stdout.flush()
        os.dup2(output, 1)
        os.close(output)
    if document is None:
        return code
    with written(code) as written_code:
        print(json.dumps(document, indent=1))
    return written_code()


def _answered(given: Sequence[str], *, as_json: bool) -> tuple[int, Mapping[str, Any] | None]:
    """Exit code and document of a command. Every expected error is a few lines, no traceback."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return _refused("the folder that this was started in is gone; cd to another one", WRONG)
    try:
        answer = app(given, standalone_mode=False)
    except typer.TyperException as error:
        message = error.format_message()
        hint = "" if "Usage:" in message else " (--help shows the usage)"
        return _refused(f"{message}{hint}", WRONG, limit=None)
    except StepwellError as error:
        return _refused(str(error), error.exit_code)
    except (BadCases, RewardNotFound) as error:  # rewards know nothing of us
        return _refused(str(error), WRONG)
    except ImportError as error:
        return _refused(
            f"a package that this needs cannot be imported: {error}; {set_up_again()}",
            FAILED,
        )
    except OSError as error:  # a full disk, a folder without permission, a device that fails
        if isinstance(error, BrokenPipeError) or not is_writable(sys.stdout):
            raise
        place = "" if error.filename is None else f"{error.filename}: "
        return _refused(f"{place}{error.strerror or error}", FAILED)
    if answer == INTERRUPTED:  # Typer's answer to Ctrl-C
        code = STOPPED if given[0] in ("run", "eval") else INTERRUPTED
        return _refused("interrupted; what is finished is kept", code)
    if not isinstance(answer, Answer):  # --help and --version
        return int(answer or OK), None
    if as_json:
        return answer.code, answer.document
    with written(answer.code) as written_code:
        answer.show()
    return written_code(), answer.document


def _refused(
    message: str, code: int, *, limit: int | None = ERROR_LINES
) -> tuple[int, Mapping[str, Any]]:
    """Print an error, at most `limit` lines of it; its code and document."""
    lines = message.splitlines()
    shown = lines[:limit]
    if len(shown) < len(lines):
        shown.append(f"... and {len(lines) - len(shown)} lines more")
    say("\n".join(shown))
    return code, {"error": message, "exit_code": code}


def _would_run(
    plan: "Plan", folder: Path, *, from_stage: str | None, to_stage: str | None
) -> list[str]:
    """Names of the stages that a run would run, given what is finished in its folder."""
    from pipeline.plan.plan import stages_until
    from pipeline.stages.run_folder import RunFolder

    stages = stages_until(plan, from_stage, to_stage)
    names = [stage.name for stage in stages]
    first = names.index(from_stage) if from_stage else len(names)
    published = RunFolder(folder).is_published
    return [s.name for i, s in enumerate(stages) if i >= first or not published(s)]


if __name__ == "__main__":
    sys.exit(main())
