"""Rows to fine-tune on: (question, completion) from prompts columns and harvests, rendered."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.artifacts import ArtifactError
from pipeline.generate.chat import Chat, load_chat, without_opening
from pipeline.generate.turns import training_texts
from pipeline.plan.stage_plan import StagePlan
from pipeline.prompts.conversations import is_conversation, turns_of
from pipeline.prompts.row_values import as_text
from pipeline.recipe.stage_base import Input
from pipeline.records import Message, Prompt
from pipeline.stages.context import RunContext
from pipeline.stages.support import named, prefaces, prompts_of

HARVEST_FILE = "rows.parquet"  # in a reject artifact: question, source, completion, lineage
WORKED = "worked"  # a column with the reasoning that leads to the answer


def write_rows(ctx: RunContext, plan: StagePlan, *, model: Path) -> Path:
    """The stage's rows rendered for `model`'s chat template, as a parquet file in `work`: `prompt`,
    `completion`, and in `further` the later turns of a conversation.

    Raises ValueError when there are none.
    """
    chat = load_chat(model)
    rows = [row for source in named(plan, "rows") for row in _rows(ctx, source, chat)]
    if not rows:
        sources = ", ".join(i.name for i in named(plan, "rows"))
        raise ValueError(f"{plan.name}: no rows to train on in {sources}")
    prompts, completions, further = zip(*((p, c, more) for p, c, *more in rows), strict=True)
    path = ctx.work / "rows.parquet"
    lists = pa.array(further, type=pa.list_(pa.string()))
    columns = {"prompt": pa.array(prompts), "completion": pa.array(completions), "further": lists}
    pq.write_table(pa.table(columns), path)
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


def _rows(ctx: RunContext, source: Input, chat: Chat) -> Iterator[list[str]]:
    """[prompt, completion, ...] of every row, as `training_texts` has them."""
    if source.column is None:
        yield from _harvested(ctx, source, chat)
        return
    preface = prefaces(ctx)[source.name]
    yield from column_rows(prompts_of(ctx, source.name), source.column, chat, preface=preface)


def column_rows(
    prompts: Iterable[Prompt], column: str, chat: Chat, *, preface: Sequence[Message]
) -> Iterator[list[str]]:
    """What a column of a prompts entry teaches: [prompt, completion, ...] of every row."""
    for prompt in prompts:
        value = prompt.columns.get(column)
        if is_conversation(value):
            where = f"prompt {prompt.id}: column {column!r}"
            turns = turns_of(value, where=where)
            yield from training_texts(chat, turns, preface=preface)
            continue
        text = chat.render(prompt.question, preface, prompt.context)
        yield [text, without_opening(text, completion_of(prompt, column))]


def _harvested(ctx: RunContext, source: Input, chat: Chat) -> Iterator[list[str]]:
    path = ctx.artifacts[source.name].path / HARVEST_FILE
    if not path.exists():
        raise ArtifactError(f"{path.parent} has no {HARVEST_FILE}; is it a reject stage?")
    for row in pq.read_table(path).to_pylist():
        context = json.loads(row.get("context", "[]"))
        text = chat.render(row["question"], prefaces(ctx)[row["source"]], context)
        yield [text, without_opening(text, row["completion"])]
