"""Rows with programs that deserve their reward and others that do not: exits, classes, tricks."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rewards import Pool, Reward, Sample

ROWS = json.loads(Path(__file__).with_name("program_rows.json").read_text())
BIG = {
    "printed": (
        {"tests": [{"input": "60000\n", "output": "\n".join(map(str, range(60_000)))}]},
        "for i in range(int(input())): print(i)",
        "print(*range(int(input()) - 1), sep='\\n')",
    ),
    "answered": (
        {"tests": [{"function": "up", "args": [50_000], "expected": list(range(50_000))}]},
        "def up(n):\n    return list(range(n))",
        "def up(n):\n    return list(range(n - 1)) + [0]",
    ),
}
pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is missing")


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(1) as pool:
        yield pool


def graded(pool: Pool, program: str, columns: dict[str, Any], args: dict[str, Any]) -> Reward:
    sample = Sample(prompt="", completion=program, columns=columns, id="case")
    return pool.submit("builtin:code_tests", sample, args=args).result()


@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
def test_right_programs_are_paid_and_wrong_ones_are_not(pool: Pool, row: dict[str, Any]) -> None:
    due = [(program, 1.0) for program in row["right"]] + [
        (program, 0.0) for program in row["wrong"]
    ]
    for program, value in due:
        reward = graded(pool, program, row["columns"], row["args"])
        expected = None if row.get("asks_nothing") else value
        assert reward.value == expected, (program, reward.verdict, reward.detail)


@pytest.mark.parametrize("kind", BIG)
def test_much_output(pool: Pool, kind: str) -> None:
    columns, right, wrong = BIG[kind]
    assert graded(pool, right, columns, {}).value == 1.0
    assert graded(pool, wrong, columns, {}).value == 0.0
