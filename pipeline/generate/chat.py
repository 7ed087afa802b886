"""Prompt -> the exact text and tokens a model sees; tokens -> the text a reward sees.

A question's own text can hold what the model's control tokens look like (`<|im_end|>`). It is
marked where it enters a template, and stays text when the whole is encoded:

    question --guard--> template --> prompt text with marks --encode--> tokens without marks
                                             `--shown--> what people and rewards read
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from pipeline.errors import WrongInput
from pipeline.models.own_code import needs_own_code
from pipeline.models.turn_end import TurnEnd, one_of, turn_end_in
from pipeline.records import Message, Rollout

GUARD = "\ufdd0"
"""Breaks a control token's text after its first character: one of the code points that Unicode
leaves to a program's own use (Unicode 16.0, section 23.7), so no text that is read has it."""

THINK = "<think>"
THINK_TAGS = (THINK, "</think>")
_OPENING = re.compile(rf"{THINK}\s*\Z")


def load_tokenizer(model: Path) -> Any:
    """The tokenizer of a model folder, with padding and end-of-sequence tokens set."""
    from transformers import AutoTokenizer, PreTrainedConfig  # heavy

    from pipeline.recurrent.config import register_config

    register_config()
    # the class of such a configuration is code, and no tokenizer needs it
    own_code = needs_own_code(_object(model / "config.json"))
    known = {"config": PreTrainedConfig()} if own_code else {}
    return AutoTokenizer.from_pretrained(str(model), trust_remote_code=False, **known)


def load_chat(model: Path) -> "Chat":
    """How a model folder's texts become tokens and back."""
    tokenizer = load_tokenizer(model)
    return Chat(tokenizer=tokenizer, ends=end_tokens(model, tokenizer))


def end_tokens(model: Path, tokenizer: Any) -> tuple[int, ...]:
    """Every token that ends a completion, as the engines have it from the model folder."""
    named = [_eos(model / "generation_config.json"), _eos(model / "config.json")]
    own = tokenizer.eos_token_id
    return tuple(dict.fromkeys([*named[0], *named[1], *([] if own is None else [own])]))


class TurnsRefused(WrongInput):
    """A chat template raises at the turns of a prompt."""


@dataclass(frozen=True)
class Chat:
    """A tokenizer with its chat template, and the tokens that end a completion."""

    tokenizer: Any
    ends: tuple[int, ...]

    def render(
        self, question: str, preface: Sequence[Message], context: Sequence[Message] = ()
    ) -> str:
        """The prompt text: through the chat template where there is one, line after line otherwise.

        `preface`: what the recipe puts before every question; `context`: the row's own turns before
        this one, whose system message comes first of all. Control tokens are marked in all but the
        recipe's system message, so that `prompt_ids` leaves them text.
        """
        own = [turn for turn in context[:1] if turn["role"] == "system"]
        messages: list[Message] = []
        for turn in (*own, *preface, *context[len(own) :], {"role": "user", "content": question}):
            text = turn["content"]
            if turn["role"] == "system" and not own:
                messages.append(turn)
                continue
            answered = turn["role"] == "assistant"
            content = self.as_history(text) if answered else guarded(text, self._controls)
            messages.append({"role": turn["role"], "content": content})
        if self.tokenizer.chat_template is None:
            return "\n".join(message["content"] for message in messages)
        if not self._writes_questions:
            raise TurnsRefused(
                "the model's chat template leaves a question's text out (templates of models that "
                "see images may want it in parts); give model.chat_template one that writes it"
            )
        try:
            return self.tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=False
            )
        except TemplateError as error:
            roles = ", ".join(message["role"] for message in messages)
            raise TurnsRefused(
                f"the model's chat template refuses turns of {roles}: {error} (the question is "
                f"{question[:60]!r}); give model.chat_template one that takes them, or change the "
                "rows"
            ) from error

    def prompt_ids(self, text: str) -> tuple[int, ...]:
        """Token ids of a rendered prompt."""
        return tuple(self.prompts_ids([text])[0])

    def prompts_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of rendered prompts, each with one start of sequence where the tokenizer
        puts one, whether the template writes it or not."""
        start = list(self._start)
        return [
            ids if ids[: len(start)] == start else [*start, *ids] for ids in self._encoded(texts)
        ]

    def completions_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of completions, without an end: tokens of turns in them are text, other
        tokens of the model (`<think>`, tools) are tokens."""
        return self._encoded([guarded(text, self._turns) for text in texts])

    def continuations_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of parts of rendered prompts that follow an answer."""
        return self._encoded(texts)

    def as_history(self, answer: str) -> str:
        """An earlier answer as `render` puts it into a template."""
        return guarded(answer, self._turns)

    def completion_text(self, rollout: Rollout) -> str:
        """The completion as a reward sees it: what was generated, without end and padding."""
        silent = {*self.ends, self.tokenizer.pad_token_id}
        return self.tokenizer.decode(
            [token for token in rollout.tokens if token not in silent], skip_special_tokens=False
        )

    @cached_property
    def turn_end(self) -> TurnEnd:
        """What the template ends an assistant's turn with."""
        return turn_end_in(self.tokenizer, ends=self.ends)

    @cached_property
    def row_end(self) -> int:
        """The token that ends a training row: the template's turn end where generation stops at
        it, the first end token otherwise.

        Raises ValueError for a model without an end token.
        """
        if not self.ends:
            raise ValueError("the model has no end-of-sequence token; name one: model.stop")
        if self.turn_end.is_token:
            token = self.tokenizer.convert_tokens_to_ids(self.turn_end.text)
            if token in self.ends:
                return token
        return self.ends[0]

    @property
    def begins(self) -> bool:
        """Whether the tokenizer puts a start of sequence before every text by itself."""
        return bool(self._start)

    @cached_property
    def _writes_questions(self) -> bool:
        """Whether a question comes through the template; of one that raises, `render` says it."""
        asked = [{"role": "user", "content": "How many are 2 and 3?"}]
        try:
            text = self.tokenizer.apply_chat_template(asked, tokenize=False)
        except TemplateError:
            return True
        return asked[0]["content"] in text

    @cached_property
    def _start(self) -> tuple[int, ...]:
        """What the tokenizer puts before every text by itself."""
        plain = self.tokenizer.encode("x", add_special_tokens=False)
        whole = self.tokenizer.encode("x", add_special_tokens=True)
        places = range(len(whole) - len(plain) + 1)
        return tuple(whole[: next(i for i in places if whole[i : i + len(plain)] == plain)])

    @cached_property
    def _controls(self) -> re.Pattern[str]:
        """Tokens that a question cannot write: special ones, tags of thinking, and what the
        template writes."""
        template = self.tokenizer.chat_template or ""
        added = self.tokenizer.added_tokens_decoder.values()
        return _broken_apart(
            str(t)
            for t in added
            if t.special or str(t) in THINK_TAGS or (str(t) in template and not str(t).isalnum())
        )

    @cached_property
    def _turns(self) -> re.Pattern[str]:
        """Tokens that make turns, which no completion writes: all special ones that the template
        names, ends, starts and padding; never the tags of thinking."""
        template = self.tokenizer.chat_template or ""
        silent = {*self.ends, self.tokenizer.pad_token_id, *self._start}
        added = self.tokenizer.added_tokens_decoder.items()
        return _broken_apart(
            str(token)
            for id_, token in added
            if id_ in silent or (token.special and str(token) in template)
            if str(token) not in THINK_TAGS
        )

    def _encoded(self, texts: Sequence[str]) -> list[list[int]]:
        plain = [text for text in texts if GUARD not in text]
        ids = iter(self.tokenizer(plain, add_special_tokens=False)["input_ids"] if plain else ())
        return [list(next(ids)) if GUARD not in t else self._encoded_guarded(t) for t in texts]

    def _encoded_guarded(self, text: str) -> list[int]:
        """Token ids of the text without its marks, which part what they stand in."""
        encoding = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids, spans = encoding["input_ids"], encoding["offset_mapping"]
        marks = {place for place, character in enumerate(text) if character == GUARD}
        characters = [set(range(first, end)) for first, end in spans]
        if any(part & marks and part - marks for part in characters):
            pieces = text.split(GUARD)  # a token took a mark with its neighbours
            return [i for p in pieces for i in self.tokenizer.encode(p, add_special_tokens=False)]
        return [id_ for id_, part in zip(ids, characters, strict=True) if not part & marks]


def guarded(text: str, controls: re.Pattern[str]) -> str:
    """The text with a mark inside everything that `controls` finds, overlaps included."""
    places = [match.start() + 1 for match in controls.finditer(text)]
    bounds = [0, *places, len(text)]
    return GUARD.join(text[a:b] for a, b in zip(bounds, bounds[1:], strict=False))


def shown(text: str) -> str:
    """A rendered prompt as people and rewards read it."""
    return text.replace(GUARD, "")


def with_opening(prompt: str, completion: str) -> str:
    """The completion with the `<think>` that its prompt opened, if it did: whole by itself."""
    opened = _OPENING.search(prompt)
    return (opened[0] if opened else "") + completion


def without_opening(prompt: str, completion: str) -> str:
    """The completion for a prompt that may have opened `<think>`, which is not opened twice."""
    opened = _OPENING.search(prompt)
    if opened is None:
        return completion
    if completion.startswith(opened[0]):
        return completion.removeprefix(opened[0])
    return completion.removeprefix(THINK)


def _broken_apart(texts: Iterable[str]) -> re.Pattern[str]:
    """Where any of the texts begins; single characters cannot be parted, and stay."""
    return re.compile(f"(?={one_of(text for text in texts if len(text) > 1).pattern})")


def _eos(file: Path) -> list[int]:
    """The end tokens that a configuration names."""
    named = _object(file).get("eos_token_id")
    return named if isinstance(named, list) else [] if named is None else [named]


def _object(file: Path) -> dict[str, Any]:
    """What a file of JSON holds; nothing where there is none, as beside a tokenizer alone."""
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
