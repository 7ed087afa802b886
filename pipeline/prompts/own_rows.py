"""What a file of somebody's rows holds: columns, what asks and what answers, and how answers can be
judged. For `stepwell init`, which guesses and says what it guessed."""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artifacts import write_atomic
from pipeline.prompts.conversations import is_conversation
from pipeline.prompts.file_rows import file_rows
from pipeline.prompts.prompt_error import PromptError
from pipeline.recipe.first_recipe import ANSWERS, QUESTIONS, guessed
from rewards.cases import MARK

LOOKED_AT = 200
HELD_OUT_SHARE, HELD_OUT_MOST, LEAST_ROWS = 0.1, 200, 4
SHORT_CHARACTERS = 40
_LETTER = re.compile(r"\(?[A-Ea-e]\)?[.)]?")
_NUMBER = re.compile(
    r"[-+]?\$?\d[\d,]*(\.\d+)?%?|[-+]?\d+/\d+|.*\\(frac|sqrt|boxed|pi).*", re.DOTALL
)


@dataclass(frozen=True, kw_only=True)
class OwnRows:
    """A file of rows, by its first ones."""

    columns: Sequence[str]
    conversation: str | None  # the column that holds one
    rows: Sequence[Mapping[str, Any]]

    @property
    def question(self) -> str | None:
        """The column that asks, by its name."""
        return guessed(self.columns, QUESTIONS)

    @property
    def answer(self) -> str | None:
        """The column that answers, by its name; never the one that asks."""
        return guessed([column for column in self.columns if column != self.question], ANSWERS)

    def marked(self, column: str) -> bool:
        """Whether answers follow a mark, as GSM8K's do."""
        return all(MARK in str(row.get(column)) for row in self.rows)

    def judge(self, column: str) -> str | None:
        """The reward that can judge a column's answers; None where they are prose."""
        answers = [str(row.get(column, "")).rpartition(MARK)[2].strip() for row in self.rows]
        if all(_LETTER.fullmatch(answer) for answer in answers):
            return "builtin:choice"
        if all(_NUMBER.fullmatch(answer) for answer in answers):
            return "builtin:math_answer"
        longest = max(map(len, answers), default=0)
        return "builtin:exact_match" if longest <= SHORT_CHARACTERS else None


def own_rows(path: Path) -> OwnRows:
    """The first rows of a file. Raises PromptError for one that cannot be read, or has none."""
    rows = [row for _, row in itertools.islice(file_rows(path), LOOKED_AT)]
    if not rows:
        raise PromptError(f"{path} has no rows; give a file that has some")
    columns = list(rows[0])
    talks = [column for column in columns if is_conversation(rows[0][column])]
    return OwnRows(columns=columns, conversation=talks[0] if talks else None, rows=rows)


def split_rows(path: Path, train: Path, held_out: Path) -> tuple[int, int]:
    """Write a file's rows to two files of JSON lines; how many there are in each. Every tenth or so
    is held out, 200 at most.

    Raises PromptError for fewer than 4 rows.
    """
    lines = [json.dumps(row, ensure_ascii=False, default=str) + "\n" for _, row in file_rows(path)]
    if len(lines) < LEAST_ROWS:
        raise PromptError(
            f"{path} has {len(lines)} rows; some are held out of {LEAST_ROWS} or more"
        )
    count = min(HELD_OUT_MOST, max(1, int(HELD_OUT_SHARE * len(lines))))
    out = {place * len(lines) // count for place in range(count)}
    write_atomic(train, "".join(line for i, line in enumerate(lines) if i not in out))
    write_atomic(held_out, "".join(line for i, line in enumerate(lines) if i in out))
    return len(lines) - count, count
