"""What stands between operators: numbers, calls, commands, brackets, sets and matrices."""

from __future__ import annotations

from fractions import Fraction
from typing import Protocol

from rewards.maths.cursor import Cursor
from rewards.maths.lexer import Token
from rewards.maths.tree import Node, TooComplex, Unparsable

_MATRICES = {
    "pmatrix",
    "bmatrix",
    "matrix",
    "array",
    "Bmatrix",
    "smallmatrix",
    "vmatrix",
    "Vmatrix",
}
_SAME_SETS = {
    "mathbb_Z_>0": "mathbb_Z^+", "mathbb_Z_+": "mathbb_Z^+", "mathbb_N^*": "mathbb_Z^+",
    "mathbb_N_+": "mathbb_Z^+", "mathbb_N^+": "mathbb_Z^+", "mathbb_N_>0": "mathbb_Z^+",
    "mathbb_Z_>=1": "mathbb_Z^+", "mathbb_Z_>=0": "mathbb_N_0", "mathbb_Z_0^+": "mathbb_N_0",
    "mathbb_R_>0": "mathbb_R^+", "mathbb_R_+": "mathbb_R^+", "mathbb_R_<0": "mathbb_R^-",
}  # fmt: skip
"""Other ways to write the positive integers and the like."""


class Operators(Protocol):
    """The parser of operators, for what stands inside of a primary; it reads at the same place."""

    def list_until(self, *closers: str) -> Node: ...

    def sum(self) -> Node: ...

    def factor(self) -> Node: ...

    def term(self) -> Node: ...

    def exponent(self) -> Node: ...

    def product(self, left: Node, right: Node) -> Node: ...

    def starts_factor(self) -> bool: ...


class Primaries:
    """Reads one primary where the cursor is; each method reads one sort of them."""

    def __init__(self, cursor: Cursor, operators: Operators) -> None:
        self.at = cursor
        self.operators = operators

    def primary(self) -> Node:
        if self.at.kind == "words":
            return self.words()
        token = self.at.take()
        match token.kind:
            case "number":
                return self.number(token)
            case "symbol":
                return Node("symbol", name=token.text)
            case "constant":
                return Node("constant", name=token.text)
            case "function":
                return self.call(token.text)
            case "command":
                return self.command(token.text)
            case "dots":
                return Node("dots")
            case "unevaluated" if token.text in ("sum", "prod") and self.at.kind == "_":
                return self.series(token.text)
            case "unevaluated":
                return self.operation(token.text)
            case "mathbb":
                return self.blackboard(token.text)
            case "emptyset":
                return Node("set")
            case "begin":
                return self.environment(token.text)
            case "(" | "[":
                return self.brackets(token.kind)
            case "{":
                node = self.operators.list_until("}")
                self.at.expect("}")
                return Node("group", (node,))
            case "{{":
                return self.set()
            case "|":
                return self.enclosure("abs", "|")
            case "lfloor":
                return self.enclosure("floor", "rfloor")
            case "lceil":
                return self.enclosure("ceil", "rceil")
            case "]":  # ]a,b[
                return self.reversed_interval()
        raise Unparsable(f"{token.text or token.kind} where a value was due")

    def number(self, token: Token) -> Node:
        text = token.text
        whole = text.isdecimal()
        if not whole and abs(_exponent(text)) >= 400:
            raise TooComplex("a number with a large exponent")
        if self.at.kind == "command" and self.at.token.text == "overline":
            return self.repeating(text)
        return Node("number", (), "" if whole else text, Fraction(int(text) if whole else text))

    def repeating(self, text: str) -> Node:
        """``0.1\\overline{6}`` as an exact fraction."""
        self.at.take()
        self.at.expect("{")
        cycle = self.at.expect("number").text
        self.at.expect("}")
        whole, _, start = text.partition(".")
        shift = 10 ** len(start)
        tail = Fraction(int(cycle), (10 ** len(cycle) - 1) * shift)
        return Node("number", number=Fraction(int(whole + start), shift) + tail)

    def words(self) -> Node:
        parts = []
        while self.at.kind == "words":
            parts.append(self.at.take().text)
        return Node("words", name=" ".join(parts).lower())

    def call(self, name: str) -> Node:
        """A function and its argument, in parentheses or not; ``\\sin^2 x``, ``\\sin^{-1} x``."""
        if name == "sqrt":
            return self.root()
        power = base = None
        while self.at.kind in ("^", "_"):
            if self.at.take().kind == "_":
                base = self.argument()
            else:
                power = self.argument() if self.at.kind == "{" else self.operators.exponent()
        if self.at.kind in ("(", "{", "[", "|", "lfloor", "lceil"):
            inner = _bare_list(self.primary())
        else:
            inner = (self.function_argument(),)
        if name == "log" and base is not None:
            inner = (*inner, base)
        negative_one = Node("negate", (Node("number", number=Fraction(1)),))
        if power is not None and _plain(power) == negative_one and not name.startswith("arc"):
            return Node("call", inner, f"arc{name}")
        node = Node("call", inner, name)
        return node if power is None else Node("power", (node, power))

    def function_argument(self) -> Node:
        """What follows a function's name without parentheses: factors up to an operator."""
        negative = self.at.kind == "-" and bool(self.at.take())
        node = self.operators.factor()
        while self.operators.starts_factor() and self.at.kind not in (
            "function",
            "(",
            "[",
            "{",
            "|",
        ):
            node = self.operators.product(node, self.operators.factor())
        divisible = node.kind in ("number", "symbol", "constant", "multiply")
        if self.at.kind == "/" and divisible and self.at.following.kind == "number":  # \sin \pi/6
            self.at.take()
            node = Node("divide", (node, self.operators.factor()))
        return Node("negate", (node,)) if negative else node

    def root(self) -> Node:
        index = None
        if self.at.kind == "[":
            self.at.take()
            index = self.operators.sum()
            self.at.expect("]")
        inside = self.argument()
        args = (inside,) if index is None else (inside, index)
        return Node("call", args, "root")

    def argument(self) -> Node:
        """One argument of a command: a group in braces, or the next thing."""
        if self.at.kind == "{":
            self.at.take()
            node = self.operators.sum()
            self.at.expect("}")
            return node
        if self.at.kind == "(":
            return self.primary()
        if self.at.kind == "-":
            self.at.take()
            return Node("negate", (self.primary(),))
        return self.primary()

    def digit_argument(self) -> Node:
        """As :meth:`argument`, but of a bare number only its first digit, as in ``\\frac34``."""
        token = self.at.token
        if token.kind == "number" and len(token.text) > 1 and token.text.isdigit():
            self.at.replace(Token("number", token.text[1:]))
            return Node("number", number=Fraction(int(token.text[0])))
        return self.argument()

    def command(self, name: str) -> Node:
        match name:
            case "frac":
                above = self.digit_argument()
                return Node("divide", (above, self.digit_argument()))
            case "binom":
                above = self.digit_argument()
                return Node("call", (above, self.digit_argument()), "binom")
            case "sqrt":
                return self.root()
            case "overline":
                inner = self.index_text() if self.at.kind == "{" else self.at.take().text
                return Node("symbol", name=f"overline_{inner}")
        raise Unparsable(f"\\{name} in this place")

    def operation(self, name: str) -> Node:
        """An operation that is left to be done; what it is done to does not matter."""
        depth = 0
        while self.at.kind != "end":
            if self.at.kind in ("sep", "relation") and depth == 0:
                break
            if self.at.kind in (")", "]", "}") and depth == 0:
                break
            depth += (self.at.kind in ("(", "[", "{")) - (self.at.kind in (")", "]", "}"))
            self.at.take()
        return Node("unevaluated", name=name)

    def series(self, name: str) -> Node:
        """A sum or product over an index: its bounds, and the product that follows as its term."""
        self.at.enter()
        bounds = []
        while self.at.kind in ("_", "^"):
            name += self.at.take().kind
            if self.at.kind == "{":
                self.at.take()
                bounds.append(self.operators.list_until("}"))
                self.at.expect("}")
            else:
                bounds.append(self.primary())
        node = Node("unevaluated", (*bounds, self.operators.term()), name)
        self.at.depth -= 1
        return node

    def blackboard(self, letter: str) -> Node:
        name = f"mathbb_{letter.strip()}"
        if self.at.kind in ("^", "_"):
            name += self.at.take().kind + self.index_text()
        return Node("symbol", name=_SAME_SETS.get(name, name))

    def environment(self, name: str) -> Node:
        if name == "cases" or name.startswith("align") or name.startswith("gather"):
            node = self.operators.list_until("end_environment")
            raise Unparsable(f"{name} environments") if node else Unparsable(name)
        if name not in _MATRICES:
            raise Unparsable(f"the environment {name}")
        if name == "array" and self.at.kind == "{":
            self.index_text()
        rows: list[Node] = []
        entries: list[Node] = []
        while True:
            match self.at.kind:
                case "&":
                    self.at.take()
                case "newrow":
                    self.at.take()
                    rows, entries = [*rows, Node("row", tuple(entries))] if entries else rows, []
                case "end":
                    if self.at.take().text != name:
                        raise Unparsable(f"no end of {name}")
                    break
                case _:
                    entries.append(self.operators.sum())
        if entries:
            rows.append(Node("row", tuple(entries)))
        if not rows:
            raise Unparsable("an empty matrix")
        if name in ("vmatrix", "Vmatrix"):
            return Node("unevaluated", name="det")
        return Node("matrix", tuple(rows))

    def brackets(self, opening: str) -> Node:
        bars, self.at.bars = self.at.bars, 0
        node = self.operators.list_until(")", "]")
        self.at.bars = bars
        if self.at.kind not in (")", "]"):
            raise Unparsable("a bracket that nothing closes")
        brackets = opening + self.at.take().kind
        if node.kind == "list":
            return Node("tuple", node.args, brackets)
        if brackets in ("()", "[]"):
            return Node("group", (node,))
        raise Unparsable(f"one value between {brackets}")

    def reversed_interval(self) -> Node:
        node = self.operators.list_until("[")
        self.at.expect("[")
        if node.kind != "list" or len(node.args) != 2:
            raise Unparsable("a bracket in a strange place")
        return Node("tuple", node.args, "()")

    def set(self) -> Node:
        bars, self.at.bars = self.at.bars, 1
        node = self.operators.list_until("}}", "|", ":")
        self.at.bars = 0
        if node.kind == "ratio" and self.at.kind == "}}":  # {x : x > 0}
            head, condition = node.args[0], Node("list", node.args[1:])
            node = Node("such_that", (head, condition))
        elif node.kind == "relation" and node.args[0].kind == "ratio":
            head, first = node.args[0].args[0], node.args[0].args[-1]
            condition = Node("relation", (first, *node.args[1:]), node.name)
            node = Node("such_that", (head, condition))
        elif self.at.kind in ("|", ":"):
            self.at.take()
            node = Node("such_that", (node, self.operators.list_until("}}")))
        elif node.kind == "list":
            node = Node("set", node.args)
        else:
            node = Node("set", (node,))
        self.at.bars = bars
        self.at.expect("}}")
        return node

    def enclosure(self, name: str, closer: str) -> Node:
        self.at.bars += 1
        inner = self.operators.sum()
        self.at.bars -= 1
        self.at.expect(closer)
        return Node("call", (inner,), name)

    def index_text(self) -> str:
        if self.at.kind != "{":
            token = self.at.take()
            return token.text or token.kind
        self.at.take()
        parts = []
        while self.at.kind not in ("}", "end"):
            token = self.at.take()
            parts.append(token.text or token.kind)
        self.at.expect("}")
        return "".join(parts)


def _bare_list(node: Node) -> tuple[Node, ...]:
    """The arguments in a parenthesised call."""
    if node.kind in ("tuple", "list"):
        return node.args
    return node.args if node.kind == "group" else (node,)


def _plain(node: Node) -> Node:
    return node.args[0] if node.kind == "group" else node


def _exponent(text: str) -> int:
    _, _, exponent = text.lower().partition("e")
    return int(exponent or 0)
