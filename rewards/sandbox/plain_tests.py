"""Test functions that only compare calls with constants, read as calls: no judge has to run them.

KodCode's rows are mostly such: ``from solution import f`` and functions of ``assert f(2) == 4``,
with arguments, results and values under names of their own. A test with anything else in it, or
beside it, is left to a judge with all others of its row.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from rewards.sandbox.assertions import constant, is_answer
from rewards.sandbox.kinds import Call
from rewards.sandbox.program_names import BUILTINS, ProgramNames

Reader = Callable[[ast.expr], Call | None]
"""Reads the expression of an assertion as a call; None when it is more than that."""
_ASSERTIONS = {
    "assertEqual": "{} == {}",
    "assertListEqual": "{} == {}",
    "assertDictEqual": "{} == {}",
    "assertSetEqual": "{} == {}",
    "assertTupleEqual": "{} == {}",
    "assertAlmostEqual": "abs({} - {}) < 5e-08",
    "assertIn": "{} in {}",
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
                _require(all(alias.asname is None for alias in aliases))
                used |= {alias.name for alias in aliases if alias.name != "*"}
            case ast.FunctionDef(name=name) if name.startswith("test"):
                for call in _test(node, name, read, arguments=""):
                    asked.add(call.head)
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
                            asked.add(call.head)
                            yield call
            case _:
                _require(_is_text(node))
    _require(used <= asked)  # a judge says of a name that is missing that it is


def _test(node: ast.FunctionDef, title: str, read: Reader, *, arguments: str) -> Iterator[Call]:
    _require(not node.decorator_list and ast.unparse(node.args) == arguments)
    names = Names()
    checks = 0
    for part in node.body:
        match part:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                names.give(name, value)
                continue
        if _is_text(part):
            continue
        test = _asserted(part)
        call = read(names.written(test)) if test is not None else None
        if call is None or not is_answer(ast.parse(call.source, mode="eval").body, BUILTINS):
            raise _NotPlain
        _require(names.pending is None)
        checks += 1
        words = f"line {part.lineno}: assert {ast.unparse(test)}"  # pyright: ignore[reportArgumentType]
        yield replace(call, test=title, words=words)
    _require(checks > 0 and names.pending is None)


class Names(ast.NodeTransformer):
    """Names that a test gives to constants and to one answer at a time, read as their values.

    An answer, or a list, is read once: twice would be two calls, or a list that a call changed.
    """

    def __init__(self) -> None:
        self.values: dict[str, ast.expr] = {}
        self.spent: set[str] = set()
        self.pending: str | None = None
        """The name of an answer that no check has looked at yet."""

    def give(self, name: str, value: ast.expr) -> None:
        _require(self.pending is None)
        value = self.written(value)
        try:
            constant(value)
        except (ValueError, TypeError, OverflowError):
            _require(is_answer(value, BUILTINS))
            self.pending = name
        self.values[name] = value
        self.spent.discard(name)

    def written(self, node: ast.expr) -> ast.expr:
        """A copy of an expression with the values in place of their names."""
        return self.visit(ast.parse(ast.unparse(node), mode="eval").body)

    def visit_Name(self, node: ast.Name) -> ast.expr:
        value = self.values.get(node.id)
        if value is None:
            return node
        _require(node.id not in self.spent)
        if not isinstance(value, ast.Constant):
            self.spent.add(node.id)
        if self.pending == node.id:
            self.pending = None
        return value


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
