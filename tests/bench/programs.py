"""Programs checked a second by ``code_tests``: `python -m tests.bench.programs [TREE] [--json]`.

With the path of another checkout, both are measured in turn, a process each, on the same rows.
Seconds are of CPU, of the process that judges and of its sandboxes together, so that other work on
the machine counts little; every row differs, so that nothing of its tests is remembered.

Rows are MBPP's (``../shared/data``) with their reference solutions: the tests as they are; each
answer seen through ``str``; all of a row's in one test function; and in a function that counts
them, which needs a judge. A minute on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[2]
MBPP = HERE / "../shared/data/mbpp/mbpp.jsonl"
ROUNDS, ROWS = 5, 40
SLOW = {123, 367, 927}
"""References that fail their own tests, or take seconds."""
SETS = ("lists of assertions", "answers through str", "test functions", "judged functions")


def tests_of(name: str, asserts: list[str]) -> dict[str, Any]:
    """The columns of a row whose tests are in the form of a set."""
    if name == SETS[0]:
        return {"test_list": asserts}
    if name == SETS[1]:
        seen = r"assert str(\1) == str(\2)"
        return {"test_list": [re.sub(r"^assert (.*\)) *== *(.*)$", seen, one) for one in asserts]}
    head = "from solution import *\n\ndef test_all():\n"
    if name == SETS[2]:
        return {"test": head + "".join(f"    {one}\n" for one in asserts)}
    counted = "".join(f"    {one}\n    count += 1\n" for one in asserts)
    return {"test": f"{head}    count = 0\n{counted}    assert count == {len(asserts)}\n"}


def rows() -> Iterator[tuple[str, list[str]]]:
    """Programs with their assertions, each on a line."""
    for line in MBPP.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        asserts = [one.strip() for one in row["test_list"]]
        if row["task_id"] not in SLOW and not any("\n" in one for one in asserts):
            yield row["code"], asserts


def cpu_s() -> float:
    """CPU seconds of this process and of all below it, those that have ended included."""
    pids, total = [os.getpid()], 0.0
    while pids:
        place = Path(f"/proc/{pids.pop()}")
        pids += [
            int(pid) for path in place.glob("task/*/children") for pid in path.read_text().split()
        ]
        total += sum(map(int, (place / "stat").read_text().rpartition(")")[2].split()[11:15]))
    return total / os.sysconf("SC_CLK_TCK")


def serve() -> None:
    """Answer each name of a set on standard input with programs a second, of rows not seen yet."""
    from rewards import Sample
    from rewards.code_tests import code_tests

    every = list(rows())
    used: dict[str, int] = dict.fromkeys(SETS, 0)
    for line in sys.stdin:
        name = line.strip()
        some = every[used[name] : used[name] + ROWS]
        used[name] += ROWS
        samples = [
            Sample(prompt="", completion=program, columns=tests_of(name, asserts))
            for program, asserts in some
        ]
        start = cpu_s()
        for sample in samples:
            code_tests(sample)
        print(len(samples) / (cpu_s() - start), flush=True)


class Tree:
    """A checkout with a process that measures it."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), "--serve"],
            cwd=path,
            env={**os.environ, "PYTHONPATH": str(path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def measured(self, name: str) -> float:
        """One round of a set."""
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(name + "\n")
        process.stdin.flush()
        return float(process.stdout.readline())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tree", nargs="?", type=Path, help="another checkout")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve()
        return
    trees = [Tree(HERE)] + ([Tree(arguments.tree.resolve())] if arguments.tree else [])
    figures: dict[str, dict[str, float]] = {}
    for name in SETS:
        rounds = [[tree.measured(name) for tree in trees] for _ in range(ROUNDS + 1)][1:]
        here, *other = (statistics.median(side) for side in zip(*rounds, strict=True))
        figures[name] = {"here": here}
        if other:
            figures[name] |= {"other": other[0], "ratio": here / other[0]}
        if not arguments.json:
            print(name, *(f"{key} {value:.4g}" for key, value in figures[name].items()), flush=True)
    for tree in trees:
        tree.process.communicate()
    if arguments.json:
        print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
