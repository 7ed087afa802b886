"""A plan for people, on one screen, and as a document for programs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from pipeline.measure.drops import drop_rows
from pipeline.plan.batches import batch_of
from pipeline.plan.data_notes import DataNotes
from pipeline.plan.estimate import Estimate, StageEstimate, estimate
from pipeline.plan.measured import Measured
from pipeline.plan.notes import notes_of
from pipeline.plan.placement import shares_gpus
from pipeline.plan.stage_plan import Plan, StagePlan
from pipeline.plan.time_left import in_words
from pipeline.recipe.hardware import DEEPSPEED
from pipeline.recipe.model_source import ModelSource
from pipeline.recipe.places import shipped_place
from pipeline.watch.memory_view import layouts_document, memory_document, memory_lines
from pipeline.watch.terminal import StandardOutput

COLUMNS = ("stage", "kind", "reads", "batch", "tokens", "GiB/rank", "hours")
RIGHT = ("tokens", "GiB/rank", "hours")


@dataclass(frozen=True, kw_only=True)
class PlanText:
    """A plan for people: lines, a row of COLUMNS a stage, and lines below them."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    tail: Sequence[str]

    def __str__(self) -> str:
        return "\n".join([*self.head, _lines(self.rows), *self.tail])


def plan_document(
    plan: Plan,
    data: DataNotes,
    *,
    matmul_gflops: float | None = None,
    measured: Measured | None = None,
) -> dict[str, Any]:
    """What `stepwell plan --json` prints. `matmul_gflops`: of one CPU thread; default: assumed.
    `measured`: a probe's rates."""
    guess = estimate(
        plan.recipe, device=plan.device, matmul_gflops=matmul_gflops, measured=measured
    )
    estimates = {stage.name: stage for stage in guess.stages}
    return {
        "name": plan.recipe.name,
        "seed": plan.recipe.seed,
        "device": plan.device,
        "placement": placement(plan),
        "notes": [*notes_of(plan.recipe), *data.targets],
        "findings": [finding.document() for finding in data.findings],
        "dropped": drop_rows(data.drops),
        "stages": [
            {
                "name": stage.name,
                "kind": stage.kind,
                "inputs": [asdict(item) for item in stage.inputs],
                "batch": batch_text(stage, ranks=plan.recipe.hardware.ranks),
                "seed": stage.seed,
                "fingerprint": stage.fingerprint,
                "estimate": _numbers(estimates[stage.name]),
            }
            for stage in plan.stages
        ],
        "estimate": {
            "hours": guess.hours,
            "gpus": guess.gpus,
            "dollars": guess.dollars,
            "disk_gib": guess.disk_gib,
            "layouts": layouts_document(plan, guess),
            "assumptions": list(guess.assumptions),
            "measured": None if measured is None else measured.document(),
        },
    }


def show_plan(
    plan: Plan,
    data: DataNotes,
    *,
    would_run: Sequence[str] | None = None,
    matmul_gflops: float | None = None,
    measured: Measured | None = None,
) -> None:
    """Print a plan on standard output: a table on a terminal, plain lines elsewhere."""
    text = plan_text(
        plan, data, would_run=would_run, matmul_gflops=matmul_gflops, measured=measured
    )
    terminal = StandardOutput()
    for line in text.head:
        print(line)
    if terminal.is_terminal:
        terminal.print(_table(text.rows))
    else:
        print(_lines(text.rows))
    for line in text.tail:
        print(line)


def plan_text(
    plan: Plan,
    data: DataNotes,
    *,
    would_run: Sequence[str] | None = None,
    matmul_gflops: float | None = None,
    measured: Measured | None = None,
) -> PlanText:
    """What is said of a plan; the arguments are as for `show_plan`."""
    guess = estimate(
        plan.recipe, device=plan.device, matmul_gflops=matmul_gflops, measured=measured
    )
    estimates = {stage.name: stage for stage in guess.stages}
    sampling = [s for s in plan.stages if s.spec.uses_engines and s.spec.batch_text]
    ranks = plan.recipe.hardware.ranks
    todo = f"would run: {', '.join(would_run or ()) or 'nothing; every stage is finished'}"
    return PlanText(
        head=(
            f"{plan.recipe.name}: {model_text(plan.recipe.model)}, seed {plan.recipe.seed}",
            placement(plan),
        ),
        rows=tuple(_row(plan, stage, estimates[stage.name]) for stage in plan.stages),
        tail=(
            *(
                f"{s.name}: {batch_text(s, ranks=ranks)}{_scorer_text(estimates[s.name])}"
                for s in sampling
            ),
            *memory_lines(plan, guess),
            *(f"note: {note}" for note in notes_of(plan.recipe)),
            *data.sentences,
            _total(guess, measured=measured is not None),
            *(f"  measured: {text}" for text in (measured.sentences if measured else ())),
            *(f"  assumed: {text}" for text in guess.assumptions),
            *(() if would_run is None else (todo,)),
        ),
    )


def batch_text(stage: StagePlan, *, ranks: int) -> str:
    """The batch arithmetic of one stage in words; empty for a stage without optimizer steps."""
    text = stage.spec.batch_text
    batch = batch_of(stage.spec, ranks=ranks)
    if batch is None:
        return text
    split = f"{batch.ranks} rank(s) x {batch.micro_rows} rows x {batch.accumulation} accumulated"
    return f"{text}; {split}"


def _scorer_text(guess: StageEstimate) -> str:
    memory = guess.scorer_gib
    return "" if memory is None else f"; its reward model: {memory:.3g} GiB beside the engines"


def placement(plan: Plan) -> str:
    """Which processes run where."""
    hardware = plan.recipe.hardware
    maker = "DeepSpeed " if hardware.sharding in DEEPSPEED else ""
    sharding = "" if hardware.sharding == "none" else f", {maker}{hardware.sharding}"
    if plan.device == "cuda":
        trainer, engine = "GPU each", f"{hardware.gpus_per_engine} GPU each"
        if shares_gpus(hardware, device=plan.device):
            engine = "on the same GPUs by turns"
        reader = "1 GPU"
    else:
        trainer = f"{hardware.rank_threads} CPU thread(s) each"
        engine = f"{hardware.engine_threads} CPU thread(s) each"
        reader = f"{hardware.engine_threads} CPU thread(s)"
    scorer = f"1 scorer, {reader}; " if plan.recipe.has_reward_model else ""
    return (
        f"placement on {plan.device}: {hardware.ranks} trainer(s), {trainer}{sharding}; "
        f"{hardware.engines} engine(s), {engine}; {scorer}{hardware.verifier_workers} verifier(s)"
    )


def model_text(source: ModelSource) -> str:
    """A model source in a few words."""
    if source.scratch is not None:
        new = source.scratch
        layers = (
            f"{new.layers}-layer"
            if new.core is None
            else f"recurrent {new.prelude}/{new.core}/{new.coda}-layer, {new.iterations}-iteration"
        )
        return f"new {layers} model of width {new.hidden}"
    named = _short_path(source.path or source.gguf) or source.hub
    copied = f", {source.split_iterations - 1} more of it" if source.copy_core else ""
    core = f", core {source.split[1]} of {sum(source.split)} layers{copied}" if source.split else ""
    return f"{named}{core}"


def _short_path(text: str | None) -> str | None:
    """A path from the current folder, where it lies in it; `data/...` of what ships."""
    here = Path.cwd()
    if text and Path(text).is_relative_to(here):
        return str(Path(text).relative_to(here))
    return text and (shipped_place(text) or text)


def _row(plan: Plan, stage: StagePlan, guess: StageEstimate) -> tuple[str, ...]:
    reads = dict.fromkeys(
        f"{item.name}.{item.column}" if item.column else item.name
        for item in stage.inputs
        if item.role != "watch"
    )
    tokens = guess.generated_tokens + guess.trained_tokens
    return (
        stage.name,
        stage.kind,
        ", ".join(reads),
        stage.spec.short_batch,
        _count(tokens) if tokens else "",
        "" if guess.memory_gib is None else f"{guess.memory_gib:.3g}",
        "?" if guess.hours is None else f"{guess.hours:.2g}" if guess.hours else "",
    )


def _total(guess: Estimate, *, measured: bool) -> str:
    if guess.hours is None:
        return "estimate: unknown, as the model's size cannot be told before it is loaded"
    gpus = f" on {guess.gpus} GPU(s)" if guess.gpus else ""
    cost = f", {guess.dollars:,.0f} dollars" if guess.dollars is not None else ""
    disk = f", {guess.disk_gib:.2g} GiB of disk" if guess.disk_gib is not None else ""
    what = "estimate from measured rates" if measured else "estimate, not a measurement"
    return f"{what}: {in_words(guess.hours * 3600)}{gpus}{cost}{disk}"


def _numbers(guess: StageEstimate) -> dict[str, Any]:
    numbers = {
        key: value
        for key, value in vars(guess).items()
        if key not in ("name", "kind", "rank", "engine", "seconds")
    }
    seconds = None if guess.seconds is None else asdict(guess.seconds)
    return {**numbers, "seconds": seconds, "memory": memory_document(guess)}


def _count(number: float) -> str:
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return f"{number:.0f}"


def _table(rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in COLUMNS:
        table.add_column(name, justify="right" if name in RIGHT else "left")
    for row in rows:
        table.add_row(*row)
    return table


def _lines(rows: Sequence[Sequence[str]]) -> str:
    """The same table in plain text."""
    cells = [COLUMNS, *rows]
    widths = [max(len(row[index]) for row in cells) for index in range(len(COLUMNS))]
    lines = [
        "  ".join(
            text.rjust(width) if name in RIGHT else text.ljust(width)
            for name, text, width in zip(COLUMNS, row, widths, strict=True)
        ).rstrip()
        for row in cells
    ]
    return "\n".join(lines)
