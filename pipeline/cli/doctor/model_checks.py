"""What a model's files mean for a recipe: whether it loads, and how its prompts come out."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.cli.doctor.check import IMPORT_LIMIT_S, Check, step_back, wrong
from pipeline.cli.doctor.data_checks import LONGEST, SAMPLE, spread
from pipeline.cli.doctor.model_facts import FOLDERS_ALONE
from pipeline.plan.model_origin import positions
from pipeline.plan.stage_plan import Plan
from pipeline.prompts.conversations import is_conversation
from pipeline.recipe.model_source import ModelSource
from pipeline.recipe.schema import Recipe
from pipeline.records import Prompt
from pipeline.stages.training_rows import completion_of

PROGRAM = "pipeline.cli.doctor.model_facts"


@dataclass(frozen=True, kw_only=True)
class ModelQuestion:
    """A model of the recipe, and the rows that its stages read: what `model_facts` is asked."""

    key: str  # `model`, or `stages.NAME.student`
    source: ModelSource
    entries: Mapping[str, Mapping[str, Any]]

    def document(self) -> dict[str, Any]:
        """Its JSON form."""
        return {
            "source": self.source.model_dump(mode="json", exclude_unset=True),
            "entries": self.entries,
        }


@dataclass(frozen=True)
class Reading:
    """A process that reads models' files."""

    process: subprocess.Popen[str]

    @classmethod
    def started(cls, plan: Plan) -> "Reading":
        """One that loads its libraries, and waits for what it is to read."""
        sources = [plan.recipe.model]
        for stage in plan.recipe.stages.values():
            sources += stage.own_models.values()
        light = [FOLDERS_ALONE] if all(source.path for source in sources) else []
        process = subprocess.Popen(
            [sys.executable, "-m", PROGRAM, *light],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        step_back(process)
        return cls(process)

    def ask(self, questions: Sequence[ModelQuestion]) -> None:
        """Have the models read. A process that ended already says so with the answers."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            json.dump([question.document() for question in questions], self.process.stdin)
            self.process.stdin.close()
        self.process.stdin = None  # `communicate` has nothing to add

    def answers(self, count: int) -> list[Mapping[str, Any]]:
        """What `pipeline.cli.doctor.model_facts` answers to each question; `error` where it
        cannot."""
        try:
            out, err = self.process.communicate(timeout=IMPORT_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            error = f"its files took over {IMPORT_LIMIT_S} s to read; look at the disk"
            return [{"error": error}] * count
        try:
            return json.loads(out)
        except ValueError:
            last = (err.strip().splitlines() or [f"exit code {self.process.returncode}"])[-1]
            return [{"error": f"reading it ended a process ({last}); download it again"}] * count


def questions_of(plan: Plan, entries: Mapping[str, Sequence[Prompt]]) -> list[ModelQuestion]:
    """A question for each model of the recipe."""
    recipe = plan.recipe
    others = [name for name, stage in recipe.stages.items() if not stage.own_models]
    shown = _rows_of(recipe, entries, others)
    questions = [ModelQuestion(key="model", source=recipe.model, entries=shown)]
    for name, stage in recipe.stages.items():
        rows = _rows_of(recipe, entries, [name])
        questions += [
            ModelQuestion(key=f"stages.{name}.{key}", source=source, entries=rows)
            for key, source in stage.own_models.items()
        ]
    return questions


def _rows_of(
    recipe: Recipe, entries: Mapping[str, Sequence[Prompt]], stages: Sequence[str]
) -> dict[str, Any]:
    """Rows of each entry that these stages read: some evenly apart, and the longest."""
    columns: dict[str, str | None] = {}
    for name in stages:
        for item in recipe.stages[name].inputs():
            if item.name in recipe.prompts:
                taught = item.column if item.role == "rows" else None
                columns[item.name] = columns.get(item.name) or taught
    result = {}
    for name, column in columns.items():
        rows = list(entries.get(name, ()))
        longest = sorted(rows, key=lambda row: len(row.question), reverse=True)[:LONGEST]
        system = recipe.prompts[name].system
        result[name] = {
            "preface": list(map(dict, recipe.prompts[name].preface)),
            "rows": [
                {
                    "question": row.question,
                    "context": list(map(dict, row.context)),
                    "system": _system(system, row),
                    "completion": _taught(row, column),
                }
                for row in [*spread(rows, SAMPLE), *longest]
            ],
        }
    return result


def _system(recipes: str | None, row: Prompt) -> list[str]:
    own = [turn["content"] for turn in row.context if turn["role"] == "system"]
    return own or ([recipes] if recipes else [])


def _taught(row: Prompt, column: str | None) -> str | None:
    if column is None or is_conversation(row.columns.get(column)):
        return None
    return completion_of(row, column)


def model_checks(plan: Plan, question: ModelQuestion, facts: Mapping[str, Any]) -> Iterator[Check]:
    """Whether the model loads, its vocabulary and ends fit, and what its template does."""
    key, name = question.key, f"{question.key} files"
    if "error" in facts:
        yield wrong(name, f"{key}: {facts['error']}")
        return
    faults = list(_misfits(facts))
    for fault in faults:
        yield Check(name=name, status="wrong", why=f"{key}: {fault}", fix="download it again whole")
    if not faults:
        count = facts["stored"]["tensors"]
        heads = f", heads of {count:,} tensors read" if count else ""
        yield Check(name=name, status="fine", why=f"{question.source.place}: loads{heads}")
    yield ends_check(key, question.source, facts)
    yield from template_checks(plan, key, facts)
    yield from room_checks(plan, question, facts)


def _misfits(facts: Mapping[str, Any]) -> Iterator[str]:
    """What config.json, weights and tokenizer say that cannot all be so."""
    stored, size = facts["stored"], facts["vocab_size"]
    rows = stored["embedding_rows"] or size
    if rows and facts["highest_token"] >= rows:
        yield (
            f"the tokenizer has tokens up to {facts['highest_token']}, and the embedding {rows} "
            "rows: they are not of one model"
        )
    if size and stored["embedding_rows"] and stored["embedding_rows"] != size:
        yield f"config.json has vocab_size {size}, the embedding {stored['embedding_rows']} rows"
    if facts["layers"] and stored["layers"] and stored["layers"] != facts["layers"]:
        yield f"config.json has {facts['layers']} layers, and the weights {stored['layers']}"
    if rows and (high := [end for end in facts["ends"] if end >= rows]):
        yield f"the end token {high[0]} is outside of the embedding's {rows} rows"


def ends_check(key: str, source: ModelSource, facts: Mapping[str, Any]) -> Check:
    """The tokens that end a completion."""
    name = f"{key} ends"
    if facts["ends"]:
        return Check(name=name, status="fine", why=f"completions end at tokens {facts['ends']}")
    return Check(
        name=name,
        status="wrong",
        why=f"no token of {source.place} ends a completion: all run to max_tokens",
        fix=f"name one of its tokens: {key}.stop: [TOKEN]",
    )


def template_checks(plan: Plan, key: str, facts: Mapping[str, Any]) -> Iterator[Check]:
    """What the chat template does to the rows that were tried."""
    name = f"{key} template"
    if not facts["has_template"]:
        yield Check(
            name=name,
            status="warning",
            why="there is no chat template: questions are given as bare lines",
            fix=f"right for a base model; else give {key}.chat_template",
        )
    odd = False
    for entry, told in facts["entries"].items():
        for status, why, fix in _oddities(plan.recipe, key, entry, told):
            odd = True
            yield Check(name=name, status=status, why=why, fix=fix)
    if facts["has_template"] and not odd:
        yield Check(name=name, status="fine", why="renders questions whole, one start token")


def _oddities(recipe: Recipe, key: str, entry: str, told: Mapping[str, Any]) -> Iterator[Any]:
    if "refused" in told:
        yield "wrong", f"prompts.{entry}: {told['refused']}", f"give {key}.chat_template"
        return
    if told["twice"]:
        yield (
            "wrong",
            f"prompts.{entry}: the template writes the start token twice",
            f"give {key}.chat_template one without the second",
        )
    if told["no_system"]:
        yield (
            "wrong",
            f"prompts.{entry}: the template leaves the system message out",
            f"write it into the question (template:), or give {key}.chat_template one that has it",
        )
    if told["no_question"]:
        yield (
            "wrong",
            f"prompts.{entry}: the template leaves text of {told['no_question']} questions out",
            f"give {key}.chat_template one that writes questions whole",
        )
    foreign = [
        reward
        for reward, spec in recipe.rewards.items()
        if any(not judge.use.startswith("builtin:") for _, judge in spec.routes())
    ]
    if told["think"]:
        yield (
            "warning" if foreign else "fine",
            f"prompts.{entry}: the template opens <think>, so completions begin inside of it; our "
            "rewards see it opened"
            + (f", and {', '.join(foreign)} may want both tags in vain" if foreign else ""),
            f"try it: stepwell reward test {foreign[0]}" if foreign else "",
        )


def room_checks(plan: Plan, question: ModelQuestion, facts: Mapping[str, Any]) -> Iterator[Check]:
    """Prompts and completions against `max_tokens` and the model's positions."""
    recipe, most = plan.recipe, positions(question.source)
    for stage in plan.stages:
        own = stage.spec.own_models
        if bool(own) != (question.key != "model"):
            continue
        for item in stage.inputs:
            told = facts["entries"].get(item.name, {})
            prompts = told.get("prompt_tokens") or [0]
            if item.is_sampled and most is not None:
                yield from _sampled_room(recipe, stage.name, item.name, max(prompts), most)
            lengths = told.get("completion_tokens") or []
            limit = getattr(stage.spec, "max_tokens", None)
            if item.role == "rows" and lengths and limit is not None:
                totals = [p + c for p, c in zip(prompts, lengths, strict=True)]
                yield from _trained_room(stage.name, item.name, totals, limit)


def _sampled_room(
    recipe: Recipe, stage: str, entry: str, longest: int, most: int
) -> Iterator[Check]:
    completion = recipe.stages[stage].longest_completion
    if not longest or longest + completion <= most:
        return
    drops = recipe.prompts[entry].too_long == "drop"
    yield Check(
        name="context",
        status="warning" if drops else "wrong",
        why=f"stages.{stage}: a prompt of {entry} has {longest} tokens, which with "
        f"max_tokens={completion} is over the model's {most} positions",
        fix="it is left out, as too_long: drop says"
        if drops
        else f"lower max_tokens, or write prompts.{entry}.too_long: drop",
    )


def _trained_room(stage: str, entry: str, totals: Sequence[int], limit: int) -> Iterator[Check]:
    over = [total for total in totals if total > limit]
    if over:
        yield Check(
            name="context",
            status="wrong" if len(over) == len(totals) else "warning",
            why=f"stages.{stage}: {len(over)} of {len(totals)} rows of {entry} tried are longer "
            f"than max_tokens={limit} (up to {max(over)}), and are left out",
            fix="raise max_tokens, or shorten the rows",
        )
