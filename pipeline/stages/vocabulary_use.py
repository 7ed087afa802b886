"""The base with a pruned vocabulary: which tokens the run's texts use, and the proof afterwards."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.artifacts import Artifact
from pipeline.errors import RunFailed
from pipeline.generate.chat import GUARD, THINK_TAGS, Chat, load_chat
from pipeline.models import model_calls
from pipeline.plan.stage_plan import Plan
from pipeline.plan.vocabulary import MARGIN_TOKENS, vocabulary_texts
from pipeline.records import Message, Prompt, read_prompts
from pipeline.stages.context import Cluster
from pipeline.stages.support import MODEL_FOLDER, PROMPTS_FILE
from pipeline.stages.training_rows import column_rows
from pipeline.train.token_rows import token_rows

VOCABULARY_FOLDER = "vocabulary"  # in the base's artifact: what gives a model all tokens again
CHUNK_ROWS = 1000  # rows encoded at once; the first of each text are encoded again as a proof
SAMPLE_ROWS, SAMPLE_TOKENS = 4, 512  # of each text, what lost probability is measured on

IdsOfRow = tuple[list[int], list[int]]
"""A row's prompt and the rest of it."""


@dataclass
class Use:
    """The tokens of texts, and some of their rows."""

    ids: set[int] = field(default_factory=set)
    sample: list[IdsOfRow] = field(default_factory=list)
    proof: list[Sequence[int]] = field(default_factory=list)


def prune_base(
    plan: Plan, draft: Path, full: Path, prompts: Mapping[str, Artifact], *, cluster: Cluster
) -> dict[str, Any]:
    """Make the model of an artifact's draft from the `full` one, which goes.

    Returns what the artifact says of it: tokens, of_tokens, lost_probability.
    """
    use = vocabulary_use(plan, prompts, load_chat(full))
    info = cluster.call(
        model_calls.prune,
        full,
        draft / MODEL_FOLDER,
        draft / VOCABULARY_FOLDER,
        used=sorted(use.ids),
        margin=MARGIN_TOKENS,
        sample=use.sample,
    )
    kept = info.pop("kept")
    again = vocabulary_use(plan, prompts, load_chat(draft / MODEL_FOLDER))
    if [[kept[id_] for id_ in ids] for ids in again.proof] != [list(ids) for ids in use.proof]:
        raise RunFailed(
            "model.vocabulary: with a pruned vocabulary the recipe's texts are other tokens than "
            "with the full one; leave vocabulary out for this model"
        )
    shutil.rmtree(full)
    return info


def pruning_text(info: Mapping[str, Any]) -> str:
    """What a pruned base's artifact says, in words."""
    text = f"pruned to {info['tokens']:,} of {info['of_tokens']:,} tokens"
    if "lost_probability" not in info:
        return text
    return (
        f"{text}; the others had {info['lost_probability']:.2%} of the probability after a token "
        f"of the recipe's own texts, {info['lost_probability_max']:.0%} at most"
    )


def vocabulary_use(plan: Plan, prompts: Mapping[str, Artifact], chat: Chat) -> Use:
    """What the texts of the recipe are made of: prompts and rows as stages render and encode them,
    with all that may end or surround them."""
    use = Use()
    for name, column in vocabulary_texts(plan.recipe):
        rows = read_prompts(prompts[name].path / PROMPTS_FILE)
        preface = plan.recipe.prompts[name].preface
        texts = _texts(rows, column, chat, preface=preface)
        first = True
        while chunk := list(islice(texts, CHUNK_ROWS)):
            ids = list(_ids(chat, chunk))
            use.ids.update(id_ for prompt, rest in ids for id_ in (*prompt, *rest))
            if first:
                use.proof += [[*prompt, *rest] for prompt, rest in ids]
                use.sample += [
                    (prompt[-SAMPLE_TOKENS:], rest[:SAMPLE_TOKENS])
                    for prompt, rest in ids[:SAMPLE_ROWS]
                ]
            first = False
    for text in (GUARD, *THINK_TAGS, *(tag + end for tag in THINK_TAGS for end in ("\n", "\n\n"))):
        use.ids.update(chat.tokenizer.encode(text, add_special_tokens=False))
    use.ids.update(chat.ends)
    return use


def _texts(
    prompts: Sequence[Prompt], column: str | None, chat: Chat, *, preface: Sequence[Message]
) -> Iterator[list[str]]:
    """[prompt, completion, ...]: of a column's rows, or of prompts and each of their golds."""
    if column is not None:
        yield from column_rows(prompts, column, chat, preface=preface)
        return
    for prompt in prompts:
        text = chat.render(prompt.question, preface, prompt.context)
        golds = prompt.golds or (prompt.answer or "",)
        yield from ([text, gold] for gold in golds)


def _ids(chat: Chat, rows: Sequence[Sequence[str]]) -> Iterator[IdsOfRow]:
    texts, completions = [row[0] for row in rows], [row[1] for row in rows]
    encoded = token_rows(
        chat, texts, completions, completion_only=True, further=[row[2:] for row in rows]
    )
    for row, prompt in zip(encoded, chat.prompts_ids(texts), strict=True):
        yield prompt, row.input_ids[len(prompt) :]
