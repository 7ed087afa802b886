"""Whether test code plainly asks something: what need not be put to programs that know nothing.

Most rows are straight lines of ``assert f(2) == 4`` in a module, a test function or a test class.
No program that answers everything alike holds such a line, so no sandbox has to show it. What is
not plain, for whichever reason, is shown there: see :func:`rewards.sandbox.hearing.idle`.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Sequence

from rewards.sandbox.assertions import constant
from rewards.sandbox.kinds import Judged
from rewards.sandbox.program_names import BUILTINS

MAX_VALUES = 6
_LEAVES = {
    "SkipTest", "SystemExit", "__test__", "_exit", "abort", "exit", "expectedFailure", "fail",
    "importorskip", "kill", "pytestmark", "quit", "skip", "skipIf", "skipTest", "skipUnless",
    "xfail",
}  # fmt: skip
"""Names whose use may keep a test from its end without a failure."""
_TELLING = {"abs", "bool", "float", "int", "repr", "round", "str"}
"""Built-ins that give another value for 0 than for True, both of which idle programs answer."""
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_STRAIGHT = (ast.Assign, ast.AnnAssign, ast.Assert, ast.Import, ast.ImportFrom, ast.Expr, ast.Pass)
"""Statements behind which the next one runs, or the test fails."""


def plainly_asks(tests: Judged, tree: ast.Module) -> bool:
    """Whether a check that surely runs compares an answer with what the program has no say in.

    `tree` is the tests' source, parsed. False does not mean that nothing is asked.
    """
    parts = list(ast.walk(tree))
    tops = {name.partition(".")[0] for name in tests.imports}
    if not tops <= {*sys.stdlib_module_names, "pytest"} or _LEAVES & set(_words(parts)):
        return False
    defined = [part.name for part in parts if isinstance(part, _DEFINITIONS)]
    if len({*defined}) != len(defined):
        return False  # the later one of two tests replaces the earlier
    if _TELLING & {*defined, *(word for part in parts for word in _given(part))}:
        return False
    names = {*tests.functions, *aliases(parts, tests.modules)}
    return _module_asks(tree.body, names, {*defined}, entry=tests.entry)


def null_answers(tree: ast.Module) -> Iterator[str]:
    """Source of what a program that knows nothing may answer, each in a tuple: usual values,
    and some that the tests compare with.
    """
    yield from ("(None,)", "(0,)", "('',)", "([],)", "(True,)", "(False,)")
    seen: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Compare(left=left, comparators=others):
                sides = [left, *others]
            case ast.Call(func=ast.Attribute(attr=name), args=sides) if name.startswith("assert"):
                pass
            case _:
                continue
        for side in sides:
            try:
                text = f"({ast.unparse(side)},)" if constant(side) is not None else ""
            except (ValueError, TypeError, OverflowError):
                continue
            if text and text not in seen and len(seen) < MAX_VALUES:
                seen.add(text)
                yield text


def aliases(parts: Iterable[ast.AST], modules: Sequence[str]) -> set[str]:
    """Names by which test code has the program's `modules`, or what it imports from them."""
    imports = [part for part in parts if isinstance(part, (ast.Import, ast.ImportFrom))]
    return {
        alias.asname or alias.name.partition(".")[0]
        for node in imports
        for alias in node.names
        if (node.module if isinstance(node, ast.ImportFrom) else alias.name) in modules
    }


def _words(parts: Iterable[ast.AST]) -> Iterable[str]:
    for part in parts:
        match part:
            case ast.Name(id=word) | ast.Attribute(attr=word) | ast.alias(name=word):
                yield word


def _given(part: ast.AST) -> Iterable[str]:
    """A name that a part of test code gives to something."""
    match part:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.arg(arg=name):
            yield name
        case ast.alias(name=name, asname=other):
            yield other or name


def _module_asks(
    body: Sequence[ast.stmt], names: set[str], defined: set[str], *, entry: str | None = None
) -> bool:
    """Whether a module, or a class of tests, asks."""
    straight = [node for node in body if not isinstance(node, _DEFINITIONS)]
    if any(_bound(node) & (names | defined) for node in straight):
        return False
    if _line_asks(straight, names):
        return True
    for node in body:
        match node:
            case ast.FunctionDef(name="check", decorator_list=[], args=arguments) if entry:
                candidate = {argument.arg for argument in arguments.args}
                if len(candidate) == 1 and not _yields(node) and _line_asks(node.body, candidate):
                    return True
            case ast.FunctionDef(name=name, decorator_list=[]) if name.startswith("test"):
                if _is_bare(node.args) and not _yields(node) and _line_asks(node.body, names):
                    return True
            case ast.ClassDef(decorator_list=[], keywords=[]) if _holds_tests(node):
                if _module_asks(node.body, names, defined):
                    return True
    return False


def _is_bare(arguments: ast.arguments) -> bool:
    """Whether a test takes nothing but ``self``: no fixture and no parameter."""
    return ast.unparse(arguments) in ("", "self")


def _holds_tests(node: ast.ClassDef) -> bool:
    """Whether a class is one that pytest or unittest collects, and changes nothing of how."""
    methods = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
    if "run" in methods or any(name.startswith("__") for name in methods):
        return False
    match node.bases:
        case [ast.Attribute(attr="TestCase") | ast.Name(id="TestCase")]:
            return True
    return not node.bases and node.name.startswith("Test")


def _line_asks(body: Sequence[ast.stmt], names: set[str]) -> bool:
    """Whether one of a straight line of statements asks, before the first that is of another."""
    answers, values = set[str](), set[str]()
    for node in body:
        if not isinstance(node, _STRAIGHT) or _bound(node) & names:
            return False
        if _compares(node, names | answers, values):
            return True
        bound = _bound(node)
        answers, values = answers - bound, values - bound
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                answers |= {name} if _is_answer(value, names | answers) else set()
                values |= {name} if _is_value(value, values) else set()
    return False


def _yields(function: ast.FunctionDef) -> bool:
    return any(isinstance(part, (ast.Yield, ast.YieldFrom)) for part in ast.walk(function))


def _bound(node: ast.stmt) -> set[str]:
    parts = ast.walk(node)
    return {p.id for p in parts if isinstance(p, ast.Name) and not isinstance(p.ctx, ast.Load)}


def _compares(node: ast.stmt, names: set[str], values: set[str]) -> bool:
    match node:
        case ast.Assert(test=ast.Compare(left=left, ops=[ast.Eq()], comparators=[right])):
            pass
        case ast.Expr(
            value=ast.Call(
                func=ast.Attribute(value=ast.Name(id="self"), attr="assertEqual"),
                args=[left, right, *_],
            )
        ):
            pass
        case _:
            return False
    sides = ((left, right), (right, left))
    return any(_is_answer(one, names) and _is_value(other, values) for one, other in sides)


def _is_answer(node: ast.expr, names: set[str]) -> bool:
    """Whether an expression is what the program answers, as it stands or told by a built-in."""
    match node:
        case ast.Call(func=ast.Name(id=name), args=[inner], keywords=[]) if name in _TELLING:
            return _is_answer(inner, names)
    while isinstance(node, (ast.Call, ast.Attribute)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return isinstance(node, ast.Name) and node.id in names


def _is_value(node: ast.expr, values: set[str]) -> bool:
    """Whether an expression is made of literals, such names and built-ins: the program has no say.

    Such a value is not both None and 0, which programs that know nothing answer.
    """
    known = values | BUILTINS
    return not any(
        isinstance(part, (ast.Attribute, ast.Lambda))
        or isinstance(part, ast.Name)
        and part.id not in known
        for part in ast.walk(node)
    )
