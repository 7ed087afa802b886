"""Rows of files that a model's chat template refuses, and rows that teach no answer.

Loads no ML library.
"""

from collections.abc import Iterator, Mapping, Sequence

from pipeline.models.model_texts import ModelTexts, TemplateFault, source_texts
from pipeline.prompts.conversations import is_conversation, said, turns_of
from pipeline.prompts.entries import source_prompts
from pipeline.prompts.findings import golds_of, place_of
from pipeline.prompts.prompt_error import PromptError
from pipeline.recipe.model_source import ModelSource
from pipeline.recipe.schema import Recipe, Stage
from pipeline.recipe.stage_base import Input
from pipeline.records import Message, Prompt

HOLDS_GOLD = ("worked", "answer")
"""Columns whose rows end with the gold whatever they say."""


def turn_mistakes(recipe: Recipe, key: str, source: ModelSource) -> Iterator[str]:
    """Entries of files with turns that the chat template of a model refuses: one line for each kind
    of row, which is its sequence of roles."""
    texts = source_texts(source)
    if texts is None:
        return
    for item in _readers(recipe, key):
        if recipe.prompts[item.name].file is None:
            continue
        try:
            prompts = source_prompts(recipe, item.name)
            kinds = rows_by_roles(prompts, item.column)
        except PromptError:  # the entry's own check says it
            continue
        for rows in kinds.values():
            fault = _refusal(texts, rows[0][1], source.chat_template)
            if fault is not None:
                roles = ", ".join(turn["role"] for turn in rows[0][1])
                yield (
                    f"prompts.{item.name}: {place_of(rows[0][0])}: the chat template of {key} "
                    f"({source.place}) refuses its turns ({roles}): {fault}; so it is with "
                    f"{len(rows):,} of {len(prompts):,} rows; correct or remove them, or give "
                    f"{key}.chat_template"
                )


def target_notes(recipe: Recipe, entries: Mapping[str, Sequence[Prompt]]) -> Iterator[str]:
    """Stages that fine-tune on a column in which most rows lack their gold."""
    for name, stage in recipe.stages.items():
        for item in stage.inputs():
            if item.role != "rows" or item.column in (None, *HOLDS_GOLD):
                continue
            rows = [
                (prompt, text)
                for prompt in entries.get(item.name, ())
                if prompt.answer is not None
                and isinstance(text := prompt.columns.get(item.column or ""), str)
            ]
            without = [prompt for prompt, text in rows if not _holds(text, golds_of(prompt))]
            if 2 * len(without) > len(rows):
                yield (
                    f"stages.{name}.rows: in {len(without):,} of {len(rows):,} rows "
                    f"{item.name}.{item.column} does not hold the gold answer, such as "
                    f"{place_of(without[0])}: a model trained on it gives no answer that a reward "
                    f"can read; name a column that ends with it, or map it to worked, which is "
                    f"followed by the gold: columns: {{worked: {item.column}}}"
                )


def _readers(recipe: Recipe, key: str) -> list[Input]:
    """What stages that begin from this model read of prompts entries, each once."""
    stages: list[Stage] = [
        stage
        for name, stage in recipe.stages.items()
        if (any(key == f"stages.{name}.{own}" for own in stage.own_models))
        or (key == "model" and not stage.own_models)
    ]
    items = [item for stage in stages for item in stage.inputs() if item.name in recipe.prompts]
    return list({(item.name, item.column): item for item in items}.values())


def rows_by_roles(
    prompts: Sequence[Prompt], column: str | None
) -> dict[tuple[str, ...], list[tuple[Prompt, list[Message]]]]:
    """Rows with the turns that a model reads of them, by their roles."""
    kinds: dict[tuple[str, ...], list[tuple[Prompt, list[Message]]]] = {}
    for prompt in prompts:
        turns = _read_turns(prompt, column)
        kinds.setdefault(tuple(turn["role"] for turn in turns), []).append((prompt, turns))
    return kinds


def _read_turns(prompt: Prompt, column: str | None) -> list[Message]:
    """The turns before the last answer."""
    value = prompt.columns.get(column or "")
    if not is_conversation(value):
        return [*prompt.context, {"role": "user", "content": prompt.question}]
    turns = [*said(turns_of(value, where=place_of(prompt)))]
    return turns[:-1] if turns and turns[-1]["role"] == "assistant" else turns


def _refusal(
    texts: ModelTexts, turns: Sequence[Message], template: str | None
) -> TemplateFault | None:
    try:
        texts.render(turns, template)
    except TemplateFault as fault:
        return fault
    return None


def _holds(text: str, golds: Sequence[str]) -> bool:
    return any(_bare(gold) in _bare(text) for gold in golds)


def _bare(text: str) -> str:
    return "".join(text.replace(",", "").split()).casefold()
