"""Two runs side by side: their recipes, their models on equal prompts, what either got right alone,
and their curves."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from pipeline.errors import WrongInput
from pipeline.measure.paired import Counts, PairedTest, paired_test
from pipeline.records import Scored
from pipeline.stages.recipe_changes import changed_keys
from pipeline.watch.evaluations import Evaluation, common_prompts, evaluations_of
from pipeline.watch.rollout_log import harmless, thinking_dimmed
from pipeline.watch.run_reading import finite, metrics_by_part, recipe_of, run_names
from pipeline.watch.terminal import StandardOutput

SHOWN = 20
"""Flips of either kind whose answers are given."""
PRINTED = 2
"""Flips of either kind that a terminal shows, of the last model."""
RIGHT = 0.5
"""Share of a prompt's samples from which it counts as right, where it flips."""
_CUT = 400  # characters of an answer on a terminal


class CompareError(WrongInput):
    """Two runs have nothing that could be compared."""


@dataclass(frozen=True, kw_only=True)
class Flip:
    """A prompt that one run has right and the other wrong."""

    id: str
    question: str | None
    gold: str | None
    right: str  # a or b
    a: Counts  # (right, scored) samples
    b: Counts
    answer_a: str | None = None  # one that shows it; None beyond the first `SHOWN`
    answer_b: str | None = None


@dataclass(frozen=True, kw_only=True)
class Result:
    """A model of both runs on the prompts that both evaluated it on."""

    model: str  # its name; "A_NAME / B_NAME" where the runs call it differently
    prompts: str
    test: PairedTest
    flips: Sequence[Flip]

    def document(self) -> dict[str, Any]:
        """A row of `results`."""
        row = {"model": self.model, "prompts": self.prompts, **asdict(self.test)}
        return row | {
            "right_in_a_alone": sum(flip.right == "a" for flip in self.flips),
            "right_in_b_alone": sum(flip.right == "b" for flip in self.flips),
        }


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Run A and run B."""

    a: str
    b: str
    notes: Sequence[str]  # sentences on what is not alike
    recipe: Sequence[tuple[str, Any, Any]]  # key, A's value, B's
    results: Sequence[Result]
    curves: Mapping[str, tuple[Sequence[Mapping[str, float]], Sequence[Mapping[str, float]]]]
    """Rows of metrics by stage, A's and B's, of stages that both have."""


def comparison_of(run_a: Path, run_b: Path) -> Comparison:
    """Compare two run folders.

    Raises RunReadError for what is no run folder, EvaluationError for answers that cannot be read,
    CompareError where both runs have evaluations and no prompt is common.
    """
    recipes = recipe_of(run_a), recipe_of(run_b)
    names = run_names([run_a, run_b])
    sides = evaluations_of(run_a), evaluations_of(run_b)
    pairs, notes = _pairs(*sides, a=names[run_a], b=names[run_b])
    results = [_result(one, other, names) for one, other, names in pairs]
    if not results and all(sides):
        lines = "\n".join(f"{side}: {_listed(s)}" for side, s in zip("AB", sides, strict=True))
        raise CompareError(
            "the runs have no prompt in common that both evaluated, so no two accuracies compare; "
            f"evaluate both on one prompts entry (`stepwell eval MODEL RECIPE`)\n{lines}"
        )
    stages = [name for name in recipes[0].get("stages") or {} if name in (recipes[1]["stages"])]
    return Comparison(
        a=names[run_a],
        b=names[run_b],
        notes=notes,
        recipe=changed_keys(*recipes),
        results=results,
        curves=dict(_curves(run_a, run_b, stages)),
    )


def document(comparison: Comparison) -> dict[str, Any]:
    """What `stepwell compare --json` prints."""
    return {
        "run_a": comparison.a,
        "run_b": comparison.b,
        "notes": list(comparison.notes),
        "recipe": [{"key": key, "a": a, "b": b} for key, a, b in comparison.recipe],
        "results": [result.document() for result in comparison.results],
        "flips": [
            {"model": result.model, "prompts": result.prompts, **asdict(flip)}
            for result in comparison.results
            for flip in result.flips
        ],
        "curves": {
            stage: {"a": finite(a), "b": finite(b)} for stage, (a, b) in comparison.curves.items()
        },
    }


def show_comparison(comparison: Comparison) -> None:
    """Print tables."""
    console = StandardOutput()
    console.print(Text.assemble(("A ", "bold"), comparison.a, ("   B ", "bold"), comparison.b))
    for note in comparison.notes:
        console.print(Text(f"- {note}", "yellow"))
    console.print()
    console.print("Recipes" if comparison.recipe else "The recipes are the same", style="bold")
    if comparison.recipe:
        console.print(_recipe_table(comparison.recipe))
    console.print()
    if not comparison.results:
        console.print("no models of both were evaluated")
        return
    console.print("Results, B less A in points of accuracy", style="bold")
    console.print(_results_table(comparison.results))
    console.print(
        "p: how often chance does as much, prompt by prompt (exact, two-sided); "
        "only A, only B: prompts right in one alone",
        style="dim",
    )
    last = comparison.results[-1]
    for side in "ab":
        for flip in [flip for flip in last.flips if flip.right == side][:PRINTED]:
            console.print(_flip_text(flip, last.model))


def _pairs(
    first: Sequence[Evaluation], second: Sequence[Evaluation], *, a: str, b: str
) -> tuple[list[tuple[Evaluation, Evaluation, list[str]]], list[str]]:
    """Evaluations that belong together with the names of their common groups, and what is to be
    said of those that do not, or not whole."""
    pairs, notes = [], []
    for one in first:
        rivals = [other for other in second if other.model == one.model]
        match = _matched(one, rivals)
        if match is not None:
            pairs.append((one, *match))
    if not pairs and first and second and not {e.model for e in first} & {e.model for e in second}:
        match = _matched(first[-1], [second[-1]])
        if match is not None:
            pairs.append((first[-1], *match))
            notes.append(
                f"no model has one name in both runs, so their last ones are compared: "
                f"{first[-1].model} of {a} and {second[-1].model} of {b}"
            )
    notes += _alone(first, [one for one, _, _ in pairs], run=a)
    notes += _alone(second, [other for _, other, _ in pairs], run=b)
    for one, other, names in pairs:
        notes += [note for note in _unlike(one, other, names, a=a, b=b) if note not in notes]
    return pairs, notes


def _matched(one: Evaluation, rivals: Sequence[Evaluation]) -> tuple[Evaluation, list[str]] | None:
    """The rival that shares the most prompts, of equal ones that of the same stage."""
    shared = [(other, common_prompts(one, other)) for other in rivals]
    shared = [(other, names) for other, names in shared if names]
    return max(shared, key=lambda m: (len(m[1]), m[0].stage == one.stage), default=None)


def _alone(
    evaluations: Sequence[Evaluation], matched: Sequence[Evaluation], *, run: str
) -> Iterator[str]:
    for evaluation in evaluations:
        if evaluation not in matched:
            yield (
                f"{evaluation.model} on {evaluation.prompts} is left out: {run} alone has it, or "
                "no prompt of it is the other's"
            )


def _unlike(
    one: Evaluation, other: Evaluation, names: Sequence[str], *, a: str, b: str
) -> Iterator[str]:
    only_a, only_b = len(one.counts) - len(names), len(other.counts) - len(names)
    if only_a or only_b:
        where = one.prompts if one.prompts == other.prompts else f"{one.prompts} / {other.prompts}"
        yield (
            f"prompts of {where} differ: {len(names):,} are common and compared, {only_a:,} are "
            f"{a}'s alone and {only_b:,} are {b}'s alone"
        )
    keys = dict.fromkeys([*one.settings, *other.settings])
    for key in keys:
        before, after = one.settings.get(key), other.settings.get(key)
        if before != after:
            yield (
                f"evaluated with another {key}: {'none' if before is None else before} in {a}, "
                f"{'none' if after is None else after} in {b}"
            )


def _result(one: Evaluation, other: Evaluation, names: Sequence[str]) -> Result:
    test = paired_test([one.counts[n] for n in names], [other.counts[n] for n in names])
    same = one.model == other.model
    return Result(
        model=one.model if same else f"{one.model} / {other.model}",
        prompts=one.prompts,
        test=test,
        flips=_flips(one, other, names),
    )


def _flips(one: Evaluation, other: Evaluation, names: Sequence[str]) -> list[Flip]:
    sides = {name: (_is_right(one.counts[name]), _is_right(other.counts[name])) for name in names}
    flipped = [name for name in names if sides[name][0] != sides[name][1]]
    flipped.sort(key=lambda name: sides[name][1])  # what A alone has right comes first
    if not flipped:
        return []
    answers = one.answers(), other.answers()
    flips, told = [], {"a": 0, "b": 0}
    for name in flipped:
        right = "b" if sides[name][1] else "a"
        told[right] += 1
        shown = told[right] <= SHOWN
        prompt = one.questions.get(name.partition("@")[0])
        flips.append(
            Flip(
                id=name,
                question=prompt.question if prompt else None,
                gold=prompt.answer if prompt else None,
                right=right,
                a=one.counts[name],
                b=other.counts[name],
                answer_a=_telling(one, answers[0][name], is_right=right == "a") if shown else None,
                answer_b=_telling(other, answers[1][name], is_right=right == "b")
                if shown
                else None,
            )
        )
    return flips


def _is_right(counts: Counts) -> bool:
    right, scored = counts
    return right >= RIGHT * scored


def _telling(evaluation: Evaluation, samples: Sequence[Scored], *, is_right: bool) -> str:
    """The first answer that is right, or wrong, as most of the prompt's are."""
    for scored in samples:
        value = evaluation.value_of(scored)
        if value is not None and (value >= 1.0) == is_right:
            return scored.text
    return samples[0].text


def _listed(evaluations: Sequence[Evaluation]) -> str:
    return ", ".join(f"{e.model} on {len(e.counts):,} of {e.prompts}" for e in evaluations)


def _curves(
    run_a: Path, run_b: Path, stages: Sequence[str]
) -> Iterator[tuple[str, tuple[Sequence[Mapping[str, float]], Sequence[Mapping[str, float]]]]]:
    for stage in stages:
        one, other = metrics_by_part(run_a, stage), metrics_by_part(run_b, stage)
        for part, rows in one.items():
            if rows and other.get(part):
                yield part, (rows, other[part])


def _recipe_table(recipe: Sequence[tuple[str, Any, Any]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("key", "A", "B"):
        table.add_column(column, overflow="fold")
    for key, a, b in recipe:
        table.add_row(Text(key), Text(harmless(str(a))), Text(harmless(str(b))))
    return table


def _results_table(results: Sequence[Result]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("model", "prompts"):
        table.add_column(column, overflow="fold")
    for column in ("A", "B", "B - A", "95% interval", "p", "only A", "only B"):
        table.add_column(column, justify="right", no_wrap=True)
    for result in results:
        test, row = result.test, result.document()
        sure = "bold green" if test.delta > 0 else "bold red"
        table.add_row(
            Text(result.model),
            Text(result.prompts),
            f"{test.accuracy_a:.1%}",
            f"{test.accuracy_b:.1%}",
            Text(points(test.delta), sure if test.p_value < 0.05 else ""),
            f"{points(test.ci_low)} to {points(test.ci_high)}",
            p_text(test.p_value),
            str(row["right_in_a_alone"]),
            str(row["right_in_b_alone"]),
        )
    return table


def points(share: float) -> str:
    """A difference of shares in points.

    >>> points(0.0123)
    '+1.2'
    """
    return f"{100 * share:+.1f}"


def p_text(p: float) -> str:
    """A p-value as people read it.

    >>> p_text(0.0421), p_text(1e-9)
    ('0.042', '<0.001')
    """
    return f"{p:.3f}" if p >= 0.001 else "<0.001"


def _flip_text(flip: Flip, model: str) -> Text:
    text = Text.assemble(
        "\n",
        (f"right in {flip.right.upper()} alone ({model}): ", "bold"),
        harmless(flip.question or flip.id),
        (f"   gold: {flip.gold}" if flip.gold is not None else "", "dim"),
    )
    for side, answer in (("A", flip.answer_a), ("B", flip.answer_b)):
        style = "green" if flip.right == side.lower() else "red"
        cut = (answer or "")[:_CUT] + ("…" if len(answer or "") > _CUT else "")
        text.append(f"\n{side} ", style)
        text.append_text(thinking_dimmed(cut))
    return text
