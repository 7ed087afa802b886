"""What each form of reward function is called with, for the samples at hand."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rewards.api import Sample

GOLD_NAMES = (
    "gold",
    "solution",
    "answer",
    "ground_truth",
    "label",
    "labels",
    "target",
    "reference",
)
"""Column names under which TRL functions ask for the reference answer."""

_MESSAGE_KEYS = ("content", "role")


@dataclass(frozen=True)
class Arguments:
    """The arguments of one call."""

    positional: tuple[Any, ...] = ()
    keyword: Mapping[str, Any] = field(default_factory=dict)


def arguments_of(
    form: str,
    signature: inspect.Signature,
    samples: Sequence[Sample],
    args: Mapping[str, Any],
    *,
    messages: bool,
) -> list[Arguments]:
    """The arguments of each call: one call per sample, or one for all of them, as the form has it.

    A function in another library's form gets those of the form's arguments that it takes.

    Args:
        args: keyword arguments of the user's.
        messages: whether a TRL function gets messages where the rows hold text.
    """
    match form:
        case "sample":
            return [Arguments((sample,), args) for sample in samples]
        case "batch":
            return [Arguments((list(samples),), args)]
        case "trl":
            offers = [_of_trl(signature, samples, messages=messages)]
        case "verl":
            offers = [_of_verl(sample) for sample in samples]
        case "verl_batch":
            rows = [_of_verl(sample) for sample in samples]
            offers = [{f"{name}s": [row[name] for row in rows] for name in rows[0]}]
        case _:
            offers = [_of_openrlhf(samples)]
    return [Arguments((), _accepted(signature, {**offer, **args})) for offer in offers]


def _accepted(signature: inspect.Signature, offer: Mapping[str, Any]) -> Mapping[str, Any]:
    """Those of the offered keyword arguments that the signature takes."""
    parameters = signature.parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return offer
    return {p.name: offer[p.name] for p in parameters if p.name in offer}


def _of_trl(
    signature: inspect.Signature, samples: Sequence[Sample], *, messages: bool
) -> dict[str, Any]:
    """Text or, for conversational rows (those with a ``messages`` column), lists of messages."""
    names = {name for sample in samples for name in sample.columns}
    columns = {name: [sample.columns.get(name) for sample in samples] for name in names}
    for name in signature.parameters:
        if name in GOLD_NAMES and name not in columns:
            columns[name] = [_gold(sample) for sample in samples]
    conversational = all(isinstance(sample.columns.get("messages"), list) for sample in samples)
    texts = _as_messages(samples) if messages or conversational else _as_text(samples)
    return texts | columns


def _gold(sample: Sample) -> str | list[str] | None:
    """The gold, or the list of them where there are several, as the row has it."""
    return list(sample.golds) or sample.gold


def _as_text(samples: Sequence[Sample]) -> dict[str, list[Any]]:
    return {
        "prompts": [sample.prompt for sample in samples],
        "completions": [sample.completion for sample in samples],
    }


def _as_messages(samples: Sequence[Sample]) -> dict[str, list[Any]]:
    def prompt_of(sample: Sample) -> list[dict[str, str]]:
        turns = sample.columns.get("messages") or [{"role": "user", "content": sample.prompt}]
        return turns[:-1] if turns[-1].get("role") == "assistant" else turns

    return {
        "prompts": [prompt_of(sample) for sample in samples],
        "completions": [
            [{"role": "assistant", "content": sample.completion}] for sample in samples
        ],
    }


def _of_verl(sample: Sample) -> dict[str, Any]:
    """Rows made for verl have an ``extra_info`` of their own, which comes beside all columns."""
    own = sample.columns.get("extra_info")
    return {
        "data_source": sample.columns.get("data_source", ""),
        "solution_str": sample.completion,
        "ground_truth": _gold(sample),
        "extra_info": {**sample.columns, **(own if isinstance(own, Mapping) else {})},
    }


def _of_openrlhf(samples: Sequence[Sample]) -> dict[str, Any]:
    return {
        "queries": [sample.prompt + sample.completion for sample in samples],
        "prompts": [sample.prompt for sample in samples],
        "labels": [_gold(sample) for sample in samples],
    }


def reads_messages(function: Callable[..., Any], signature: inspect.Signature) -> bool:
    """Whether a TRL function wants its completions as messages, told without calling it.

    The annotation of ``completions`` says so, as in TRL's own functions
    (``list[list[dict[str, str]]]``; ``list[str]`` asks for text). Without one, the function's
    source does where it holds an expression like ``completion[0]["content"]``, which no text has.
    """
    annotation = signature.parameters["completions"].annotation
    words = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    if annotation is not inspect.Parameter.empty:
        if any(word in words.lower() for word in ("dict", "mapping", "message")):
            return True
        if "str" in words.lower():
            return False
    return any(_is_content(node) for node in ast.walk(_source_tree(function)))


def _source_tree(function: Callable[..., Any]) -> ast.AST:
    """The syntax tree of a function's definition; an empty one where there is no source."""
    function = inspect.unwrap(function)
    while isinstance(function, functools.partial):
        function = inspect.unwrap(function.func)
    if not inspect.isroutine(function):  # an object that can be called
        function = type(function).__call__
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):  # no file; built in; a lambda amid an expression
        return ast.Module(body=[], type_ignores=[])


def _is_content(node: ast.AST) -> bool:
    """Whether an expression is ``name[...]["content"]`` with positions before the key."""
    match node:
        case ast.Subscript(value=ast.Subscript() as inner, slice=ast.Constant(value=key)):
            if key not in _MESSAGE_KEYS:
                return False
        case _:
            return False
    while isinstance(inner, ast.Subscript):
        if isinstance(inner.slice, ast.Constant) and isinstance(inner.slice.value, str):
            return False
        inner = inner.value
    return isinstance(inner, ast.Name)
