"""The tests of a row, in the shapes that data sets have them."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

from rewards.sandbox.asserts import from_code
from rewards.sandbox.data_cases import SHAPES, cases_of, literal
from rewards.sandbox.kinds import BadTests, Referenced, Sourced, Tests
from rewards.sandbox.packed import unpacked
from rewards.sandbox.sourced import LANGUAGES

NAMES = ("tests", "test", "test_list", "input_output", "test_cases", "official_tests")
"""Columns that hold tests, the first one that a row has."""
_PACKED = ("public_test_cases", "private_test_cases")
_PARTS = ("public_tests", "private_tests", "generated_tests")


def read_tests(
    columns: Mapping[str, Any],
    gold: str | list[str] | None,
    *,
    entry_point: str | None,
    changed: int | None = None,
    language: str = "python",
) -> Tests | None:
    """The tests of a row; None when it has none.

    They are read from the columns of LiveCodeBench (``public_test_cases``, ``private_test_cases``),
    of EvalPlus (``base_input``, ``plus_input``), of CodeContests (``public_tests`` ...), from one
    of :data:`NAMES`, else from the gold. They may be assertions, a ``check(candidate)`` function,
    or JSON: a list of ``{"input", "output"}`` or of ``{"args", "expected"}``, or a table of
    ``{"inputs", "outputs", "fn_name"}``. ``setup``, ``test_setup_code`` or HumanEval's ``prompt``
    is trusted code that the tests may use. A case, or the row, may say in ``changed_argument``
    which argument's value after the call is expected.

    Raises:
        BadTests: when they can be read as none of these; it says what to write instead.
    """
    entry = entry_point or columns.get("entry_point") or _function(columns)
    changed = columns.get("changed_argument") if changed is None else changed
    if any(columns.get(name) for name in _PACKED):
        parts = [_unpacked(columns[name], name) for name in _PACKED if columns.get(name)]
        cases = [case for part in parts for case in part]
        return cases_of(cases, function=entry, changed=changed) or None
    if any(columns.get(name) for name in ("base_input", "plus_input")):
        return _referenced(columns, gold, entry=entry)
    if any(columns.get(name) for name in _PARTS):
        parts = [cases_of(columns[n], function=entry) for n in _PARTS if columns.get(n)]
        return [case for part in parts for case in part] or None  # type: ignore[return-value]
    tests = next((columns[name] for name in NAMES if columns.get(name)), gold)
    if not tests:
        return None
    if isinstance(tests, str):
        tests = _json_or_text(tests)
    if isinstance(tests, list) and tests and all(isinstance(item, str) for item in tests):
        tests = "\n".join(tests)
    if isinstance(tests, str) and language != "python":
        return _sourced(tests, columns, language)
    if isinstance(tests, str):
        return from_code(tests, setup=_setup(columns), entry=entry)
    return cases_of(tests, function=entry, changed=changed) or None


def _json_or_text(text: str) -> Any:
    """JSON where it is some; what looks like a list or table of cases must be."""
    try:
        return json.loads(text)
    except ValueError as error:
        if re.match(r"\s*(\[\s*\{|\{\s*[\"'])", text):
            try:
                return ast.literal_eval(text.strip())
            except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
                raise BadTests(f"tests begin like JSON, but are none: {error}; {SHAPES}") from None
        return text


def _unpacked(part: Any, name: str) -> list[Any]:
    cases = unpacked(part) if isinstance(part, str) else part
    if not isinstance(cases, list):
        raise BadTests(f"{name} holds a {type(cases).__name__}, not a list of cases; {SHAPES}")
    return cases


def _function(columns: Mapping[str, Any]) -> str | None:
    """The function that LiveCodeBench names in ``metadata``, or begins in ``starter_code``."""
    metadata = columns.get("metadata")
    if isinstance(metadata, str):
        try:
            metadata = json.loads(metadata)
        except ValueError:
            metadata = None
    if isinstance(metadata, Mapping):
        name = metadata.get("func_name") or metadata.get("fn_name")
        if isinstance(name, str):
            return name
    starter = columns.get("starter_code")
    methods = re.findall(r"^\s+def (\w+)\(self", starter, re.M) if isinstance(starter, str) else []
    return methods[-1] if methods else None


def _sourced(tests: str, columns: Mapping[str, Any], language: str) -> Sourced:
    """HumanEval-X, MultiPL-E: tests that are code of the program's own language."""
    if language not in LANGUAGES:
        raise BadTests(
            f"test code runs in python, {', '.join(LANGUAGES)}; for other languages write a list "
            'of {"input": "2\\n", "output": "4\\n"}'
        )
    prompt = columns.get("prompt") or columns.get("declaration") or ""
    setup = str(columns.get("test_setup") or "")
    return Sourced(source=tests, prompt=str(prompt), language=language, setup=setup)


def _referenced(
    columns: Mapping[str, Any], gold: str | list[str] | None, *, entry: str | None
) -> Referenced:
    """EvalPlus' inputs, whose outputs are those of the reference solution."""
    solution = gold[0] if isinstance(gold, list) else gold  # any of them is right
    reference = columns.get("canonical_solution") or solution
    if not reference or not entry:
        raise BadTests(
            "base_input and plus_input are inputs without outputs; they need the columns "
            "canonical_solution and entry_point, from which the outputs are computed"
        )
    prompt = columns.get("prompt") or ""
    inputs = [*_inputs(columns, "base_input"), *_inputs(columns, "plus_input")]
    calls = tuple(f"{entry}({', '.join(map(literal, arguments))})" for arguments in inputs)
    tolerance = columns.get("atol")
    return Referenced(
        reference=f"{prompt}{reference}" if _parses(f"{prompt}{reference}") else str(reference),
        calls=calls,
        function=entry,
        tolerance=float(tolerance) if tolerance else None,
    )


def _inputs(columns: Mapping[str, Any], name: str) -> list[list[Any]]:
    value = columns.get(name) or []
    if isinstance(value, str):
        value = _json_or_text(value)
    if not isinstance(value, list) or not all(isinstance(item, list) for item in value):
        raise BadTests(
            f"{name} is no list of lists of arguments, such as [[2], [3]] for f(2), f(3)"
        )
    return value


def _parses(code: str) -> bool:
    try:
        ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _setup(columns: Mapping[str, Any]) -> str:
    for name in ("setup", "test_setup_code"):
        if columns.get(name):
            return str(columns[name])
    prompt = columns.get("prompt")
    if isinstance(prompt, str) and "def " in prompt:
        return prompt if _parses(prompt) else ""
    return ""
