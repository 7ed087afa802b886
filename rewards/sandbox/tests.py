"""The tests of a row, in the shapes that data sets have them."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from typing import Any

from rewards.sandbox.asserts import from_code
from rewards.sandbox.kinds import BadTests, Call, Stdio, Tests


def read_tests(
    columns: Mapping[str, Any], gold: str | None, *, entry_point: str | None
) -> Tests | None:
    """The tests of a row; None when it has none.

    Read from the columns ``tests``, ``test`` (HumanEval), ``test_list`` (MBPP) or
    ``input_output`` (APPS), else from the gold. They may be assertions, a ``check(candidate)``
    function, or JSON: a list of ``{"input", "output"}`` or of ``{"args", "expected"}``, or
    ``{"inputs", "outputs", "fn_name"}``. ``setup``, ``test_setup_code`` or HumanEval's ``prompt``
    is trusted code that the tests may use.

    Raises:
        BadTests: when they can be read as none of these.
    """
    names = ("tests", "test", "test_list", "input_output")
    tests = next((columns[name] for name in names if columns.get(name)), gold)
    if not tests:
        return None
    entry = entry_point or columns.get("entry_point")
    if isinstance(tests, str):
        tests = _json_or_text(tests)
    if isinstance(tests, list) and all(isinstance(item, str) for item in tests):
        tests = "\n".join(tests)
    if isinstance(tests, str):
        return from_code(tests, setup=_setup(columns), entry=entry)
    if isinstance(tests, Mapping) and "inputs" in tests:
        tests = _paired(tests)
    if not isinstance(tests, list) or not all(isinstance(item, Mapping) for item in tests):
        raise BadTests("tests are neither code, nor a list of cases")
    return _from_cases(tests, entry=entry)


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _setup(columns: Mapping[str, Any]) -> str:
    for name in ("setup", "test_setup_code"):
        if columns.get(name):
            return str(columns[name])
    prompt = columns.get("prompt")
    if isinstance(prompt, str) and "def " in prompt:
        try:
            ast.parse(prompt)
        except SyntaxError:
            return ""
        return prompt
    return ""


def _paired(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    pairs = zip(table["inputs"], table["outputs"], strict=True)
    name = table.get("fn_name")
    if name:
        return [{"function": name, "args": i, "expected": _single(o)} for i, o in pairs]
    return [{"input": i, "output": o} for i, o in pairs]


def _single(output: Any) -> Any:
    return output[0] if isinstance(output, list) and len(output) == 1 else output


def _from_cases(cases: Sequence[Mapping[str, Any]], *, entry: str | None) -> Tests:
    if all("output" in case for case in cases):
        return [Stdio(_lines(case.get("input", "")), _lines(case["output"])) for case in cases]
    return [_call(case, entry=entry) for case in cases]


def _lines(text: Any) -> str:
    return "\n".join(map(str, text)) if isinstance(text, list) else str(text)


def _call(case: Mapping[str, Any], *, entry: str | None) -> Call:
    if "expected" not in case:
        raise BadTests(f"a case without expected or output: {dict(case)!r:.100}")
    if "call" in case:
        return Call(str(case["call"]), case["expected"])
    name = case.get("function") or entry
    if not isinstance(name, str) or not name.isidentifier():
        raise BadTests("cases with args need a function or an entry_point")
    args = [repr(value) for value in case.get("args", [])]
    args += [f"{key}={value!r}" for key, value in case.get("kwargs", {}).items()]
    return Call(f"{name}({', '.join(args)})", case["expected"])
