"""A first recipe for rows of one's own, as commented text. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

Machine = Literal["cpu", "gpu"]
MACHINES: tuple[Machine, ...] = ("cpu", "gpu")


@dataclass(frozen=True, kw_only=True)
class FirstRecipe:
    """What `stepwell init` asks for."""

    name: str
    model: Mapping[str, str]  # a key of `model:` with its value
    train: str  # a file of rows
    rows: int  # in it
    held_out: str | None  # another; None where answers cannot be judged
    question: str | None  # a column; None: the rows are conversations
    answer: str | None
    answer_after: str | None
    judge: str | None  # None: answers are learned, not judged
    machine: Machine
    positions: int | None = None  # of the model, where its files say


@dataclass(frozen=True)
class _Sizes:
    """What fits a machine for a first try."""

    dtype: str
    rows: int
    prompts: int
    samples: int
    steps: int
    micro: int
    tokens: int
    form: int  # rows that show how an answer is written


_SIZES: Mapping[Machine, _Sizes] = {
    "cpu": _Sizes("float32", 16, 8, 4, 20, 4, 256, 640),
    "gpu": _Sizes("bfloat16", 64, 32, 8, 200, 4, 1024, 5000),
}


def first_recipe(asked: FirstRecipe) -> str:
    """The recipe's text: every value with the reason to change it."""
    size = _SIZES[asked.machine]
    if asked.positions is not None:
        size = replace(size, tokens=min(size.tokens, asked.positions // 4))
    parts = [_head(asked, size), _prompts(asked, size)]
    if asked.judge is None:
        parts.append(_lessons(asked, size))
    else:
        parts.append(_rewards(asked.judge))
        parts.append(_stages(asked, size))
    return "\n".join(parts)


def _head(asked: FirstRecipe, size: _Sizes) -> str:
    ((kind, place),) = asked.model.items()
    return f"""\
# A first recipe, written by `stepwell init`. What to do with it:
#   stepwell doctor {asked.name}.yaml            is everything there? (--probe: do rewards differ?)
#   stepwell plan {asked.name}.yaml              what would happen, and how many hours it takes
#   stepwell run {asked.name}.yaml               does it
# Ctrl-C stops a run, and the same command goes on.
# Every key is explained in recipes/README.md, and by `stepwell schema` in an editor.
name: {asked.name}
model: {{{kind}: {_text(place)}, dtype: {size.dtype}}}
"""


def _prompts(asked: FirstRecipe, size: _Sizes) -> str:
    columns = {
        ours: theirs
        for ours, theirs in (("question", asked.question), ("answer", asked.answer))
        if theirs is not None and theirs != ours
    }
    more = [f"    columns: {_flow(columns)}  # our names: theirs"] if columns else []
    if asked.answer_after is not None:
        more.append(
            f"    answer_after: {_text(asked.answer_after)}  # before it: the reasoning, `worked`"
        )
    lines = ["prompts:", f"  train:\n    file: {_text(asked.train)}", *more]
    if _form_is_part(asked, size):
        lines += [
            f"  form:  # the first of them, for the cold start\n    file: {_text(asked.train)}",
            f"    size: {size.form}",
            *more,
        ]
    if asked.held_out is not None:
        lines += [
            "    # decontaminate: [held_out]  # leaves rows out that are among the held-out ones",
            f"  held_out:  # nothing is learned from it\n    file: {_text(asked.held_out)}",
            *more,
        ]
    return "\n".join(lines) + "\n"


def _has_form(asked: FirstRecipe) -> bool:
    """Whether a cold start learns the form of the rows' own reasoning."""
    return asked.judge is not None and asked.answer_after is not None


def _form_is_part(asked: FirstRecipe, size: _Sizes) -> bool:
    """Whether the cold start takes some of the rows: all would be hours of it."""
    return _has_form(asked) and asked.rows > size.form


def _rewards(judge: str) -> str:
    return f"""\
rewards:  # rewards/README.md lists the others, and how to write your own
  answer: {{use: "{judge}"}}
"""


def _stages(asked: FirstRecipe, size: _Sizes) -> str:
    start = ""
    init = "base"
    if _has_form(asked):
        init = "start"
        start = f"""\
  start:  # learns the form of the rows' own reasoning, before any reward
    kind: sft
    rows: {"form" if _form_is_part(asked, size) else "train"}.worked
    epochs: 1
    batch_rows: {size.rows}
    micro_batch_rows: {size.micro}
    max_tokens: {2 * size.tokens}  # of prompt and completion; longer rows are left out
    lr: 2e-5

"""
    return f"""\
stages:
{start}  reason:  # GRPO: answers of one question are compared with each other
    kind: grpo
    init: {init}
    prompts: train
    rewards: [answer]
    steps: {size.steps}  # more learn more
    prompts_per_step: {size.prompts}
    samples_per_prompt: {size.samples}  # where all are right, or all wrong, nothing is learned
    micro_batch_rows: {size.micro}  # lower it where memory runs out: the result stays the same
    max_tokens: {size.tokens}  # of a completion: raise it where many are cut off
    lr: 5e-6

  report:  # accuracy with an interval, before and after
    kind: evaluate
    models: [base, {"start, " if start else ""}reason]
    prompts: held_out
    samples_per_prompt: 1
    temperature: 0.0
    top_p: 1.0
    max_tokens: {size.tokens}

  # a folder to take away: stepwell export runs/{asked.name}
  export: {{kind: export, model: reason}}
{_hardware(asked.machine)}"""


def _hardware(machine: Machine) -> str:
    """One GPU is enough to begin with; on a CPU the defaults are right."""
    if machine == "cpu":
        return ""
    return """
hardware:
  device: cuda
  layout: colocated  # one GPU by turns; separate: one each for trainer and engine
  gpu_memory_fraction: 0.5  # the engine's; stepwell plan says where it leaves too little
"""


def _lessons(asked: FirstRecipe, size: _Sizes) -> str:
    column = "answer" if asked.question is not None else "messages"
    return f"""\
stages:
  # Answers such as these cannot be judged by a rule, so they are learned as they stand. Where some
  # can, name a reward and add a grpo stage: see recipes/README.md.
  lessons:
    kind: sft
    rows: train.{column}
    epochs: 1
    batch_rows: {size.rows}
    micro_batch_rows: {size.micro}
    max_tokens: {4 * size.tokens}  # of prompt and completion; longer rows are left out
    lr: 2e-5

  export: {{kind: export, model: lessons}}
"""


def _flow(values: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{key}: {_text(value)}" for key, value in values.items()) + "}"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


QUESTIONS: Sequence[str] = (
    "question", "problem", "prompt", "instruction", "query", "input", "task", "text",
)  # fmt: skip
ANSWERS: Sequence[str] = (
    "answer", "final_answer", "gold", "target", "label", "solution", "output", "response",
    "completion",
)  # fmt: skip
"""What columns are often called, the likelier first."""


def guessed(columns: Sequence[str], names: Sequence[str]) -> str | None:
    """The column with the likeliest of these names, whatever its case.

    >>> guessed(["ID", "Problem", "Answer"], QUESTIONS)
    'Problem'
    """
    by_name = {column.casefold(): column for column in reversed(columns)}
    return next((by_name[name] for name in names if name in by_name), None)
