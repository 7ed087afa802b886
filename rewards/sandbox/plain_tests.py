"""Test functions that only compare calls with constants, read as calls: no judge has to run them.

KodCode's rows are mostly such: ``from solution import f`` and functions of ``assert f(2) == 4``.
A test with anything else in it, or beside it, is left to a judge with all others of its row.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from rewards.sandbox.kinds import Call
from rewards.sandbox.program_names import ProgramNames

Reader = Callable[[ast.expr], Call | None]
"""Reads the expression of an assertion as a call; None when it is more than that."""
_ASSERTIONS = {
    "assertEqual": "{} == {}",
    "assertTrue": "{}",
    "assertFalse": "not {}",
    "assertIsNone": "{} is None",
}


class _NotPlain(Exception):
    """The tests are more than calls and constants."""


def plain_calls(body: Sequence[ast.stmt], taken: ProgramNames, read: Reader) -> list[Call] | None:
    """The calls of a module of plain tests, each with its test's name, or None for any other."""
    defined = [node.name for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    if len({*defined}) != len(defined) or {*defined} & {*taken.names}:
        return None
    try:
        calls = list(_calls(body, taken, read))
    except _NotPlain:
        return None
    return calls or None


def _calls(body: Sequence[ast.stmt], taken: ProgramNames, read: Reader) -> Iterator[Call]:
    used, asked = set[str](), set[str]()
    for node in body:
        match node:
            case ast.Import(names=aliases):
                _require(all(_is_usual(alias.name) for alias in aliases))
            case ast.ImportFrom(module=str(module), names=aliases, level=0) if _is_usual(module):
                pass
            case ast.ImportFrom(module=str(module), names=aliases) if module in taken.modules:
                _require(all(alias.asname is None and alias.name != "*" for alias in aliases))
                used |= {alias.name for alias in aliases}
            case ast.FunctionDef(name=name) if name.startswith("test"):
                for call in _test(node, name, read, arguments=""):
                    asked.add(call.source.partition("(")[0])
                    yield call
            case ast.ClassDef(name=name, bases=bases, keywords=[], decorator_list=[]):
                unittest = [ast.unparse(base) for base in bases]
                is_case = unittest in (["unittest.TestCase"], ["TestCase"])
                _require(is_case or (not bases and name.startswith("Test")))
                for method in node.body:
                    _require(isinstance(method, ast.FunctionDef) or _is_text(method))
                    if isinstance(method, ast.FunctionDef):
                        title = f"{name}.{method.name}"
                        _require(method.name.startswith("test"))
                        for call in _test(method, title, read, arguments="self"):
                            asked.add(call.source.partition("(")[0])
                            yield call
            case _:
                _require(_is_text(node))
    _require(used <= asked)  # a judge says of a name that is missing that it is


def _test(node: ast.FunctionDef, title: str, read: Reader, *, arguments: str) -> Iterator[Call]:
    _require(not node.decorator_list and ast.unparse(node.args) == arguments)
    checks = [part for part in node.body if not _is_text(part)]
    _require(bool(checks))
    for part in checks:
        test = _asserted(part)
        call = read(test) if test is not None else None
        if call is None or not _has_constants(call):
            raise _NotPlain
        words = f"line {part.lineno}: assert {ast.unparse(test)}"  # pyright: ignore[reportArgumentType]
        yield replace(call, test=title, words=words)


def _asserted(node: ast.stmt) -> ast.expr | None:
    """What an assertion says, also a method of unittest's."""
    match node:
        case ast.Assert(test=test):
            return test
        case ast.Expr(
            value=ast.Call(
                func=ast.Attribute(value=ast.Name(id="self"), attr=name), args=args, keywords=[]
            )
        ) if name in _ASSERTIONS and len(args) == _ASSERTIONS[name].count("{}"):
            text = _ASSERTIONS[name].format(*(f"({ast.unparse(arg)})" for arg in args))
            return ast.parse(text, mode="eval").body
    return None


def _has_constants(call: Call) -> bool:
    """Whether all that is handed over is written out: nothing of the tests' own is named."""
    node = ast.parse(call.source, mode="eval").body
    assert isinstance(node, ast.Call)
    handed = [*node.args, *(keyword.value for keyword in node.keywords)]
    return not any(
        isinstance(part, (ast.Name, ast.Call)) for arg in handed for part in ast.walk(arg)
    )


def _is_usual(module: str) -> bool:
    """Whether an import changes nothing for tests that use nothing of it."""
    return module.partition(".")[0] in {*sys.stdlib_module_names, "pytest"}


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Pass) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    )


def _require(plain: bool) -> None:
    if not plain:
        raise _NotPlain
