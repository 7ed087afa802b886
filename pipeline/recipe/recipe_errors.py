"""Schema errors in recipe terms, each with its fix."""

import difflib
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from pipeline.errors import WrongInput
from pipeline.recipe.schema import Recipe
from pipeline.recipe.section import Strict

_FOREIGN_KEYS = {
    "num_samples": "samples_per_prompt",
    "num_generations": "samples_per_prompt",
    "group_size": "samples_per_prompt",
    "n_samples_per_prompt": "samples_per_prompt",
    "learning_rate": "lr",
    "beta": "kl",
    "kl_coef": "kl",
    "epsilon": "clip",
    "loss_type": "variant",
    "num_train_epochs": "epochs",
    "max_steps": "steps",
    "max_length": "max_tokens",
    "max_new_tokens": "max_tokens",
    "max_completion_length": "max_tokens",
    "per_device_train_batch_size": "micro_batch_rows",
    "batch_size": "batch_rows",
    "base": "init",
    "question": "columns.question",
    "answer": "columns.answer",
    "prompt_key": "columns.question",
    "input_key": "columns.question",
    "answer_key": "columns.answer",
    "label_key": "columns.answer",
}
"""What other frameworks call our keys (TRL, verl, OpenRLHF), for suggestions."""


_OTHER_STAGES = {
    "explore": "it is for evaluate stages alone: what is learned from must replay, as one path",
}
"""Keys of some stages that others cannot have, and why."""

_EXPECTED = {
    "string": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping",
    "model": "a mapping",
}


class RecipeError(WrongInput):
    """A recipe cannot be loaded. One line per mistake: `file: key.path: what; fix`."""


@dataclass(frozen=True)
class _Mistake:
    """One schema error. `branch` marks a type that one option of a union wanted."""

    path: tuple[str | int, ...]
    text: str
    branch: bool


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the nearest known name, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def dotted(path: Sequence[str | int]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".") or "recipe"


def mistakes(error: ValidationError, data: Mapping[str, Any]) -> Iterator[_Mistake]:
    """The errors in recipe terms; a union's several complaints about one value become one."""
    found = [_mistake(item, data) for item in error.errors(include_url=False)]
    for mistake in found:
        if not mistake.branch:
            yield mistake
    for path in dict.fromkeys(m.path for m in found if m.branch):
        if any(not m.branch and m.path[: len(path)] == path for m in found):
            continue
        branches = [m.text for m in found if m.branch and m.path == path]
        tail = branches[0].partition(", found ")[2]
        wanted = dict.fromkeys(
            b.partition(", found ")[0].removeprefix("expected ") for b in branches
        )
        yield _Mistake(path, f"expected {' or '.join(wanted)}, found {tail}", branch=False)


def _mistake(item: Mapping[str, Any], data: Mapping[str, Any]) -> _Mistake:
    path: list[str | int] = []
    annotation: Any = Recipe
    tagged = False
    section: Any = None
    for token in item["loc"]:
        section = annotation
        annotation, is_tag = _descend(annotation, token)
        if not is_tag:
            path.append(token)
        tagged = is_tag
    text = _text(item, section, tuple(path), data)
    return _Mistake(tuple(path), text, branch=tagged and item["type"].endswith("_type"))


def _descend(annotation: Any, token: str | int) -> tuple[Any, bool]:
    """The annotation under `token`, and whether the token only names an option of a union."""
    options = list(_options(annotation))
    for option in options:
        if isinstance(option, type) and issubclass(option, BaseModel):
            if len(options) > 1 and token in (option.__name__, *_kinds(option)):
                return option, True
            if token in option.model_fields:
                return option.model_fields[str(token)].annotation, False
        elif get_origin(option) is dict and isinstance(token, str):
            return get_args(option)[1], False
        elif get_origin(option) in (list, tuple) and isinstance(token, int):
            return get_args(option)[0], False
    return None, len(options) > 1


def _options(annotation: Any) -> Iterator[Any]:
    """The members of a union, through Annotated; None left out."""
    if get_origin(annotation) is Annotated:
        yield from _options(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _options(member)
    elif annotation is not type(None):
        yield annotation


def _kinds(option: type[BaseModel]) -> tuple[str, ...]:
    kind = option.model_fields.get("kind")
    return get_args(kind.annotation) if kind else ()


def _text(
    item: Mapping[str, Any], section: Any, path: tuple[str | int, ...], data: Mapping[str, Any]
) -> str:
    """One schema error in plain words, with the fix."""
    kind, given = item["type"], item["input"]
    context = item.get("ctx", {})
    match kind:
        case "extra_forbidden":
            return _unknown_key(str(path[-1]), section)
        case "missing":
            return "is missing; add it"
        case "union_tag_not_found":
            others = [name for name in data.get("stages", {}) if name != path[-1]]
            kinds = ", ".join(_stage_kinds())
            return f"kind is missing{did_you_mean(str(path[-1]), others)}; kinds are {kinds}"
        case "union_tag_invalid":
            tag = str(context["tag"])
            guess = did_you_mean(tag, _stage_kinds())
            return f"there is no kind {tag!r}{guess}; kinds are {', '.join(_stage_kinds())}"
        case "literal_error":
            wanted = str(context["expected"]).replace("'", "")
            guess = did_you_mean(str(given), wanted.replace(" or ", ", ").split(", "))
            return f"{given!r} is none of {wanted}{guess}"
        case "value_error":
            return item["msg"].removeprefix("Value error, ")
    expected = _EXPECTED.get(kind.partition("_")[0])
    if expected and kind.rpartition("_")[2] in ("type", "parsing", "float"):
        return f"expected {expected}, found {_short(given)}"
    return f"{item['msg'].replace('Input should', 'should')}, found {_short(given)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _unknown_key(key: str, section: Any) -> str:
    options = [o for o in _options(section) if isinstance(o, type) and issubclass(o, Strict)]
    known = list(options[0].model_fields) if options else []
    if options and key in options[0].removed_keys:
        return f"there is no such key any more: {options[0].removed_keys[key]}; remove it"
    if key in _OTHER_STAGES and "kind" in known:
        return f"no key of this stage; {_OTHER_STAGES[key]}"
    translated = _FOREIGN_KEYS.get(key, "")
    if translated.partition(".")[0] in known:
        return f"unknown key; did you mean {translated}?"
    return "unknown key" + (did_you_mean(key, known) or f"; known keys: {', '.join(known)}")


def _stage_kinds() -> list[str]:
    stage = get_args(Recipe.model_fields["stages"].annotation)[1]
    return [kind for option in _options(stage) for kind in _kinds(option)]
