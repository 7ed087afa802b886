"""All files of a run that hold rollouts, and which of their rollouts a page takes."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.artifacts import MANIFEST, published
from pipeline.stages.support import MODEL_FOLDER
from pipeline.watch.rollout_log import steps_of
from pipeline.watch.run_reading import RunReadError, json_of

HARVEST = "rollouts.parquet"


@dataclass(frozen=True, kw_only=True)
class RolloutFile:
    """One file of rollouts."""

    path: Path
    source: str  # a stage; of an evaluation also the model: "report: align"
    step: int | None  # of a GRPO stage
    tokenizer: Path  # the tokenizer.json of the model that wrote; may be missing


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which prompts' rollouts are taken; None: all."""

    prompts: frozenset[str] | None
    taken: int  # rollouts
    total: int
    of_prompts: int  # prompts that the run has rollouts of


def rollout_files(run_dir: Path, stages: Sequence[str]) -> list[RolloutFile]:
    """The journaled steps, harvests and evaluations of a run, in the order of its stages."""
    finished = {path.name: path for path in published(run_dir / "stages")}
    files: list[RolloutFile] = []
    for name in dict.fromkeys([*stages, *finished]):
        tokenizer = _tokenizer(run_dir, name)
        files += [
            RolloutFile(path=path, source=name, step=step, tokenizer=tokenizer)
            for step, path in steps_of(run_dir, name).items()
        ]
        folder = finished.get(name)
        if folder is None:
            continue
        if (folder / HARVEST).is_file():
            files.append(
                RolloutFile(path=folder / HARVEST, source=name, step=None, tokenizer=tokenizer)
            )
        for row in (json_of(folder / MANIFEST)["info"] or {}).get("results", ()):
            path = folder / f"{row['model']}.parquet"
            if path.is_file():
                files.append(
                    RolloutFile(
                        path=path,
                        source=f"{name}: {row['model']}",
                        step=None,
                        tokenizer=_tokenizer(run_dir, row["model"]),
                    )
                )
    return files


def choose(files: Iterable[RolloutFile], *, most: int, most_tokens: int) -> Choice:
    """The rollouts of whole prompts, drawn by a hash of their ids, until there are `most` rollouts
    or `most_tokens` tokens: so a prompt is there with all that was written on it."""
    counts: dict[str, int] = {}
    tokens: dict[str, int] = {}
    for file in files:
        table = read_columns(file.path, ("prompt_id", "tokens"))
        lengths = list_lengths(table["tokens"])
        for prompt, length in zip(table["prompt_id"].to_pylist(), lengths.tolist(), strict=True):
            counts[prompt] = counts.get(prompt, 0) + 1
            tokens[prompt] = tokens.get(prompt, 0) + length
    total = sum(counts.values())
    if total <= most and sum(tokens.values()) <= most_tokens:
        return Choice(prompts=None, taken=total, total=total, of_prompts=len(counts))
    taken, rollouts, written = [], 0, 0
    for prompt in sorted(counts, key=_drawn):
        rollouts, written = rollouts + counts[prompt], written + tokens[prompt]
        if taken and (rollouts > most or written > most_tokens):
            break
        taken.append(prompt)
    return Choice(
        prompts=frozenset(taken),
        taken=sum(counts[prompt] for prompt in taken),
        total=total,
        of_prompts=len(counts),
    )


def chosen_rows(file: RolloutFile, choice: Choice, columns: Sequence[str]) -> pa.Table:
    """The rollouts of a file that were chosen, in their order."""
    table = read_columns(file.path, columns)
    if choice.prompts is None:
        return table
    taken = [prompt in choice.prompts for prompt in table["prompt_id"].to_pylist()]
    return table.filter(pa.array(taken, type=pa.bool_()))


def read_columns(path: Path, columns: Sequence[str]) -> pa.Table:
    """Those of the columns that a file has. Raises RunReadError where it cannot be read."""
    try:
        file = pq.ParquetFile(path)
        there = [name for name in columns if name in file.schema_arrow.names]
        return file.read(columns=there)
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise RunReadError(
            f"{path} cannot be read: {error}; `stepwell verify` says what else is damaged"
        ) from None


def list_lengths(column: pa.ChunkedArray) -> np.ndarray:
    """[N] lengths of a column's lists; 0 where there is none."""
    lengths = [np.diff(chunk.offsets.to_numpy()) for chunk in column.chunks]
    return np.concatenate(lengths) if lengths else np.zeros(0, dtype=int)


def _tokenizer(run_dir: Path, name: str) -> Path:
    own = run_dir / "stages" / name / MODEL_FOLDER / "tokenizer.json"
    return own if own.is_file() else run_dir / "inputs" / "base" / MODEL_FOLDER / "tokenizer.json"


def _drawn(prompt: str) -> str:
    return hashlib.sha256(prompt.encode()).hexdigest()


def note_of(choice: Choice) -> str:
    """What a page says of its choice."""
    if choice.prompts is None:
        return f"all {choice.total:,} rollouts"
    return (
        f"{choice.taken:,} of {choice.total:,} rollouts: all of {len(choice.prompts):,} prompts, "
        f"drawn at random from {choice.of_prompts:,}"
    )
