"""A model folder's chat template and end tokens, read from its files. Loads no ML library."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pipeline.errors import WrongInput
from pipeline.models.stored_files import json_object
from pipeline.models.turn_end import Message, TurnEnd, turn_end_of
from pipeline.recipe.model_source import ModelSource


class TemplateFault(WrongInput):
    """A chat template is wrong, or refuses what it is given."""


_GENERATION_TAGS = re.compile(r"{%-?\s*(end)?generation\s*-?%}")
"""transformers' marks of what an assistant says, which write nothing."""

_CLASSES_OF_FILES = ("PreTrainedTokenizerFast", "TokenizersBackend")
"""Classes of tokenizers that have no more than their files say."""


@dataclass(frozen=True, kw_only=True)
class ModelTexts:
    """What a model folder says of its turns, as texts."""

    template: str | None
    tokens: dict[int, str]  # added tokens
    ends: tuple[str, ...]  # that end a completion, by its configurations and its tokenizer
    bos: str
    other_templates: tuple[str, ...] = ()  # names, where none of several is the default
    may_end: bool = True  # whether a completion has an end, as far as the files say

    def turn_end(self, template: str | None = None) -> TurnEnd:
        """What the template, or another one in its place, ends a turn with."""
        if (template or self.template) is None:
            return TurnEnd(text="", is_token=False)

        def render(messages: Sequence[Message]) -> str:
            return self.render(messages, template, asked=False)

        try:
            return turn_end_of(render, tokens=self.tokens.values(), ends=self.ends)
        except (TemplateFault, TypeError, ValueError):  # `pipeline.plan` says what is wrong
            return TurnEnd(text="", is_token=False)

    def render(
        self, messages: Sequence[Message], template: str | None = None, *, asked: bool = True
    ) -> str:
        """The messages as the template, or another one in its place, writes them; line after line
        without one. `asked`: whether an answer is to follow.

        Raises TemplateFault where the template is wrong, or refuses the messages.
        """
        chosen = template or self.template
        if chosen is None:
            return "\n".join(message["content"] for message in messages)
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        environment.globals |= {"raise_exception": _raise, "strftime_now": lambda _: ""}
        try:
            return environment.from_string(_GENERATION_TAGS.sub("", chosen)).render(
                messages=messages,
                add_generation_prompt=asked,
                bos_token=self.bos,
                eos_token=self.ends[0] if self.ends else "",
            )
        except TemplateSyntaxError as error:
            raise TemplateFault(f"line {error.lineno}: {error.message}") from error
        except (TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
            raise TemplateFault(f"{error}") from error


def source_texts(source: ModelSource) -> ModelTexts | None:
    """The texts of a source, as far as its folder or the recipe has them: of a template that the
    recipe gives to another source, the template alone."""
    if source.path is not None:
        return texts_of(Path(source.path))
    if source.chat_template is None:
        return None
    return ModelTexts(template=source.chat_template, tokens={}, ends=(), bos="")


def texts_of(folder: Path) -> ModelTexts | None:
    """The texts of a folder; None where it has no `tokenizer.json` to read tokens from."""
    if not (folder / "tokenizer.json").is_file():
        return None
    tokens = {
        t["id"]: t["content"]
        for t in json_object(folder / "tokenizer.json").get("added_tokens", ())
    }
    settings = json_object(folder / "tokenizer_config.json")
    template = settings.get("chat_template")
    file = folder / "chat_template.jinja"
    if file.is_file():
        template = file.read_text()
    named = _by_name(template)
    template = named.get("default", template)
    ids = [*_ends(folder / "generation_config.json"), *_ends(folder / "config.json")]
    ends = [_content(settings.get("eos_token")), *(tokens.get(i, f"token {i}") for i in ids)]
    # a class of a family's own has an end that no file names
    own_class = settings.get("tokenizer_class") not in _CLASSES_OF_FILES
    return ModelTexts(
        template=template if isinstance(template, str) else None,
        tokens=tokens,
        ends=tuple(dict.fromkeys(text for text in ends if text)),
        bos=_content(settings.get("bos_token")),
        other_templates=() if isinstance(template, str) else tuple(named),
        may_end=own_class or any(ends),
    )


def _by_name(template: Any) -> dict[str, str]:
    """Several templates of a tokenizer, as its settings list them."""
    if not isinstance(template, list):
        return {}
    return {str(one.get("name")): str(one.get("template")) for one in template}


def _content(token: Any) -> str:
    return token.get("content", "") if isinstance(token, dict) else token or ""


def _ends(file: Path) -> list[int]:
    named = json_object(file).get("eos_token_id")
    return named if isinstance(named, list) else [] if named is None else [named]


def _raise(message: str) -> None:
    raise TemplateError(message)
