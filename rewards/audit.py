"""Trying a reward before a policy does: each function returns one JSON document.

``try_cases`` for precision and recall on labelled cases, ``attack`` for what it pays by mistake,
``explain`` for one sample, ``bench`` for its speed, and ``diff`` for where two rewards differ.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rewards.answer_attacks import answer_attacks
from rewards.api import INFRA_ERROR, Reward, Sample
from rewards.attacks import ENDS_THE_PARENT, NEED_ONE_ANSWER, PROGRAMS, TEXTS, mutations
from rewards.cases import Case, golds_of
from rewards.idle_tests import idle_attacks
from rewards.pool import Pool
from rewards.registry import RewardNotFound, check
from rewards.sandbox.grade import report

if TYPE_CHECKING:
    from rewards.sandbox.kinds import Judged

FULL_MARKS = 1.0
DEFAULT_GOLDS = (
    "7",
    "\\frac{3}{4}",
    "12.5",
    "x^2+1",
    "(1,2)",
    "\\{1, 2\\}",
    "10\\text{ cm}",
    "12",
    "f(3)",
    "1<x<5",
    "x\\equiv 3\\pmod 7",
    "x=7",
    "C",
    "yes",
)
DEFAULT_TESTS = "assert add(1, 2) == 3\nassert add(5, 7) == 12\nassert add(100, -3) == 97"
Scorer = Callable[[Sequence[Sample]], list[Reward]]


@contextmanager
def _scorer(
    ref: str, *, args: Mapping[str, Any] | None, base: Path | None, workers: int
) -> Iterator[Scorer]:
    """A function that scores samples, over one pool.

    Raises:
        RewardNotFound: when `ref` names nothing, does not take `args` or cannot be imported.
    """
    check(ref, base=base, args=args)
    with Pool(workers) as pool:
        pool.describe(ref, base=base)

        def score(samples: Sequence[Sample]) -> list[Reward]:
            futures = [pool.submit(ref, sample, args=args, base=base) for sample in samples]
            return [future.result() for future in futures]

        yield score


def try_cases(
    ref: str,
    cases: Sequence[Case],
    *,
    args: Mapping[str, Any] | None = None,
    base: Path | None = None,
    workers: int = 1,
    out: Path | None = None,
) -> dict[str, Any]:
    """Score labelled cases twice and count.

    A case is paid at full marks. Precision and recall are None where nothing was paid, or nothing
    was due. The two runs use fresh processes, so that a reward that remembers shows. Where rows
    have a column `kind`, `by_kind` counts the cases and the wrong ones of each.

    Args:
        out: file that gets one JSON line per case: id, value, verdict, cpu_s.

    Raises:
        RewardNotFound: when `ref` names nothing or does not take `args`.
    """
    samples = [case.sample for case in cases]
    runs = []
    for _ in range(2):
        with _scorer(ref, args=args, base=base, workers=workers) as score:
            runs.append(score(samples))
    first, second = runs
    if out is not None:
        out.write_text("".join(_line(s, r) for s, r in zip(samples, first, strict=True)))
    pairs = [(c.expected, r.value == FULL_MARKS) for c, r in zip(cases, first, strict=True)]
    judged = [(expected, paid) for expected, paid in pairs if expected is not None]
    right = sum(expected and paid for expected, paid in judged)
    slowest = sorted(zip(samples, first, strict=True), key=lambda pair: -pair[1].cost.cpu_s)[:10]
    changed = [_key(a) != _key(b) for a, b in zip(first, second, strict=True)]
    kinds = _by_kind(cases, pairs)
    return {
        "reward": ref,
        "n": len(cases),
        "precision": _share(right, sum(paid for _, paid in judged)),
        "recall": _share(right, sum(expected for expected, _ in judged)),
        "verdicts": dict(Counter(reward.verdict for reward in first).most_common()),
        "wrong": [
            {"id": case.sample.id, "expected": case.expected, "verdict": reward.verdict}
            for case, reward in zip(cases, first, strict=True)
            if case.expected is not None and case.expected != (reward.value == FULL_MARKS)
        ],
        "infra_errors": sum(reward.verdict == INFRA_ERROR for reward in first),
        "slowest": [{"id": s.id, "cpu_s": r.cost.cpu_s, "verdict": r.verdict} for s, r in slowest],
        "deterministic": not any(changed),
        "max_cpu_s": max((reward.cost.cpu_s for reward in first), default=0.0),
        "max_rss_mb": max((reward.cost.peak_mb for reward in first), default=0.0),
    } | ({"by_kind": kinds} if kinds else {})


def _by_kind(
    cases: Sequence[Case], pairs: Sequence[tuple[bool | None, bool]]
) -> dict[str, dict[str, int]]:
    """Cases and wrong ones of each kind, where rows have a column `kind`."""
    table: dict[str, dict[str, int]] = {}
    for case, (expected, paid) in zip(cases, pairs, strict=True):
        kind = case.sample.columns.get("kind")
        if kind is not None:
            row = table.setdefault(str(kind), {"n": 0, "wrong": 0})
            row["n"] += 1
            row["wrong"] += expected is not None and expected != paid
    return table


def _key(reward: Reward) -> tuple[float | None, str]:
    return reward.value, reward.verdict


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _line(sample: Sample, reward: Reward) -> str:
    row = {
        "id": sample.id,
        "value": reward.value,
        "verdict": reward.verdict,
        "cpu_s": reward.cost.cpu_s,
    }
    return json.dumps(row) + "\n"


def attack(
    ref: str,
    cases: Sequence[Case] = (),
    *,
    args: Mapping[str, Any] | None = None,
    base: Path | None = None,
    workers: int = 1,
    limit: int = 200,
) -> dict[str, Any]:
    """Offer what deserves nothing; whatever is paid full marks is a hole.

    Cases with tests get the programs of :mod:`rewards.attacks`, and their own tests in shapes that
    ask nothing (:mod:`rewards.idle_tests`); others its texts, and mutations of
    their golds. Without cases a few golds of our own are used. What the reward does not score
    (None) is not paid.

    Args:
        limit: number of golds, or of sets of tests, taken from the cases.

    Raises:
        RewardNotFound: when `ref` names nothing or does not take `args`.
    """
    attacks = list(_attacks(cases, code=ref == "builtin:code_tests", limit=limit))
    with _scorer(ref, args=args, base=base, workers=workers) as score:
        results = score([sample for _, sample in attacks])
    paid = [
        {"attack": kind, "id": sample.id, "gold": sample.gold, "answer": sample.completion[:300]}
        for (kind, sample), reward in zip(attacks, results, strict=True)
        if reward.value is not None and reward.value >= FULL_MARKS
    ]
    faults = sum(reward.verdict == INFRA_ERROR for reward in results)
    return {"reward": ref, "tried": len(attacks), "paid": paid, "infra_errors": faults}


def _attacks(cases: Sequence[Case], *, code: bool, limit: int) -> Iterator[tuple[str, Sample]]:
    if code and not cases:
        cases = [Case(Sample(prompt="", completion="", gold=DEFAULT_TESTS, id="add"), None)]
    called = [(case, _function(case.sample)) for case in cases]
    texts = [case for case, name in called if name is None]
    programs = [(case.sample, name) for case, name in called if name is not None]
    for sample, name in programs[:limit]:
        yield from idle_attacks(sample)
        for kind, program in PROGRAMS.items():
            if kind in ENDS_THE_PARENT and not code:
                continue  # under a reward that runs programs with our rights, this very process
            yield kind, _with(sample, program.replace("NAME", name), kind)
    if code or (cases and not texts):
        return
    golds = golds_of(texts)[:limit] if cases else list(DEFAULT_GOLDS)
    for index, gold in enumerate(golds):
        sample = Sample(prompt="", completion="", gold=gold, id=f"gold {index}")
        other = next((text for _, text in mutations(gold)), "271828")
        for kind, text in TEXTS.items():
            if "," in gold and kind in NEED_ONE_ANSWER:
                continue
            answer = text.replace("GOLD", gold.strip("$. ")).replace("OTHER", other.strip("$. "))
            yield kind, _with(sample, answer, kind)
        for kind, text in answer_attacks(gold.strip("$. "), other.strip("$. ")):
            yield kind, _with(sample, text, kind)
        for kind, text in mutations(gold):
            yield f"mutation: {kind}", _with(sample, f"\\boxed{{{text.strip('$')}}}", kind)


def _with(sample: Sample, completion: str, kind: str) -> Sample:
    return replace(sample, completion=completion, id=f"{sample.id}, {kind}")


def _function(sample: Sample) -> str | None:
    """The function that a sample's tests call, if it has such tests."""
    from rewards.sandbox.kinds import BadTests, Call, Judged, Referenced, Sourced
    from rewards.sandbox.tests import read_tests

    try:
        tests = read_tests(sample.columns, sample.gold, entry_point=None)
    except BadTests:
        return None
    if isinstance(tests, Judged):
        return None if _formula(tests) else tests.entry or next(iter(tests.functions), None)
    if isinstance(tests, Referenced):
        return tests.function
    if isinstance(tests, Sourced):  # of another language
        return None
    first = tests[0] if tests else None
    if isinstance(first, Call):
        return first.head
    return None


def _formula(tests: Judged) -> bool:
    """Whether what could be code of tests is a formula: `p - q`, `(a+5)(b+2)`, `y = x - 1`."""
    plain = (ast.Expr, ast.Assign)
    only = all(isinstance(line, plain) for line in ast.parse(tests.source).body)
    return only and not tests.checked and not tests.setup


def explain(
    ref: str,
    sample: Sample,
    *,
    args: Mapping[str, Any] | None = None,
    base: Path | None = None,
) -> dict[str, Any]:
    """Everything that is known about one reward: value, verdict, detail, cost, and the function."""
    check(ref, base=base, args=args)
    with Pool(1) as pool:
        description = pool.describe(ref, base=base)
        result = pool.submit(ref, sample, args=args, base=base).result()
    function = {"reward": ref, "form": description.form, **asdict(description.traits)}
    return {"id": sample.id, **asdict(result), "function": function}


def bench(
    ref: str,
    cases: Sequence[Case] = (),
    *,
    args: Mapping[str, Any] | None = None,
    base: Path | None = None,
    seconds: float = 5.0,
) -> dict[str, Any]:
    """Checks per second on one core, everything included: this process, the worker, the sandbox.

    All of them are bound to one core for `seconds`. For programs, plainer ways of running them are
    measured beside it. Without cases, a few of our own are checked again and again. Verdicts are
    not taken from the cache: every sample differs.

    Raises:
        RewardNotFound: when `ref` names nothing, does not take `args` or cannot work here.
    """
    code = ref == "builtin:code_tests"
    samples = [case.sample for case in cases] or _own_samples(code=code)
    with one_core(), _scorer(ref, args=args, base=base, workers=1) as score:
        (first,) = score(samples[:1])
        if first.verdict == INFRA_ERROR:
            raise RewardNotFound(str(first.detail["error"]))
        rate = _rate(lambda turn: score(_different(samples, turn)), len(samples), seconds)
    speed = {"reward": ref, "checks_per_s_per_core": rate, "isolation": "process"}
    if code:
        isolation = report((args or {}).get("isolation", "best"))["isolation"]
        speed |= {"isolation": isolation, "baselines": _baselines(min(seconds, 3.0))}
    return speed


def _rate(turn: Callable[[int], object], size: int, seconds: float) -> float:
    turns, start_s = 0, time.monotonic()
    while time.monotonic() - start_s < seconds:
        turn(turns)
        turns += 1
    return turns * size / (time.monotonic() - start_s)


@contextmanager
def one_core() -> Iterator[None]:
    """Bind this thread, and what it starts, to one core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def _different(samples: Sequence[Sample], turn: int) -> list[Sample]:
    """The samples with a prompt of their own, so that no verdict is remembered."""
    return [replace(one, prompt=f"{one.prompt} {turn} {i}") for i, one in enumerate(samples)]


def _own_samples(*, code: bool) -> list[Sample]:
    if code:
        program = "def add(a, b):\n    return a + b\n"
        return [Sample(prompt="", completion=program, gold=DEFAULT_TESTS)] * 20
    text = "She has 16 - 3 - 4 = 9 eggs left and makes 9 * 2 = 18 dollars.\nThe answer is {}."
    return [Sample(prompt="", completion=text.format(n), gold="#### 18") for n in range(10, 30)]


def _baselines(seconds: float) -> dict[str, float]:
    """Plainer ways to run one program with its tests, in runs per second on one core."""
    program = f"def add(a, b):\n    return a + b\n{DEFAULT_TESTS}\n"
    harness = (
        "import multiprocessing, sys, time\n"
        "def check(program, result):\n"
        "    exec(program, {})\n    result.append('passed')\n"
        "def run(program):\n"
        "    result = manager.list()\n"
        "    process = multiprocessing.Process(target=check, args=(program, result))\n"
        "    process.start()\n    process.join(5)\n    return list(result)\n"
        "manager = multiprocessing.Manager()\nprogram, seconds = sys.argv[1], float(sys.argv[2])\n"
        "start, done = time.monotonic(), 0\n"
        "while time.monotonic() - start < seconds:\n    run(program)\n    done += 1\n"
        "print(done / (time.monotonic() - start))\n"
    )
    python = [sys.executable, "-c"]
    with one_core():
        bare = _rate(lambda _: subprocess.run([*python, program], check=True), 1, seconds)
        command = [*python, harness, program, str(seconds)]
        output = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    return {"python -c": bare, "a forked process per program": float(output)}


def diff(
    ref_a: str,
    ref_b: str,
    samples: Iterable[Sample],
    *,
    args_a: Mapping[str, Any] | None = None,
    args_b: Mapping[str, Any] | None = None,
    base: Path | None = None,
    workers: int = 1,
) -> dict[str, Any]:
    """The samples that two rewards, or one with other arguments, score differently."""
    rows = list(samples)
    results = []
    for ref, args in ((ref_a, args_a), (ref_b, args_b)):
        with _scorer(ref, args=args, base=base, workers=workers) as score:
            results.append(score(rows))
    changed = [
        {"id": sample.id, "a": _brief(a), "b": _brief(b), "completion": sample.completion[-300:]}
        for sample, a, b in zip(rows, *results, strict=True)
        if a.value != b.value
    ]
    return {"a": ref_a, "b": ref_b, "n": len(rows), "changed": changed}


def _brief(reward: Reward) -> dict[str, Any]:
    return {"value": reward.value, "verdict": reward.verdict}
