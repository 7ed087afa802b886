"""Conversations as people store them -> turns with `role` and `content`.

OpenAI's messages (`role`, `content`), ShareGPT's (`from`, `value`), contents in parts
(`[{"type": "text", "text": ...}]`), columns of roles and of contents, and all of them written as
text in a column (CSV files have them so) are read. An answer that its row marks as none to learn
(OpenAI's and SlimOrca's `weight: 0`, axolotl's `train: false`) is read and not trained on. Tools
are not read, nor is reasoning apart from the content.
"""

import ast
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.prompts.prompt_error import PromptError
from pipeline.recipe.recipe_errors import did_you_mean
from pipeline.records import Message

COLUMNS = ("messages", "conversations", "conversation", "prompt")
"""Where rows have their conversation when the recipe does not say."""

ROLES: Mapping[str, str] = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bot", "model"), "assistant"),
}
_ROLE_KEYS, _CONTENT_KEYS = ("role", "from"), ("content", "value")
_WEIGHT, _UNTAUGHT = "weight", "0"  # of a turn that is not learned, in our own form
_TRAIN_KEYS = ("train", "training")
_APART = {
    **dict.fromkeys(("reasoning_content", "reasoning", "thinking"), "<think>...</think>"),
    **dict.fromkeys(("train_detail", "training_detail"), "whole turns"),
}
"""Keys of an answer that change what it teaches, and what the content takes in their place."""


def in_own_form(value: Any) -> Any:
    """The turns that a text holds, as JSON or as Python prints them; any other value as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith("[{"):
        return value
    for reader in (json.loads, ast.literal_eval):
        try:
            turns = reader(value.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):  # the text is a text
            continue
        return turns if is_conversation(turns) else value
    return value


def said(turns: Iterable[Message]) -> tuple[Message, ...]:
    """The turns as a model reads them: role and content alone."""
    return tuple({"role": turn["role"], "content": turn["content"]} for turn in turns)


def is_taught(turn: Message) -> bool:
    """Whether an answer is one to learn from."""
    return turn.get(_WEIGHT) != _UNTAUGHT


def is_conversation(value: Any) -> bool:
    """Whether a value is a list of turns, or columns of roles and of contents."""
    if isinstance(value, Mapping):
        lists = [value.get(key) for key in (*_ROLE_KEYS, *_CONTENT_KEYS) if key in value]
        return len(lists) == 2 and all(isinstance(one, list) for one in lists)
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(turn, Mapping) for turn in value)
        and any(key in value[0] for key in _ROLE_KEYS)
    )


def turns_of(value: Any, *, where: str) -> list[Message]:
    """The turns of a conversation, without system messages that are empty; `weight` "0" marks an
    answer that is not learned.

    Raises PromptError naming the turn that is none, uses tools, or has its reasoning apart.
    """
    if isinstance(value, Mapping):
        columns = zip(*value.values(), strict=False)
        value = [dict(zip(value, turn, strict=True)) for turn in columns]
    turns = [_turn(turn, where=f"{where}, turn {n}") for n, turn in enumerate(value, start=1)]
    return [turn for turn in turns if turn["content"]]


def question_in(
    turns: Sequence[Message], *, where: str
) -> tuple[tuple[Message, ...], str, str | None]:
    """(turns before the question, the last user turn, the assistant's answer to it if any).

    Raises PromptError where no user turn is followed by nothing or by one answer.
    """
    asked = [place for place, turn in enumerate(turns) if turn["role"] == "user"]
    if not asked:
        raise PromptError(f"{where}: no turn is the user's; add one, or remove the row")
    last = asked[-1]
    after = turns[last + 1 :]
    if len(after) > 1 or any(turn["role"] != "assistant" for turn in after):
        roles = ", ".join(turn["role"] for turn in after)
        raise PromptError(
            f"{where}: after the last user turn come {roles}; end the conversation with it, or "
            "with one answer of the assistant"
        )
    return said(turns[:last]), turns[last]["content"], after[0]["content"] if after else None


def _turn(turn: Any, *, where: str) -> Message:
    if not isinstance(turn, Mapping):
        raise PromptError(f"{where}: no object with role and content; correct or remove the row")
    name = next((turn[key] for key in _ROLE_KEYS if key in turn), None)
    if not isinstance(name, str) or name.lower() not in ROLES:
        guess = did_you_mean(str(name), ROLES)
        raise PromptError(
            f"{where}: the role {name!r} is not read{guess} (system, user and assistant are; tools "
            "are not); correct or remove the row"
        )
    role = ROLES[name.lower()]
    if turn.get("tool_calls") or turn.get("function_call"):
        raise PromptError(f"{where}: turns that call tools are not read; remove the row")
    for key, instead in _APART.items() if role == "assistant" else ():
        if turn.get(key):
            raise PromptError(
                f"{where}: its {key} would not be read; write content with {instead}, or remove "
                "the key"
            )
    content = _content(next((turn[key] for key in _CONTENT_KEYS if key in turn), None))
    if content is None:
        raise PromptError(f"{where}: its content is no text; correct or remove the row")
    if not content.strip() and role != "system":
        raise PromptError(f"{where}: its content is empty; fill it or remove the row")
    untaught = role == "assistant" and _is_untaught(turn)
    mark = {_WEIGHT: _UNTAUGHT} if untaught else {}
    return {"role": role, "content": content if content.strip() else "", **mark}


def _is_untaught(turn: Mapping[str, Any]) -> bool:
    weight = turn.get(_WEIGHT)
    return weight in (0, _UNTAUGHT) or any(turn.get(key) is False for key in _TRAIN_KEYS)


def _content(value: Any) -> str | None:
    """A turn's text; None where there is anything but text."""
    if isinstance(value, list):
        parts = [part.get("text") if isinstance(part, Mapping) else part for part in value]
        texts = [part for part in parts if isinstance(part, str)]
        return "".join(texts) if len(texts) == len(parts) else None
    return value if isinstance(value, str) else None
