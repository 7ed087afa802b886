"""`stepwell doctor`."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.answer import Answer, Json
from pipeline.cli.planned import planned
from pipeline.cli.streams import say
from pipeline.errors import OK, WRONG, UsageError, WrongInput

if TYPE_CHECKING:
    from pipeline.cli.doctor.check import Check


def doctor(
    recipe: Annotated[str | None, typer.Argument(metavar="[RECIPE]")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[a.b=c]...", help="Changes, such as stages.reason.lr=2e-6."),
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Look at the rewards of 16 samples of the base, too.")
    ] = False,
    conformance: Annotated[
        bool,
        typer.Option("--conformance", help="Compare RECIPE with R1's published values instead."),
    ] = False,
    as_json: Json = False,
) -> Answer:
    """Check this machine, and with a recipe also what the recipe needs. Exit code 2: not ready."""
    if conformance:
        from pipeline.cli.conformance_view import conformance_answer

        return conformance_answer(recipe)
    from pipeline.cli.doctor.examine import examine

    if probe and recipe is None:
        raise UsageError("--probe samples a recipe's base model; name the recipe")
    plan, mistakes = None, ""
    try:
        plan = planned(recipe, overrides or []) if recipe else None
    except WrongInput as error:
        mistakes = str(error)
    line = _ProgressLine()
    checks: list[Check] = []
    for check in examine(plan, mistakes=mistakes, probe=probe, tell=line.show):
        checks.append(check)
        if not as_json:
            line.clear()
            fix = f"  ->  {check.fix}" if check.fix else ""
            print(f"{check.status:8} {check.name:15} {check.why}{fix}", flush=True)
            line.show()
    line.clear()
    ready = all(check.status != "wrong" for check in checks)
    rows = [asdict(check) for check in checks]
    speeds = [row.pop("matmul_gflops") for row in rows]
    return Answer(
        document={
            "ready": ready,
            "matmul_gflops": max(filter(None, speeds), default=None),
            "checks": rows,
        },
        show=lambda: print(_verdict(checks)),
        code=OK if ready else WRONG,
    )


def _verdict(checks: "Sequence[Check]") -> str:
    counts = {s: sum(c.status == s for c in checks) for s in ("wrong", "warning", "fine")}
    said = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    return f"{'not ready' if counts['wrong'] else 'ready'} ({said})"


class _ProgressLine:
    """What is looked at, on standard error: one line that is written over on a terminal, a line
    each elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._text = ""

    def show(self, text: str | None = None) -> None:
        """Show another text, or the last one again."""
        if text is not None:
            self._text = text
            if not self._terminal:
                say(f"looking at {text}")
        if self._terminal:
            sys.stderr.write(f"\r\x1b[2Klooking at {self._text} ...")
            sys.stderr.flush()

    def clear(self) -> None:
        """Leave the line empty."""
        if self._terminal:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
