"""What members of a step's groups write where they write what their rows teach, as tokens."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.depth.bench import Bench
from pipeline.depth.trainer_jobs import Reference
from pipeline.generate.chat import THINK_TAGS, Chat, load_chat, without_opening
from pipeline.records import Message, Prompt, group_names
from pipeline.stages.support import prefaces
from pipeline.stages.training_rows import WORKED, completion_of


class References:
    """Those of one model's tokenizer, for prompts of the entry that the stage learns from."""

    def __init__(self, bench: Bench, model: Path) -> None:
        self._chat = load_chat(model)
        self._preface = prefaces(bench.ctx)[bench.spec.prompts]

    def of_step(self, batch: Sequence[Prompt]) -> Mapping[str, Reference]:
        """The reference of every group, by `pipeline.records.group_names`."""
        each = [reference_of(prompt, self._chat, preface=self._preface) for prompt in batch]
        return dict(zip(group_names(batch), each, strict=True))


def reference_of(prompt: Prompt, chat: Chat, *, preface: Sequence[Message]) -> Reference:
    """Empty where there is no gold, or where its tokens cannot be told from those before it."""
    close = THINK_TAGS[1]
    if prompt.answer is None:
        return Reference(reasoning=(), answer=(), close=())
    if isinstance(prompt.columns.get(WORKED), str):
        whole = completion_of(prompt, WORKED)
    else:
        whole = f"{close}{prompt.answer}"
    text = without_opening(chat.render(prompt.question, preface, prompt.context), whole)
    before, _, answer = text.partition(close)
    tag, up_to, all_of_it = chat.completions_ids([close, before + close, before + close + answer])
    if all_of_it[: len(up_to)] != up_to or up_to[-len(tag) :] != tag:
        return Reference(reasoning=(), answer=(), close=())
    return Reference(
        reasoning=tuple(up_to) if before else (),
        answer=(*all_of_it[len(up_to) :], chat.row_end),
        close=tuple(tag),
    )
