"""`stepwell export`: the command; `pipeline.use` does the work."""

import shutil
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pipeline.cli.answer import Answer, Json
from pipeline.errors import UsageError

RepoType = Literal["model", "dataset"]


def export(
    run_dir: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run folder; for --gguf also a model's.")
    ],
    to: Annotated[Path | None, typer.Option("--to", help="Write to this new folder.")] = None,
    gguf: Annotated[
        str | None, typer.Option(metavar="f32|f16", help="Write a dense model as a GGUF file.")
    ] = None,
    rows: Annotated[
        str | None,
        typer.Option(metavar="STAGE", help="Write a reject stage's rows as a data set."),
    ] = None,
    push: Annotated[
        str | None, typer.Option(metavar="ID", help="Upload to this repository of the hub.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --push: show what would be uploaded.")
    ] = False,
    as_json: Json = False,
) -> Answer:
    """Say where a run's exported model is, or copy it; or write it as GGUF, or a harvest as a data
    set; and upload what was written."""
    if gguf is not None and rows is not None:
        raise UsageError("give one of --gguf and --rows")
    if dry_run and push is None:
        raise UsageError("--dry-run shows what --push would upload: give --push ID too")
    if to is not None and to.exists():
        raise UsageError(f"--to {to}: exists already; name a new folder")
    kind: RepoType = "model"
    if rows is not None:
        if to is None:
            raise UsageError("--rows writes a folder: say where with --to")
        folder, document, lines = _rows(run_dir, rows, to)
        kind = "dataset"
    elif gguf is not None:
        if to is None:
            raise UsageError("--gguf writes a folder: say where with --to")
        folder, document, lines = _gguf(run_dir, gguf, to)
    else:
        folder, document = _model(run_dir, to)
        lines = [str(folder)]
    if push is not None:
        pushed, more = _pushed(push, folder, kind=kind, dry_run=dry_run)
        document, lines = {**document, "push": pushed}, [*lines, *more]
    return Answer(document=document, show=lambda: print("\n".join(lines)))


def _model(run_dir: Path, to: Path | None) -> tuple[Path, dict[str, Any]]:
    from pipeline.artifacts import open_artifact, published

    finished = map(open_artifact, published(run_dir / "stages"))
    exports = [artifact for artifact in finished if artifact.manifest.kind == "export"]
    if not exports:
        raise UsageError(
            f"{run_dir} has no finished export stage; add `export: {{kind: export, model: X}}` to "
            "the recipe's stages and run it again: what is finished is not repeated"
        )
    folder = exports[-1].path / "model"
    if to is not None:
        shutil.copytree(folder, to)
    return to or folder, {"model": str(to or folder), "stage": exports[-1].manifest.stage}


def _gguf(run_dir: Path, dtype: str, to: Path) -> tuple[Path, dict[str, Any], list[str]]:
    if dtype not in ("f32", "f16"):
        raise UsageError(f"--gguf {dtype}: write f32 or f16")
    from pipeline.use.gguf_folder import write_gguf_folder
    from pipeline.use.model_place import model_place

    place = model_place(str(run_dir))
    if place.folder is None:
        raise UsageError(f"{run_dir} is no folder with a model")
    written = write_gguf_folder(place.folder, to, dtype="f32" if dtype == "f32" else "f16")
    lines = [
        f"{written.file} ({place.words}; read again, its logits differ by {written.gap:.1g})",
        f"{written.modelfile}",
    ]
    return to, {"gguf": str(written.file), "gap": written.gap, "model": place.words}, lines


def _rows(run_dir: Path, stage: str, to: Path) -> tuple[Path, dict[str, Any], list[str]]:
    from pipeline.use.rows_export import export_rows

    written = export_rows(run_dir, stage, to)
    lines = [f"{to}: {written.rows:,} of {written.harvested:,} rows"]
    lines += [f"left out: {n:,} that {name} has too" for name, n in written.dropped.items()]
    return to, written.document(), lines


def _pushed(
    repo: str, folder: Path, *, kind: RepoType, dry_run: bool
) -> tuple[dict[str, Any], list[str]]:
    from pipeline.use.push import Push

    push = Push.to(repo, folder, kind=kind)
    if dry_run:
        return push.document(), ["would upload to the", *push.lines()]
    address = push.run()
    return {**push.document(), "address": address}, [address]
