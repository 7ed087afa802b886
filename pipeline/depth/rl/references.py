"""The right answers of a step's groups, as tokens."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.depth.trainer_jobs import Reference
from pipeline.generate.chat import THINK_TAGS, Chat, load_chat
from pipeline.records import Prompt, group_names


class References:
    """Those of one model's tokenizer."""

    def __init__(self, model: Path) -> None:
        self._chat = load_chat(model)

    def of_step(self, batch: Sequence[Prompt]) -> Mapping[str, Reference]:
        """The reference of every group, by `pipeline.records.group_names`."""
        each = [reference_of(prompt, self._chat) for prompt in batch]
        return dict(zip(group_names(batch), each, strict=True))


def reference_of(prompt: Prompt, chat: Chat) -> Reference:
    """Empty where there is no gold, or where its tokens cannot be told from the tag before it."""
    close = THINK_TAGS[1]
    if prompt.answer is None:
        return Reference(answer=(), close=())
    tag, whole = chat.completions_ids([close, f"{close}{prompt.answer}"])
    if whole[: len(tag)] != tag:
        return Reference(answer=(), close=())
    return Reference(answer=(*whole[len(tag) :], chat.row_end), close=tuple(tag))
