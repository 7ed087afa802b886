"""What a chat template ends an assistant's turn with. Pure; loads no ML library."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

QUESTION, ANSWER, NEXT = "stepwellquestion", "stepwellanswer", "stepwellnext"

Message = Mapping[str, str]
Render = Callable[[Sequence[Message]], str]
"""Messages to the text of their conversation, without a generation prompt."""


@dataclass(frozen=True, kw_only=True)
class TurnEnd:
    """The text that ends a turn, "" where the template writes none, and whether one token is it."""

    text: str
    is_token: bool


def turn_end_of(render: Render, *, tokens: Iterable[str], ends: Collection[str]) -> TurnEnd:
    """What follows an assistant's words: a token of its own, or plain text.

    A template may leave a turn open and begin the next one with an end token (GLM's `<|user|>`):
    then that one is it.

    Args:
        tokens: the texts of the tokenizer's added tokens.
        ends: those that end a completion already.
    """
    turns = [_message("user", QUESTION), _message("assistant", ANSWER)]
    added = one_of(tokens)
    after = render(turns).rpartition(ANSWER)[2]
    if (token := added.search(after)) is not None:
        return TurnEnd(text=token[0], is_token=True)
    if after.strip():
        return TurnEnd(text=after.strip(), is_token=False)
    longer = render([*turns, _message("user", NEXT)])
    token = added.search(longer.rpartition(ANSWER)[2].partition(NEXT)[0])
    if token is not None and token[0] in ends:
        return TurnEnd(text=token[0], is_token=True)
    return TurnEnd(text="", is_token=False)


def turn_end_in(tokenizer: Any, *, ends: Collection[int]) -> TurnEnd:
    """What a tokenizer's chat template ends a turn with; nothing without a template, or with one
    that cannot show an answer. `ends` are the tokens that end a completion already."""
    if tokenizer.chat_template is None:
        return TurnEnd(text="", is_token=False)
    texts = {id_: str(token) for id_, token in tokenizer.added_tokens_decoder.items()}
    try:
        return turn_end_of(
            lambda turns: tokenizer.apply_chat_template(list(turns), tokenize=False),
            tokens=texts.values(),
            ends={texts[end] for end in ends if end in texts},
        )
    except TemplateError:
        return TurnEnd(text="", is_token=False)


def one_of(texts: Iterable[str]) -> re.Pattern[str]:
    """A pattern for any of the texts, longer ones first; without any it matches nothing."""
    longest_first = sorted({text for text in texts if text.strip()}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}
