"""Rows to fine-tune on: (question, completion) from prompts columns and harvests, rendered."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.artifacts import ArtifactError
from pipeline.generate.chat import load_chat, without_opening
from pipeline.plan.stage_plan import StagePlan
from pipeline.prompts.row_values import as_text
from pipeline.recipe.stage_base import Input
from pipeline.records import Prompt
from pipeline.stages.context import RunContext
from pipeline.stages.support import named, prompts_of, systems

HARVEST_FILE = "rows.parquet"  # in a reject artifact: question, source, completion, lineage
WORKED = "worked"  # a column with the reasoning that leads to the answer


@dataclass(frozen=True, kw_only=True)
class Row:
    """One example before rendering. `source` names the prompts entry it came from."""

    question: str
    completion: str
    source: str


def write_rows(ctx: RunContext, plan: StagePlan, *, model: Path) -> Path:
    """The stage's rows rendered for `model`'s chat template, as a parquet file in `work`.

    Raises ValueError when there are none.
    """
    chat = load_chat(model)
    system = systems(ctx)
    rows = [row for i in named(plan, "rows") for row in _rows(ctx, i)]
    if not rows:
        sources = ", ".join(i.name for i in named(plan, "rows"))
        raise ValueError(f"{plan.name}: no rows to train on in {sources}")
    prompts = [chat.render(row.question, system[row.source]) for row in rows]
    completions = [
        without_opening(prompt, row.completion) for prompt, row in zip(prompts, rows, strict=True)
    ]
    path = ctx.work / "rows.parquet"
    pq.write_table(pa.table({"prompt": prompts, "completion": completions}), path)
    return path


def completion_of(prompt: Prompt, column: str) -> str:
    """What a prompts row teaches: its reasoning in think tags and the answer, or one column.

    Raises KeyError naming the columns the row has, PromptError for a value that is no text.
    """
    known: Mapping[str, Any] = {"answer": prompt.answer, **prompt.columns}
    if known.get(column) is None:
        raise KeyError(f"column {column!r} is not in prompt {prompt.id}; it has {sorted(known)}")
    if known[column] == "" and column == WORKED:  # a problem without steps
        return f"<think></think>{prompt.answer}"
    text = as_text(known[column], where=f"prompt {prompt.id}", column=column)
    return f"<think>{text}</think>{prompt.answer}" if column == WORKED else text


def _rows(ctx: RunContext, source: Input) -> Iterator[Row]:
    if source.column is not None:
        for prompt in prompts_of(ctx, source.name):
            completion = completion_of(prompt, source.column)
            yield Row(question=prompt.question, completion=completion, source=source.name)
        return
    path = ctx.artifacts[source.name].path / HARVEST_FILE
    if not path.exists():
        raise ArtifactError(f"{path.parent} has no {HARVEST_FILE}; is it a reject stage?")
    for row in pq.read_table(path, columns=["question", "completion", "source"]).to_pylist():
        yield Row(**row)
