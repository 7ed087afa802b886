"""Test code with its assertions rewritten, so that a judge can count them and say what failed."""

from __future__ import annotations

import ast

_SIGNS = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
    ast.Is: "is", ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in",
}  # fmt: skip
_FAILURES = ("AssertionError", "failureException")


def rewritten(tree: ast.Module) -> ast.Module:
    """The module, changed: assertions, raised errors and except clauses report to the judge.

    The names that it calls are in :mod:`rewards.sandbox.court.collect`.
    """
    return ast.fix_missing_locations(_Rewriter().visit(tree))


class _Rewriter(ast.NodeTransformer):
    def visit_Assert(self, node: ast.Assert) -> ast.Assert:
        text, line = ast.unparse(node.test)[:300], node.lineno
        begun = _call("__begin__", [ast.Constant(text), ast.Constant(line)], node)
        match node.test:
            case ast.Compare(left=left, ops=[sign], comparators=[right]):
                turned = _calls(right) and not _calls(left)
                values = [left, right, *map(ast.Constant, (text, line, turned))]
                args = [begun, ast.Constant(_SIGNS[type(sign)]), *values]
                node.test = _call("__compare__", args, node.test)
            case test:
                node.test = _call(
                    "__check__", [begun, test, *map(ast.Constant, (text, line))], test
                )
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.stmt:
        """The tests are in no package: what they import from beside them is the program."""
        if node.module is None:
            return ast.copy_location(ast.Import(node.names), node)
        node.level = 0
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.Raise:
        if node.exc is not None:
            node.exc = _call("__raised__", [node.exc], node.exc)
        return node

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.ExceptHandler:
        self.generic_visit(node)
        kinds = ast.walk(node.type) if node.type is not None else ()
        names = [part.id for part in kinds if isinstance(part, ast.Name)]
        forgives = any(name in _FAILURES for name in names) and _decides(node.body)
        broad = not names or "Exception" in names or "BaseException" in names
        call = _call("__caught__", [ast.Constant(forgives), ast.Constant(broad)], node)
        node.body.insert(0, ast.copy_location(ast.Expr(call), node))
        return node


def _decides(body: list[ast.stmt]) -> bool:
    """Whether a clause for failed assertions checks something else, or fails itself."""
    parts = [part for statement in body for part in ast.walk(statement)]
    return any(isinstance(part, (ast.Assert, ast.Raise, ast.Return)) for part in parts)


def _calls(node: ast.expr) -> bool:
    return any(isinstance(part, ast.Call) for part in ast.walk(node))


def _call(name: str, args: list[ast.expr], place: ast.AST) -> ast.Call:
    call = ast.Call(ast.Name(name, ast.Load()), args, [])
    return ast.copy_location(call, place)  # pyright: ignore[reportArgumentType]
