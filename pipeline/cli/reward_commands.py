"""`stepwell reward ...`: what a reward is worth before a policy finds out."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from pipeline.artifacts import entries
from pipeline.cli.answer import HOLE, OK, Answer, Json
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from rewards.cases import Case

SHOWN = 20

reward_app = typer.Typer(
    help="Try, attack, explain, time and compare rewards.", no_args_is_help=True
)

RewardRef = Annotated[
    str,
    typer.Argument(metavar="REF", help="builtin:NAME, path/file.py:fn or package.module:fn."),
]
Args = Annotated[
    list[str] | None,
    typer.Option("--arg", metavar="NAME=VALUE", help="An argument, as under args: in a recipe."),
]
Cases = Annotated[
    Path | None, typer.Option("--data", help="Cases: JSON lines or a JSON list; default: our own.")
]
Workers = Annotated[int, typer.Option(min=1, help="Processes that score.")]


@reward_app.command("test")
def try_reward(
    ref: RewardRef,
    data: Annotated[Path, typer.Option("--data", help="Cases: JSON lines or a JSON list.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Write one JSON line per case to this file.")
    ] = None,
    workers: Workers = 1,
    arg: Args = None,
    as_json: Json = False,
) -> Answer:
    """Score labelled cases twice: precision, recall, verdicts, the slowest, and whether both runs
    agree. Cases have `id`, `expected`, and `pred` with `gold`, or `program` with `tests`."""
    from rewards.audit import try_cases

    cases = _cases(data)
    if out is not None and not out.parent.is_dir():
        raise UsageError(f"--out {out}: there is no folder {out.parent}")
    trial = try_cases(ref, cases, args=_arguments(arg), base=Path.cwd(), workers=workers, out=out)
    return Answer(document=trial, show=lambda: _print(_test_lines(trial)))


@reward_app.command()
def attack(
    ref: RewardRef,
    data: Cases = None,
    limit: Annotated[int, typer.Option(min=1, help="Golds to take from the cases.")] = 200,
    workers: Workers = 1,
    arg: Args = None,
    as_json: Json = False,
) -> Answer:
    """Offer the reward what deserves nothing, and mutations of your own golds. Exit code 1 when
    anything is paid. Cases need `gold` (or `answer`), or `tests` for programs."""
    from rewards.audit import attack as attacked

    cases = _cases(data, answered=False) if data else []
    holes = attacked(
        ref, cases, args=_arguments(arg), base=Path.cwd(), workers=workers, limit=limit
    )
    if not holes["tried"]:
        raise UsageError(f"--data {data}: no case has a gold, an answer or tests to attack")
    return Answer(
        document=holes,
        show=lambda: _print(_attack_lines(holes)),
        code=HOLE if holes["paid"] else OK,
    )


@reward_app.command()
def explain(
    ref: RewardRef,
    sample: Annotated[Path, typer.Option("--sample", help="A file with a case.")],
    case_id: Annotated[
        str | None, typer.Option("--id", help="Which case of the file; default: the first.")
    ] = None,
    arg: Args = None,
    as_json: Json = False,
) -> Answer:
    """Say all about one reward: its value, verdict and cost, and why."""
    from rewards.audit import explain as explained

    cases = [c for c in _cases(sample) if case_id in (None, c.sample.id)]
    if not cases:
        raise UsageError(f"--id {case_id}: there is no such case in {sample}")
    explanation = explained(ref, cases[0].sample, args=_arguments(arg), base=Path.cwd())
    return Answer(document=explanation, show=lambda: print(json.dumps(explanation, indent=1)))


@reward_app.command()
def bench(
    ref: RewardRef,
    data: Cases = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long to measure.")] = 5.0,
    arg: Args = None,
    as_json: Json = False,
) -> Answer:
    """Measure checks per second on one core, with plainer ways to run programs beside it."""
    from rewards.audit import bench as benched

    cases = _cases(data) if data else []
    speed = benched(ref, cases, args=_arguments(arg), base=Path.cwd(), seconds=seconds)

    def show() -> None:
        print(f"{ref}: {speed['checks_per_s_per_core']:.0f} checks/s per core")
        print(f"isolation: {speed['isolation']}")
        for name, rate in speed.get("baselines", {}).items():
            print(f"  {name} (no isolation): {rate:.0f} runs/s per core")

    return Answer(document=speed, show=show)


@reward_app.command()
def diff(
    ref_a: Annotated[str, typer.Argument(metavar="REF_A", help="A reward, as for test.")],
    ref_b: Annotated[str, typer.Argument(metavar="REF_B", help="Another.")],
    run_dir: Annotated[Path, typer.Option("--run", help="A run folder, such as runs/x.")],
    stage: Annotated[str | None, typer.Option(help="Default: every stage with rollouts.")] = None,
    workers: Workers = 1,
    arg_a: Annotated[
        list[str] | None,
        typer.Option("--arg-a", metavar="NAME=VALUE", help="An argument of REF_A, as for test."),
    ] = None,
    arg_b: Annotated[
        list[str] | None,
        typer.Option("--arg-b", metavar="NAME=VALUE", help="An argument of REF_B."),
    ] = None,
    as_json: Json = False,
) -> Answer:
    """Score a run's logged samples with both rewards: which would be rescored. Prompts are as the
    model saw them, where the run folder still has a tokenizer; else the bare questions."""
    from pipeline.watch.rollout_log import logged_samples
    from rewards.audit import diff as compared

    samples = logged_samples(run_dir, stage=stage, rendered=prompt_renderer(run_dir))
    difference = compared(
        ref_a,
        ref_b,
        samples,
        args_a=_arguments(arg_a, option="--arg-a"),
        args_b=_arguments(arg_b, option="--arg-b"),
        base=Path.cwd(),
        workers=workers,
    )
    return Answer(document=difference, show=lambda: _print(_diff_lines(difference)))


def prompt_renderer(run_dir: Path) -> Callable[[Sequence[int]], str] | None:
    """From a prompt's tokens to its text, by the tokenizer of a model in the run folder."""
    models = [
        folder / "model"
        for place in ("inputs", "stages")
        for folder in entries(run_dir / place)
        if (folder / "model" / "tokenizer_config.json").is_file()
    ]
    if not models:
        return None
    from pipeline.generate.chat import load_tokenizer

    tokenizer = load_tokenizer(models[0])
    return lambda tokens: tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False)


def _cases(path: Path, *, answered: bool = True) -> "list[Case]":
    from rewards.cases import read_cases

    return read_cases(path, answered=answered)


def _arguments(given: Sequence[str] | None, *, option: str = "--arg") -> dict[str, Any]:
    """`name=value` pairs, each value read as YAML, as in a recipe."""
    arguments = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"{option} {text}: write name=value")
        try:
            arguments[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UsageError(f"{option} {text}: the value is no YAML; quote it") from None
    return arguments


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


def _test_lines(trial: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"{trial['reward']}: {trial['n']} cases, precision {_share(trial['precision'])}, "
        f"recall {_share(trial['recall'])}"
    )
    yield from (f"  {count:>6}  {verdict}" for verdict, count in trial["verdicts"].items())
    yield "deterministic" if trial["deterministic"] else "NOT deterministic: two runs differ"
    yield f"at most {trial['max_cpu_s']:.3f} s of CPU and {trial['max_rss_mb']:.0f} MiB; slowest:"
    yield from (
        f"  {row['cpu_s']:>8.3f} s  {row['id']}  {row['verdict']}" for row in trial["slowest"]
    )
    if trial["wrong"]:
        yield f"{len(trial['wrong'])} wrong:"
        wrong = (f"  {row['id']}  {_due(row)}, verdict {row['verdict']}" for row in trial["wrong"])
        yield from _first(wrong, len(trial["wrong"]))


def _due(row: Mapping[str, Any]) -> str:
    return "not paid, but right" if row["expected"] else "paid, but wrong"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _attack_lines(holes: Mapping[str, Any]) -> Iterator[str]:
    paid = holes["paid"]
    faults = f", {holes['infra_errors']} not scored (infra_error)" if holes["infra_errors"] else ""
    yield f"{holes['reward']}: {holes['tried']} attacks tried, {len(paid)} paid{faults}"
    rows = (
        f"  {row['attack']}: {row['answer'][:80]!r} for {(row['gold'] or '')[:40]!r}"
        for row in paid
    )
    yield from _first(rows, len(paid))


def _diff_lines(difference: Mapping[str, Any]) -> Iterator[str]:
    changed = difference["changed"]
    yield (
        f"{len(changed)} of {difference['n']} samples would be rescored: "
        f"{difference['a']} -> {difference['b']}"
    )
    rows = (f"  {row['id']}  {_brief(row['a'])} -> {_brief(row['b'])}" for row in changed)
    yield from _first(rows, len(changed))


def _brief(score: Mapping[str, Any]) -> str:
    value = "none" if score["value"] is None else f"{score['value']:g}"
    return f"{value} ({score['verdict']})"


def _first(rows: Iterator[str], count: int) -> Iterator[str]:
    for _, row in zip(range(SHOWN), rows, strict=False):
        yield row
    if count > SHOWN:
        yield f"  ... and {count - SHOWN} more (--json has all)"
