"""Cases as data: what JSON says about inputs and outputs, as standard input or as calls."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rewards.sandbox.kinds import BadTests, Call, Stdio

_OUTPUTS = ("output", "expected_output", "stdout")
_INPUTS = ("input", "stdin")
SHAPES = (
    'write a list of {"input": "2\\n", "output": "4\\n"} (standard input and output), or of '
    '{"function": "f", "args": [2], "expected": 4}'
)
"""What a message about cases ends with."""


def cases_of(
    tests: Any, *, function: str | None, changed: int | None = None
) -> list[Stdio] | list[Call]:
    """The cases in decoded JSON; empty when it has none.

    Args:
        function: what is called where a case does not say it.
        changed: the argument, from 0, whose value after the call is expected, in place of what the
            call returns; a case may have its own.

    Raises:
        BadTests: when they can be read in no shape that :mod:`rewards.sandbox.tests` lists.
    """
    if isinstance(tests, Mapping):
        name = tests.get("fn_name") or function
        return cases_of(_listed(tests), function=name, changed=changed)
    if not isinstance(tests, list) or not all(isinstance(item, Mapping) for item in tests):
        raise BadTests(f"tests are neither code nor cases but {_brief(tests)}; {SHAPES}")
    shared = {} if changed is None else {"changed_argument": changed}
    cases = [
        _case({**shared, **case}, function=function, number=number)
        for number, case in enumerate(tests, start=1)
    ]
    calls = [case for case in cases if isinstance(case, Call)]
    whole = [case for case in cases if isinstance(case, Stdio)]
    if calls and whole:
        raise BadTests("some cases are calls and others standard input; give a row one kind")
    return calls or whole


def _listed(table: Mapping[str, Any]) -> list[Any]:
    """The cases of a table of columns: ``inputs`` and ``outputs``, or ``test_cases``."""
    if isinstance(table.get("test_cases"), list):
        return table["test_cases"]
    for inputs, outputs in (("inputs", "outputs"), ("input", "output")):
        if isinstance(table.get(inputs), list) and isinstance(table.get(outputs), list):
            pairs = list(zip(table[inputs], table[outputs], strict=False))
            if len(table[inputs]) != len(table[outputs]):
                counts = f"{len(table[inputs])} {inputs} and {len(table[outputs])} {outputs}"
                raise BadTests(f"there are {counts}; give each input its output")
            shape = {"testtype": "apps" if table.get("fn_name") else "apps_stdin"}
            return [{"input": i, "output": o, **shape} for i, o in pairs]
    if any(name in table for name in (*_OUTPUTS, "expected")):
        return [table]
    keys = ", ".join(map(str, table)) or "none"
    raise BadTests(f"tests are a table with the keys {keys}, which is no known shape; {SHAPES}")


def _case(case: Mapping[str, Any], *, function: str | None, number: int) -> Stdio | Call:
    kind = case.get("testtype") or case.get("type")
    output = next((case[name] for name in _OUTPUTS if name in case), None)
    if "expected" not in case and output is None:
        raise BadTests(f"case {number} has no expected value: {_brief(dict(case))}; {SHAPES}")
    if "call" in case:
        return Call(str(case["call"]), case.get("expected", output), json=True)
    name = case.get("function") or case.get("fn_name") or function
    given = next((case[key] for key in _INPUTS if key in case), "")
    if "expected" in case:
        call = _call(name, case.get("args", []), case.get("kwargs", {}), number=number)
        return _after(replace(call, expected=case["expected"]), case)
    if kind == "apps":
        return _after(_apps_call(name, given, output, number=number), case)
    if kind in ("functional", "function_call") or case.get("fn_name"):
        if kind == "functional":
            arguments = _lines_of_json(given, number=number)
        else:
            arguments = _json_or_text(given)
        call = _call(name, arguments, {}, number=number)
        return _after(replace(call, expected=_json_or_text(output), lend=True), case)
    return Stdio(_text(given), _text(output), lend=kind is not None)


def _call(
    name: Any,
    arguments: Any,
    named: Mapping[str, Any],
    *,
    number: int,
) -> Call:
    """A call that expects None."""
    if not isinstance(name, str) or not re.fullmatch(r"\w+(\(\))?(\.\w+)*", name):
        raise BadTests(
            f"case {number} has arguments, and nothing says of which function; add a column "
            "entry_point (LiveCodeBench: metadata with func_name; APPS: fn_name)"
        )
    if not isinstance(arguments, (list, tuple)):
        raise BadTests(
            f"case {number}: the arguments of {name} are {_brief(arguments)}; write a list of them"
        )
    parts = [literal(value) for value in arguments]
    parts += [f"{key}={literal(value)}" for key, value in named.items()]
    source = f"{name}({', '.join(parts)})"
    return Call(source, None, json=True, function=name)


def _after(call: Call, case: Mapping[str, Any]) -> Call:
    """The call, or what it leaves of the argument that the case names as ``changed_argument``."""
    changed = case.get("changed_argument")
    if changed is None:
        return call
    if isinstance(changed, bool) or not isinstance(changed, int) or changed < 0:
        raise BadTests(
            f"changed_argument is {_brief(changed)}; write the number of an argument, from 0"
        )
    arguments = call.source.removeprefix(f"{call.function}")
    source = f"(lambda *a, **k: ({call.function}(*a, **k), a[{changed}])[1]){arguments}"
    return replace(call, source=source)


def _apps_call(name: Any, given: Any, output: Any, *, number: int) -> Call:
    """A call of APPS: an output is the value, or a list that holds only it."""
    if isinstance(given, str):
        given = _lines_of_json(given, number=number)
        output = _json_or_text(output)
    arguments = [_whole_keys(value) for value in given] if isinstance(given, list) else given
    others = (output[0],) if isinstance(output, list) and len(output) == 1 else ()
    call = _call(name, arguments, {}, number=number)
    return replace(call, expected=output, others=others, lend=True)


def _whole_keys(value: Any) -> Any:
    """A table whose keys are whole numbers, which JSON had to write as text."""
    if isinstance(value, dict) and value and all(re.fullmatch(r"-?\d+", key) for key in value):
        return {int(key): item for key, item in value.items()}
    return value


def _lines_of_json(text: Any, *, number: int) -> list[Any]:
    """The arguments of a functional case: one JSON value a line."""
    if not isinstance(text, str):
        return text if isinstance(text, list) else [text]
    try:
        return [_json_or_literal(line) for line in text.splitlines() if line.strip()]
    except ValueError:
        raise BadTests(
            f"case {number} is functional, and a line of its input is no JSON: {_brief(text)}; "
            "write one argument a line, as JSON"
        ) from None


def _json_or_text(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    try:
        return _json_or_literal(text)
    except ValueError:
        return text


def _json_or_literal(text: str) -> Any:
    """JSON, or Python's way to write the same.

    Raises:
        ValueError: for neither.
    """
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return ast.literal_eval(text.strip())
    except (SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(str(error)) from error


def literal(value: Any) -> str:
    """Python source of a value of JSON."""
    text = repr(value)
    if "inf" not in text and "nan" not in text:
        return text
    if isinstance(value, float):
        return text if math.isfinite(value) else f"float({text!r})"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, dict):
        pairs = (f"{key!r}: {literal(item)}" for key, item in value.items())
        return f"{{{', '.join(pairs)}}}"
    return text


def _text(given: Any) -> str:
    """Standard input or output, which may be given as lines."""
    if isinstance(given, Sequence) and not isinstance(given, str):
        return "\n".join(_text(line) for line in given)
    return "" if given is None else str(given)


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
