"""What is odd about a recipe's data and is no broken row: repeated questions with other golds or
the same, and questions that are trained on and evaluated on.

Questions of our own tasks and of reasoning-gym are compared as they are; those of people without
their disguise (:mod:`pipeline.prompts.plain_words`).
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.artifacts import file_sha256
from pipeline.prompts.overlap import NGRAM, Match, equal_questions, find_matches
from pipeline.prompts.plain_words import text_key
from pipeline.prompts.row_files import row_files
from pipeline.recipe.schema import Recipe
from pipeline.records import Prompt

Kind = Literal["two_golds", "duplicate", "in_held_out", "near_held_out", "same_entry"]
_IN_FILE = re.compile(r", (?=(?:row|line) \d)")
SHOWN = 3
SHOWN_CHARACTERS = 60
_EVALUATED_ROLES = ("watch", "held_out")

SameGold = Callable[[Prompt, Prompt], bool]
"""Whether the golds of two rows are one answer."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One kind of oddity of an entry, with all the rows that have it."""

    kind: Kind
    level: Literal["error", "warning"]
    entry: str
    total: int
    of: int
    text: str
    """The sentence without its examples."""
    pairs: tuple[tuple[Prompt, Prompt], ...] = ()
    """(row, the row that it goes with), in order."""
    fix: str = ""

    @property
    def sentence(self) -> str:
        """For people: key, count, a few examples, what to do."""
        examples = "; ".join(self._example(*pair) for pair in self.pairs[:SHOWN])
        more = f"; and {len(self.pairs) - SHOWN} more" if len(self.pairs) > SHOWN else ""
        shown = f": {examples}{more}" if examples else ""
        return f"prompts.{self.entry}: {self.text}{shown}{f'; {self.fix}' if self.fix else ''}"

    def document(self) -> dict[str, Any]:
        """For programs."""
        return {
            "kind": self.kind,
            "level": self.level,
            "prompts": self.entry,
            "total": self.total,
            "of": self.of,
            "sentence": self.sentence,
            "examples": [
                {
                    "place": place_of(row),
                    "other_place": place_of(other),
                    "question": row.question,
                    "answer": row.answer,
                    "other_answer": other.answer,
                }
                for row, other in self.pairs[:SHOWN]
            ],
        }

    def _example(self, row: Prompt, other: Prompt) -> str:
        answers = f" is {_short(row.answer)} and {_short(other.answer)}"
        question = f"{_short(row.question)}{answers if self.kind == 'two_golds' else ''}"
        return f"{place_of(row)} and {_beside(row, other)}, {question}"


def recipe_findings(
    recipe: Recipe,
    entries: Mapping[str, Sequence[Prompt]],
    *,
    near: bool = False,
    same_gold: Callable[[str], SameGold | None] = lambda name: None,
) -> list[Finding]:
    """Everything odd about these entries of a recipe; `same_gold` by entry."""
    repeated = [
        finding
        for name, prompts in entries.items()
        if not _is_generated(recipe, name)
        for finding in repeats(name, prompts, same_gold=same_gold(name))
    ]
    return [*repeated, *held_out_overlap(recipe, entries, near=near)]


def place_of(prompt: Prompt) -> str:
    """Where a row stands; the id of one that has no place."""
    return prompt.place or f"prompt {prompt.id}"


def repeats(
    entry: str, prompts: Sequence[Prompt], *, same_gold: SameGold | None
) -> Iterator[Finding]:
    """Rows with a question that an earlier row has: with another gold, or the same.

    Other golds are an error where `same_gold`, by the reward that judges the rows, tells them apart
    and the questions are the same to the letter; without it they are a warning.
    """
    by_key: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        by_key.setdefault(text_key(_whole(prompt)), []).append(prompt)
    pairs = [(row, group[0]) for group in by_key.values() for row in group[1:]]
    order = {prompt.id: place for place, prompt in enumerate(prompts)}
    pairs.sort(key=lambda pair: order[pair[0].id])
    is_same = same_gold or same_text
    other_golds = [p for p in pairs if not (same_text(*p) or is_same(*p))]
    letters = [p for p in other_golds if _same_letters(*p)]
    if other_golds:
        yield Finding(
            kind="two_golds",
            level="error" if same_gold and letters else "warning",
            entry=entry,
            total=len(other_golds),
            of=len(prompts),
            text=(
                f"{len(other_golds):,} of {len(prompts):,} rows have the question of an earlier "
                "row and another gold"
            ),
            pairs=tuple(other_golds),
            fix="correct or remove them",
        )
    twice = [p for p in pairs if _same_letters(*p) and same_text(*p)]
    if twice:
        yield Finding(
            kind="duplicate",
            level="warning",
            entry=entry,
            total=len(twice),
            of=len(prompts),
            text=f"{len(twice):,} of {len(prompts):,} rows repeat an earlier row",
            pairs=tuple(twice),
        )


def held_out_overlap(
    recipe: Recipe, entries: Mapping[str, Sequence[Prompt]], *, near: bool
) -> Iterator[Finding]:
    """Rows that a stage trains on and another evaluates on.

    `near` also looks for rows with 13 words in common, which takes longer. Entries that are not
    among `entries` are not looked at.
    """
    trained, evaluated = trained_entries(recipe), evaluated_entries(recipe)
    for name, stage in trained.items():
        for other, report in evaluated.items():
            if name == other:
                yield _same_entry(name, stage, report, len(entries.get(name, ())))
            elif name in entries and other in entries:
                yield from _overlap(recipe, name, other, report, entries, near=near)


def trained_entries(recipe: Recipe) -> dict[str, str]:
    """By prompts entry, a stage that makes weights or rows from it."""
    return {
        item.name: name
        for name, stage in reversed(recipe.stages.items())
        for item in stage.inputs()
        if item.name in recipe.prompts
        and stage.product != "report"
        and item.role not in _EVALUATED_ROLES
    }


def evaluated_entries(recipe: Recipe) -> dict[str, str]:
    """By prompts entry, a stage that measures accuracy on it."""
    return {
        item.name: name
        for name, stage in reversed(recipe.stages.items())
        for item in stage.inputs()
        if item.name in recipe.prompts
        and (stage.product == "report" or item.role in _EVALUATED_ROLES)
    }


def same_text(row: Prompt, other: Prompt) -> bool:
    """Whether two rows have a gold in common, but for spacing; or neither has any."""
    mine, theirs = ({_spaced(gold) for gold in golds_of(prompt)} for prompt in (row, other))
    return bool(mine & theirs) or mine == theirs


def golds_of(prompt: Prompt) -> tuple[str, ...]:
    """All golds of a row; none where it has no answer."""
    return prompt.golds or (() if prompt.answer is None else (prompt.answer,))


def _same_entry(name: str, stage: str, report: str, rows: int) -> Finding:
    return Finding(
        kind="same_entry",
        level="warning",
        entry=name,
        total=rows,
        of=rows,
        text=f"stage {stage} trains on it and stage {report} evaluates on it",
        fix="evaluate on prompts of their own",
    )


def _overlap(
    recipe: Recipe,
    name: str,
    other: str,
    report: str,
    entries: Mapping[str, Sequence[Prompt]],
    *,
    near: bool,
) -> Iterator[Finding]:
    rows, theirs = entries[name], entries[other]
    if _is_generated(recipe, name) and _is_generated(recipe, other):
        pairs = _same_questions(rows, theirs)
    elif near:
        pairs = find_matches(rows, {other: theirs})[other]
    else:
        pairs = equal_questions(rows, theirs)
    one_file = ", and the two read one file" if _share_a_file(recipe, name, other) else ""
    texts: Mapping[Kind, str] = {
        "in_held_out": f"are in {other}, on which stage {report} evaluates{one_file}",
        "near_held_out": f"have {NGRAM} words in a row that {other} has too",
    }
    for (kind, text), match_kind in zip(texts.items(), ("equal", "ngram"), strict=True):
        mine = tuple((match.row, match.other) for match in pairs if match.kind == match_kind)
        touched = len({their.id for _, their in mine})
        if mine:
            yield Finding(
                kind=kind,
                level="warning",
                entry=name,
                total=len(mine),
                of=len(rows),
                text=(
                    f"{len(mine):,} of {len(rows):,} rows {text} "
                    f"({touched:,} of its {len(theirs):,} rows)"
                ),
                pairs=mine,
                fix=f"write prompts.{name}.decontaminate: [{other}] to leave them out",
            )


def _is_generated(recipe: Recipe, name: str) -> bool:
    """Whether our tasks or reasoning-gym write the questions, to the letter."""
    source = recipe.prompts[name]
    return source.task is not None or source.gym is not None


def _same_questions(rows: Sequence[Prompt], others: Sequence[Prompt]) -> list[Match]:
    places = {prompt.question: prompt for prompt in others}
    return [
        Match(kind="equal", row=row, other=places[row.question])
        for row in rows
        if row.question in places
    ]


def _share_a_file(recipe: Recipe, name: str, other: str) -> bool:
    """Whether the same bytes are among the files of both."""
    mine, theirs = (_digests(recipe, entry) for entry in (name, other))
    return bool(mine & theirs)


def _digests(recipe: Recipe, name: str) -> set[str]:
    file = recipe.prompts[name].file
    return set() if file is None else {file_sha256(path) for path in row_files(file)}


def _beside(row: Prompt, other: Prompt) -> str:
    """Where the other row stands; its file is not said twice."""
    (mine, _), (theirs, place) = (_file_and_place(prompt) for prompt in (row, other))
    return place if mine and mine == theirs else place_of(other)


def _file_and_place(prompt: Prompt) -> tuple[str, str]:
    """The file of a row, and where it stands in it."""
    parts = _IN_FILE.split(place_of(prompt), maxsplit=1)
    return (parts[0], parts[1]) if len(parts) == 2 else ("", parts[0])


def _short(text: str | None) -> str:
    whole = repr(text or "")
    return whole if len(whole) <= SHOWN_CHARACTERS else f"{whole[:SHOWN_CHARACTERS]}..."


def _whole(prompt: Prompt) -> str:
    """The question with all that was said before it."""
    return "\n".join([*(turn["content"] for turn in prompt.context), prompt.question])


def _same_letters(row: Prompt, other: Prompt) -> bool:
    """Whether two questions are the same but for spacing."""
    return _spaced(_whole(row)) == _spaced(_whole(other))


def _spaced(text: str) -> str:
    """The text with one space where it has any."""
    return " ".join(text.split())
