"""A conversation as training texts: every answer after what the model reads when it writes it."""

from collections.abc import Sequence

from pipeline.generate.chat import Chat, without_opening
from pipeline.prompts.conversations import is_taught, said
from pipeline.records import Message


def training_texts(
    chat: Chat, turns: Sequence[Message], *, preface: Sequence[Message]
) -> list[list[str]]:
    """Rows of texts by turns without and with loss: prompt, answer, what stands before the next
    answer, that answer, ...

    All answers that follow a user's turn are in one row where the model, asked for the last one,
    reads exactly the tokens of those before. Where it does not (a template that drops the reasoning
    of earlier turns, a tokenizer that splits an answer anew, no template at all), each answer is a
    row of its own. An answer that is not to be learned stands before those that are. A turn's end
    is no part of the texts.
    """
    pairs = [
        (chat.render(asked["content"], preface, said(turns[:place])), answer["content"])
        for place, (asked, answer) in enumerate(zip(turns, turns[1:], strict=False))
        if (asked["role"], answer["role"]) == ("user", "assistant") and is_taught(answer)
    ]
    rows = [[prompt, without_opening(prompt, answer)] for prompt, answer in pairs]
    return [whole] if (whole := _in_one(chat, rows)) else rows


def _in_one(chat: Chat, rows: Sequence[Sequence[str]]) -> list[str] | None:
    """The texts of all (prompt, answer) in one row; None where that shows the model other tokens
    than it reads."""
    if len(rows) < 2 or not _ends_alike(chat):
        return None
    texts: list[str] = []
    tokens: list[int] = []
    before = ""
    for prompt, answer in rows:
        read = list(chat.prompt_ids(prompt))
        between = prompt.removeprefix(before)
        part = chat.continuations_ids([between])[0] if texts else read
        if not prompt.startswith(before) or [*tokens, *part] != read:
            return None
        tokens = [*read, *chat.completions_ids([answer])[0], chat.row_end]
        texts += [between, answer]
        before = prompt + chat.as_history(answer) + chat.turn_end.text
    return texts


def _ends_alike(chat: Chat) -> bool:
    """Whether the token that the model ends with is what the template ends a turn with."""
    end = chat.turn_end
    return end.is_token and chat.row_end == chat.tokenizer.convert_tokens_to_ids(end.text)
