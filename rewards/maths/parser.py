"""From tokens to a syntax tree: a recursive descent whose depth is bounded.

:class:`Parser` reads operators, loosest first: lists, relations, unions, ratios, sums, products,
powers. What they join, :class:`rewards.maths.primaries.Primaries` reads, and comes back here for
what stands inside of it.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

from rewards.maths.cursor import Cursor, without_doubles
from rewards.maths.lexer import Lexer, Token
from rewards.maths.primaries import Primaries
from rewards.maths.tree import Node, Unparsable

_FACTOR_STARTS = {
    "number", "symbol", "constant", "function", "command", "(", "{", "{{", "lfloor", "lceil",
    "begin", "mathbb", "unevaluated", "emptyset", "dots",
}  # fmt: skip
_SET_OPERATIONS = {"cup": "union", "cap": "intersection", "without": "without"}

LAST_TREES = 16


def parse(text: str, *, thousands: bool = True) -> Node:
    """The tree of an answer.

    Raises:
        Unparsable: when the text is no formula, list of formulas, or plain words.
        TooComplex: when it is too long or nested too deeply.
    """
    return _tree(tuple(Lexer(text, thousands=thousands).run()))


@lru_cache(maxsize=LAST_TREES)
def _tree(tokens: tuple[Token, ...]) -> Node:
    """The tree of tokens; an answer often has the gold's, and a group has one gold."""
    single = without_doubles(tokens)
    if not single:
        raise Unparsable("nothing there")
    cursor = Cursor(single)
    node = Parser(cursor).list_until("end")
    if cursor.kind != "end":
        raise Unparsable(f"something unexpected at {cursor.token.text or cursor.kind}")
    return node


class Parser:
    """One pass over the tokens; each method reads one level of precedence."""

    def __init__(self, cursor: Cursor) -> None:
        self.at = cursor
        self.primaries = Primaries(cursor, self)

    def list_until(self, *closers: str) -> Node:
        """Items that separators part; one item without a separator is itself."""
        items: list[Node] = []
        separators: set[str] = set()
        while self.at.kind not in closers and self.at.kind != "end":
            if self.at.kind in ("sep", "newrow"):
                separators.add(self.at.take().text)
                continue
            items.append(self.item())
            if self.at.kind not in ("sep", "newrow", "end", *closers):
                raise Unparsable(f"something unexpected at {self.at.token.text or self.at.kind}")
        if len(items) == 1:
            return items[0]
        joint = "or" if "or" in separators else "and" if separators == {"and"} else ""
        return Node("list", tuple(items), joint)

    def item(self) -> Node:
        """A relation, or one expression, less a label in words before it."""
        while self.at.kind == "relation" and self.at.token.text in ("=", "~="):
            self.at.take()
        operands, operators = [self.operand()], []
        while self.at.kind == "relation":
            operators.append(self.at.take().text)
            while self.at.kind == "relation":  # as in "= >"
                operators[-1] += self.at.take().text
            operands.append(self.operand())
        if not operators:
            return operands[0]
        return Node("relation", tuple(operands), " ".join(operators))

    def operand(self) -> Node:
        left = self.ratio()
        while self.at.kind in _SET_OPERATIONS:
            left = Node(_SET_OPERATIONS[self.at.take().kind], (left, self.ratio()))
        return left

    def ratio(self) -> Node:
        parts = [self.sum()]
        while self.at.kind == ":":
            self.at.take()
            parts.append(self.sum())
        if len(parts) == 1:
            return parts[0]
        if parts[0].kind == "words":  # a label
            value = parts[1] if len(parts) == 2 else Node("ratio", tuple(parts[1:]))
            alone = self.at.kind == "relation"
            return value if alone else Node("relation", (parts[0], value), "=")
        return Node("ratio", tuple(parts))

    def sum(self) -> Node:
        self.at.enter()
        terms = [self.signed_term()]
        while self.at.kind in ("+", "-", "+-", "-+"):
            sign = self.at.take().kind
            term = self.signed_term()
            if sign in ("+-", "-+"):
                left = terms[0] if len(terms) == 1 else Node("add", tuple(terms))
                terms = [Node("plus_minus", (left, term), sign[0])]
            else:
                terms.append(Node("negate", (term,)) if sign == "-" else term)
        self.at.depth -= 1
        node = terms[0] if len(terms) == 1 else Node("add", tuple(terms))
        return self.with_unit(node)

    def with_unit(self, node: Node) -> Node:
        if self.at.kind != "words" or node.kind in ("words", "quantity"):
            return node
        unit = []
        while self.at.kind in ("words", "^") or (self.at.kind == "/" and unit):
            token = self.at.take()
            unit.append(token.text.lower() if token.kind == "words" else token.kind)
            if token.kind == "^":
                unit[-1] += self.power_text()
        return Node("quantity", (node,), " ".join(unit))

    def power_text(self) -> str:
        """The exponent of a unit."""
        in_braces = self.at.kind == "{"
        if in_braces:
            self.at.take()
        sign = self.at.take().kind if self.at.kind == "-" else ""
        text = sign + self.at.expect("number").text
        if in_braces:
            self.at.expect("}")
        return text

    def signed_term(self) -> Node:
        negative = False
        while self.at.kind in ("+", "-"):
            negative ^= self.at.take().kind == "-"
        if self.at.kind in ("+-", "-+"):
            sign = self.at.take().kind[0]
            node = Node("plus_minus", (self.term(),), sign)
        else:
            node = self.term()
        return Node("negate", (node,)) if negative else node

    def term(self) -> Node:
        node = self.factor()
        while True:
            if self.at.kind == "*":
                self.at.take()
                node = Node("multiply", (node, self.signed_factor()))
            elif self.at.kind == "/":
                self.at.take()
                if self.at.kind == "words":  # 5 dollars / hour
                    return Node("quantity", (node,), "/ " + self.primaries.words().name)
                node = Node("divide", (node, self.signed_factor()))
            elif self.starts_factor():
                node = self.product(node, self.factor())
            else:
                return node

    def signed_factor(self) -> Node:
        negative = False
        while self.at.kind in ("+", "-"):
            negative ^= self.at.take().kind == "-"
        node = self.factor()
        return Node("negate", (node,)) if negative else node

    def starts_factor(self) -> bool:
        return (
            self.at.kind in _FACTOR_STARTS
            or (self.at.kind == "|" and self.at.bars == 0)
            or (self.at.kind == "[" and self.at.bars == 0)
        )

    def product(self, left: Node, right: Node) -> Node:
        """Juxtaposition: a mixed number when a whole number precedes a proper fraction."""
        if right.kind in ("percent", "degrees") and right.args[0].kind == "divide":
            mixed = self.product(left, right.args[0])
            if mixed.kind == "group":
                return Node(right.kind, (mixed,))
        if right.kind == "divide" and left.kind == "number" and not left.name:
            above, below = right.args
            whole = all(part.kind == "number" and not part.name for part in right.args)
            if whole and (above.number or 0) < (below.number or 0):
                return Node("group", (Node("add", (left, right)),))
        if left.kind == "number" and right.kind == "number":
            return self.mixed_number(left, right)
        return Node("multiply", (left, right))

    def mixed_number(self, whole: Node, above: Node) -> Node:
        """``6 1/64``; two numbers side by side mean nothing else."""
        if self.at.kind == "/" and not whole.name and not above.name:
            self.at.take()
            below = self.factor()
            if below.kind == "number" and (above.number or 0) < (below.number or 0):
                return Node("group", (Node("add", (whole, Node("divide", (above, below)))),))
        raise Unparsable("two numbers side by side")

    def factor(self) -> Node:
        """A primary with its postfixes and its exponent."""
        node = self.primaries.primary()
        while True:
            if self.at.kind == "!":
                self.at.take()
                node = Node("factorial", (node,))
            elif self.at.kind == "%":
                self.at.take()
                node = Node("percent", (node,))
            elif self.at.kind == "'":
                self.at.take()
                if node.kind == "number":
                    raise Unparsable("a prime after a number")
                node = Node("symbol", name=f"{node.name}'") if node.kind == "symbol" else node
            elif self.at.kind == "_":
                self.at.take()
                node = self.with_index(node)
            elif self.at.kind == "command" and self.at.token.text == "circ":
                self.at.take()
                node = Node("degrees", (node,))
            elif self.at.kind == "^":
                self.at.take()
                node = self.with_exponent(node)
            else:
                return node

    def with_exponent(self, base: Node) -> Node:
        in_braces = self.at.kind == "{"
        if in_braces:
            self.at.take()
            if self.at.kind == "}":
                raise Unparsable("an empty exponent")
        if self.at.kind == "command" and self.at.token.text == "circ":
            self.at.take()
            node = Node("degrees", (base,))
        elif self.at.kind == "words" and self.at.token.text in ("th", "st", "nd", "rd"):
            self.at.take()
            node = base
        elif self.at.kind == "'":
            while self.at.kind == "'":
                self.at.take()
            node = Node("symbol", name=f"{base.name}'") if base.kind == "symbol" else base
        elif in_braces:
            node = Node("power", (base, self.sum()))
        else:
            return Node("power", (base, self.exponent()))
        if in_braces:
            self.at.expect("}")
        return node

    def exponent(self) -> Node:
        """An exponent without braces, which binds to the right: a^b^c is a^(b^c)."""
        self.at.enter()
        negative = False
        while self.at.kind in ("+", "-"):
            negative ^= self.at.take().kind == "-"
        node = self.primaries.primary()
        if self.at.kind == "!":
            self.at.take()
            node = Node("factorial", (node,))
        if self.at.kind == "^":
            self.at.take()
            node = self.with_exponent(node)
        self.at.depth -= 1
        return Node("negate", (node,)) if negative else node

    def with_index(self, node: Node) -> Node:
        """A subscript: the base of a number's digits, or part of a symbol's name."""
        index = self.primaries.index_text()
        inner = node.args[0] if node.kind == "group" else node
        if inner.kind == "number" and index.isdigit() and len(index) < 4:
            digits = inner.name or str(inner.number)
            return Node("based", name=digits, number=Fraction(int(index)))
        if node.kind == "symbol":
            return Node("symbol", name=f"{node.name}_{index}")
        if node.kind == "constant":
            return Node("symbol", name=f"{node.name}_{index}")
        raise Unparsable("a subscript of something that is no symbol")
