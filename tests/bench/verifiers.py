"""Checks of ``math_answer`` a second: `python -m tests.bench.verifiers [TREE] [--json]`.

With the path of another checkout, both are measured in turn, a process each, on the same rows:
compare the ratios. Seconds are of CPU, within the process of a verifier, so that neither the pool
nor other work on the machine counts; medians of the rounds, after one that is not counted.

Rows (all of `../shared/data`): model solutions of GSM8K; MATH answers rewritten in a box; whole
solutions of MATH-500; labelled pairs of HardVerify; inputs made to hang a verifier, of which the
slowest is shown. Two minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]
DATA = HERE / "../shared/data"
ROUNDS, SECONDS = 9, 0.6
"""A round of a set is repeated until it took so many seconds of CPU."""

Row = tuple[str, str]
"""A gold and a completion."""


def rows_of(name: str) -> list[Row]:
    """The rows of one set."""
    if name == "solutions of GSM8K":
        return [(row["gold"], row["pred"]) for row in _lines("verifier/gsm8k_solutions_dev.jsonl")]
    if name == "solutions of MATH":
        return [(row["answer"], row["solution"]) for row in _lines("math500/test.jsonl")]
    if name == "boxes of MATH":
        golds = [str(row["answer"]) for row in _read("math_train/math.json")[::5] if row["answer"]]
        return [(gold, f"So it is $\\boxed{{{_rewritten(gold)}}}$.") for gold in golds]
    if name == "pairs of HardVerify":
        rows = _lines("verifier/hardverify_dev.jsonl")
        return [(row["gold"], f"\\boxed{{{row['pred']}}}") for row in rows]
    rows = _read("verifier/math_adversarial_dev.json")
    return [(row["gold"], row["pred"]) for row in rows]


SETS = ("solutions of GSM8K", "boxes of MATH", "solutions of MATH", "pairs of HardVerify")
HOSTILE = "hostile inputs"


def _rewritten(gold: str) -> str:
    """The answer with other commands and spaces, so that texts of fractions do not decide."""
    return gold.replace("\\frac", "\\cfrac").replace("+", " + ") + "\\,"


def _read(name: str) -> list[dict]:
    return json.loads((DATA / name).read_text(encoding="utf-8"))


def _lines(name: str) -> Iterator[dict]:
    for line in (DATA / name).read_text(encoding="utf-8").splitlines():
        yield json.loads(line)


def serve() -> None:
    """Measure what standard input names, a set a line, and answer each with a number.

    Of a set that is checks per second of CPU, of the hostile inputs the seconds of the slowest.
    """
    from rewards import Sample
    from rewards.math_answer import math_answer

    samples: dict[str, list[Sample]] = {}
    for line in sys.stdin:
        name = line.strip()
        if name not in samples:
            samples[name] = [Sample(prompt="", completion=c, gold=g) for g, c in rows_of(name)]
        if name == HOSTILE:
            answer = 0.0
            for sample in samples[name]:
                start = time.process_time()
                math_answer(sample)
                answer = max(answer, time.process_time() - start)
        else:
            checks, start = 0, time.process_time()
            while (seconds := time.process_time() - start) < SECONDS:
                for sample in samples[name]:
                    math_answer(sample)
                checks += len(samples[name])
            answer = checks / seconds
        print(answer, flush=True)


class Tree:
    """A checkout with a process that measures its verifier."""

    def __init__(self, path: Path) -> None:
        command = [sys.executable, str(Path(__file__).resolve()), "--serve"]
        self.process = subprocess.Popen(
            command,
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

    def close(self) -> None:
        self.process.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tree", nargs="?", type=Path, help="another checkout")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve()
        return
    trees = [Tree(HERE)] + ([Tree(arguments.tree.resolve())] if arguments.tree else [])
    figures: dict[str, dict[str, float]] = {}
    for name in (*SETS, HOSTILE):
        rounds = [[tree.measured(name) for tree in trees] for _ in range(arguments.rounds + 1)][1:]
        here, *other = (statistics.median(side) for side in zip(*rounds, strict=True))
        figures[name] = {"here": here}
        if other:
            figures[name] |= {"other": other[0]}
            figures[name]["ratio"] = statistics.median(ours / theirs for ours, theirs in rounds)
        if not arguments.json:
            unit = "s at most" if name == HOSTILE else "checks a second"
            print(name, unit, *(f"{key} {value:.4g}" for key, value in figures[name].items()))
    for tree in trees:
        tree.close()
    if arguments.json:
        print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
