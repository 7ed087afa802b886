"""Putting a program to its tests, with the expected answers on this side of the sandbox."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rewards.sandbox.box import Box
from rewards.sandbox.boxed_run import TIMEOUT, TOO_MUCH_OUTPUT, Broken, Limits, Run
from rewards.sandbox.decode import NotPlain, decoded, value_of
from rewards.sandbox.kinds import BadTests, Call, Referenced, Sourced, Stdio
from rewards.sandbox.languages import ENVIRONMENT, Language, language, with_tests
from rewards.sandbox.same import Rules, same_output, same_value
from rewards.sandbox.sourced import source_of_tests
from rewards.sandbox.ways import Isolation

WRONG_ANSWER = "wrong answer"


JUDGE_LIMITS = Limits(cpu_s=20.0, memory_mib=1024)
"""For code that is trusted: tests, and reference solutions."""
FLOAT_SLIP = 1e-6
"""What EvalPlus allows numbers with a fraction (its ``unsafe_execute``)."""
MAX_REFERENCES = 32
_COMPLAINT = re.compile(
    r": (?:fatal )?error:|^\w*(?:Error|Exception)\b.*:|what\(\):|\.go:\d+:[\d:]* |^Assertion failed"
    r"|^panic: |^fatal error: "
)
_PLACE_IN_GO = re.compile(r"\bprogram\.go:(\d+) ")
_ANSWERS: dict[Referenced, list[Any]] = {}
MAX_SHOWN = 300
"""Characters of a test, an expected or an actual answer in a report."""


@dataclass(frozen=True, kw_only=True)
class Grade:
    """How many tests a program passed, and what went wrong first."""

    passed: int
    total: int
    trouble: str = ""
    """Empty, `WRONG_ANSWER`, `TIMEOUT`, or what the program did instead of answering."""
    cpu_s: float = 0.0
    detail: str = ""
    """The call or the input that went wrong."""
    expected: str = ""
    got: str = ""
    limit: str = ""
    """The limit that was met, with the argument that raises it."""
    number: int = 0
    """Which test went wrong first, from 1; 0 when it was none of them."""
    checks: int | None = None
    """How many checks a judge made; None where tests are data."""


@dataclass(frozen=True, kw_only=True)
class _Failure:
    trouble: str
    test: str = ""
    number: int = 0
    expected: str = ""
    got: str = ""
    limit: str = ""


def _grade(passed: int, total: int, cpu_s: float, failure: _Failure | None) -> Grade:
    if failure is None:
        return Grade(passed=passed, total=total, cpu_s=cpu_s)
    return Grade(
        passed=passed,
        total=total,
        cpu_s=cpu_s,
        trouble=failure.trouble,
        detail=shortened(failure.test),
        expected=shortened(failure.expected),
        got=shortened(failure.got),
        limit=failure.limit,
        number=failure.number,
    )


def shortened(text: str) -> str:
    """Text for a report: both ends of what is long, and no control characters but line breaks."""
    if len(text) > MAX_SHOWN:
        text = f"{text[: MAX_SHOWN - 60]} ... {text[-50:]}"
    return "".join(one if one.isprintable() or one == "\n" else "\ufffd" for one in text)


def by_calls(
    box: Box, program: str, calls: Sequence[Call], limits: Limits, rules: Rules, *, every: bool
) -> Grade:
    """Define the program once and evaluate every call in it; stops at a failure unless `every`.

    Calls that name their test are counted by it, and the rest of a test that failed is left out.
    """
    wrappers = {name for call in calls for name in call.wrappers}
    run = box.run(serving(program, calls[0]) | {"wrappers": list(wrappers)}, limits)
    tests = [call.test or str(number) for number, call in enumerate(calls)]
    order = list(dict.fromkeys(tests))
    right, failed, failure = Counter[str](), set[str](), None
    silent = started = start_trouble(run, beside=bool(calls[0].test))
    for test, call in zip(tests, calls, strict=True) if started is None else ():
        if test in failed:
            continue
        answer = run.ask(call.source)
        wrong = _Failure(trouble="") if answer is None else _wrong(call, answer, rules)
        if wrong is None:
            right[test] += 1
            continue
        failed.add(test)
        words = call.words or call.source
        failure = failure or replace(wrong, test=words, number=order.index(test) + 1)
        if answer is None:
            silent = ""
        if answer is None or not every:
            break
    end, ending = run.end()
    if silent is not None and (failure is None or not failure.trouble):
        words = started or run.silence or ending or "it ended before it had answered"
        failure = replace(failure or _Failure(trouble=""), trouble=words)
    if failure is not None:
        failure = replace(failure, limit=end.limit(limits, failure.trouble))
    passed = sum(right[test] == size for test, size in Counter(tests).items())
    grade = _grade(passed, len(order), end.cpu_s, failure)
    checks = right.total() + len(failed)
    return replace(grade, checks=checks) if calls[0].test else grade


def by_reference(
    box: Box,
    judge: Box,
    program: str,
    tests: Referenced,
    limits: Limits,
    rules: Rules,
    *,
    every: bool,
) -> Grade:
    """Have the reference answer in another sandbox, then put the program to the same calls.

    Raises:
        BadTests: when the reference itself does not answer.
    """
    values = _answers(judge, tests)
    pairs = zip(tests.calls, values, strict=True)
    calls = [Call(source, value, function=tests.function) for source, value in pairs]
    if rules.tolerance is None:
        rules = replace(rules, tolerance=tests.tolerance or FLOAT_SLIP)
    return by_calls(box, program, calls, limits, rules, every=every)


def _answers(judge: Box, tests: Referenced) -> list[Any]:
    """The reference's values, remembered for the next programs of the same row."""
    if tests not in _ANSWERS:
        run = judge.run(serving(tests.reference), JUDGE_LIMITS)
        trouble, values = start_trouble(run), []
        for source in tests.calls if trouble is None else ():
            answer = run.ask(source)
            message = None if answer is None else message_of(answer)
            match message:
                case ["value", code]:
                    values.append(value_of(code))
                case _:
                    trouble = f"{source}: {words_of(message) if message else 'no answer'}"
                    break
        run.end()
        if trouble is not None:
            raise BadTests(
                f"the reference solution (canonical_solution) fails: {shortened(trouble)}; "
                "mend it, or drop the row"
            )
        if len(_ANSWERS) >= MAX_REFERENCES:
            _ANSWERS.clear()
        _ANSWERS[tests] = values
    return _ANSWERS[tests]


def serving(program: str, call: Call | None = None) -> dict[str, Any]:
    """A job that defines a program and asks it; `call` says what is offered to it."""
    job = {"mode": "serve", "judge": False, "name": "solution", "program": program}
    if call is not None:
        job |= {"lend": call.lend, "function": call.function}
    return job


def start_trouble(run: Run, *, beside: bool = False) -> str | None:
    """What went wrong while the program was defined, or None; empty when it just ended."""
    answer = run.receive()
    if answer is None:
        return ""
    message = message_of(answer)
    return None if message == "defined" else words_of(message, beside=beside)


def message_of(answer: bytes) -> Any:
    try:
        return decoded(answer)
    except NotPlain:
        return None


def words_of(message: Any, *, beside: bool = False) -> str:
    """What an answer that is no value says: ``raised ValueError: its words (line 3)``.

    `beside` where tests have lines too: then it is line 3 of the program.
    """
    match message:
        case ["raised", str(name), str(text), int(line)]:
            place = f" (line {line}{' of the program' * beside})" * (line > 0)
            return shortened(f"raised {name[:60]}{': ' * bool(text)}{text[:200]}{place}")
        case ["raised", str(name), *_]:
            return f"raised {name[:60]}"
    return "it answered something else than a value"


def _wrong(call: Call, answer: bytes, rules: Rules) -> _Failure | None:
    """None when the answer is the expected one."""
    message = message_of(answer)
    match message:
        case ["value", code]:
            try:
                value = value_of(code)
                if call.truth:
                    same = bool(value) == call.expected
                elif call.within is not None and _is_near(value, call):
                    same = True
                else:
                    options = (call.expected, *call.others)
                    same = any(same_value(value, due, rules, json=call.json) for due in options)
            except (NotPlain, RecursionError):
                return _Failure(trouble="it answered something else than a value")
            if same:
                return None
            return _Failure(trouble=WRONG_ANSWER, expected=_shown(call.expected), got=_shown(value))
    return _Failure(trouble=words_of(message, beside=bool(call.test)))


def _is_near(value: Any, call: Call) -> bool:
    """Whether an answer is a number as near to the expected one as its test says."""
    try:
        return isinstance(value, (int, float)) and abs(value - call.expected) <= call.within
    except OverflowError:  # a whole number that is larger than any with a fraction
        return False


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except (RecursionError, ValueError):  # too deep, or too many digits for text
        return f"a {type(value).__name__} too large to show"


def by_stdio(
    box: Box,
    program: str,
    cases: Sequence[Stdio],
    limits: Limits,
    rules: Rules,
    *,
    every: bool,
    spoken: str | Mapping[str, Any] = "python",
) -> Grade:
    """Run the program once per case, and compare what it prints as `rules` say."""
    job: dict[str, Any] = {"mode": "main", "program": program, "lend": cases[0].lend}
    if spoken != "python":
        tools = language(spoken)
        job = _command({tools.file: program}, tools)
    passed, failure, cpu_s = 0, None, 0.0
    for number, case in enumerate(cases, start=1):
        run = box.run(dict(job), limits)
        output = run.talk(case.input.encode("utf-8", "surrogatepass"))
        end, ending = run.end()
        cpu_s += end.cpu_s
        wrong = _output_failure(output, ending, run.errors, case, rules)
        passed += wrong is None
        if wrong and not failure:
            limit = end.limit(limits, wrong.trouble)
            failure = replace(wrong, test=case.input, number=number, limit=limit)
            if not every:
                break
    return _grade(passed, len(cases), cpu_s, failure)


def by_source(box: Box, program: str, tests: Sourced, limits: Limits) -> Grade:
    """Run a program with the tests of its own language behind it, in one file."""
    files, word = source_of_tests(program, tests)
    job = _command(files, with_tests(tests.language))
    run = box.run(job, limits)
    output = run.talk(b"")
    end, ending = run.end()
    lines = (output or b"").decode(errors="replace").split()
    failure = _output_failure(output, ending, run.errors, Stdio("", ""), Rules())
    if failure is None or failure.trouble == WRONG_ANSWER:
        right = bool(lines) and lines[-1] == word
        failure = None if right else _Failure(trouble="it ended before its tests did")
    elif any(mark in failure.trouble for mark in ("Assertion", "AssertionError")):
        failure = replace(failure, trouble=WRONG_ANSWER, test=failure.trouble, got="")
    if failure is not None:
        failure = replace(failure, limit=end.limit(limits, failure.trouble))
    return _grade(int(failure is None), 1, end.cpu_s, failure)


def _command(files: Mapping[str, str], tools: Language) -> dict[str, Any]:
    """A job that compiles and runs a program of another language."""
    commands = [list(command) for command in tools.commands]
    job = {"mode": "command", "files": dict(files), "commands": commands}
    return job | {"environment": {**ENVIRONMENT, **tools.environment}}


def _output_failure(
    output: bytes | None, ending: str | None, errors: bytes, case: Stdio, rules: Rules
) -> _Failure | None:
    if output is None:
        return _Failure(trouble=TOO_MUCH_OUTPUT)
    text = output.decode(errors="replace")
    if ending:
        last = "" if ending == TIMEOUT else _last_words(errors)
        return _Failure(trouble=f"{ending}{': ' * bool(last)}{last}", got=text)
    if same_output(text, case.expected, rules):
        return None
    return _Failure(trouble=WRONG_ANSWER, expected=case.expected, got=text)


def _last_words(errors: bytes) -> str:
    """What a program said last on standard error: of a compiler, its first complaint."""
    lines = [line.strip() for line in errors.decode(errors="replace").splitlines() if line.strip()]
    complaint = next((line for line in lines if _COMPLAINT.search(line)), None)
    place = next((match for line in lines if (match := _PLACE_IN_GO.search(f"{line} "))), None)
    if complaint and place and complaint.startswith(("panic", "fatal")):
        complaint = f"{complaint} (line {place[1]})"
    return shortened(complaint or lines[-1] if lines else "")


def report(isolation: Isolation = "best") -> dict[str, Any]:
    """What isolates programs on this machine, for a health check: way, user and layers."""
    try:
        with Box(isolation) as box:
            run = box.run({"mode": "main", "program": "import os\nprint(os.getuid())"}, Limits())
            inside = (run.talk(b"") or b"").strip().decode()
            run.end()
    except (RuntimeError, Broken) as error:
        return {"isolation": "none", "usable": False, "reason": str(error)}
    return {
        "isolation": box.way.name,
        "usable": True,
        "root": os.geteuid() == 0,
        "uid_inside": inside,
        "layers": box.way.layers,
    }
