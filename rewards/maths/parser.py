"""From tokens to a syntax tree: a recursive descent whose depth is bounded."""

from __future__ import annotations

import re
from fractions import Fraction

from rewards.maths.lexer import Lexer, Token
from rewards.maths.tree import Node, TooComplex, Unparsable

MAX_DEPTH = 60
END = Token("end")
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
_CLOSERS = {"(": ")", "[": "]", "{": "}"}
_FACTOR_STARTS = {
    "number", "symbol", "constant", "function", "command", "(", "{", "{{", "lfloor", "lceil",
    "begin", "mathbb", "unevaluated", "emptyset",
}  # fmt: skip
_UPRIGHT = {"union": "cup", "intersection": "cap", "without": "without"}


def parse(text: str, *, thousands: bool = True) -> Node:
    """The tree of an answer.

    Raises:
        Unparsable: when the text is no formula, list of formulas, or plain words.
        TooComplex: when it is too long or nested too deeply.
    """
    tokens = _stripped(Lexer(text, thousands=thousands).run())
    if not tokens:
        raise Unparsable("nothing there")
    parser = Parser(tokens)
    node = parser.list_until("end")
    if parser.kind != "end":
        raise Unparsable(f"something unexpected at {parser.token.text or parser.kind}")
    return node


def _stripped(tokens: list[Token]) -> list[Token]:
    """Without parentheses directly inside parentheses, and without pairs of minus signs."""
    doubled = _doubled(tokens)
    kept: list[Token] = []
    for index, token in enumerate(tokens):
        if index in doubled:
            continue
        if token.kind == "-" and len(kept) > 1 and kept[-1].kind == kept[-2].kind == "-":
            kept.pop()
        else:
            kept.append(token)
    return kept


def _doubled(tokens: list[Token]) -> set[int]:
    """Positions of each pair of parentheses that holds nothing but another pair."""
    opened: list[int] = []
    closes: dict[int, int] = {}
    doubled: set[int] = set()
    for index, token in enumerate(tokens):
        if token.kind == "(":
            opened.append(index)
        elif token.kind == ")" and opened:
            start = opened.pop()
            closes[start] = index
            if closes.get(start + 1) == index - 1:
                doubled |= {start, index}
    return doubled


class Parser:
    """One pass over the tokens; each method reads one level of precedence."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.position = 0
        self.depth = 0
        self.bars = 0

    @property
    def token(self) -> Token:
        return self.tokens[self.position] if self.position < len(self.tokens) else END

    @property
    def kind(self) -> str:
        return self.token.kind

    def take(self) -> Token:
        token = self.token
        self.position += 1
        return token

    def expect(self, kind: str) -> Token:
        if self.kind != kind:
            raise Unparsable(f"{self.token.text or self.kind} where {kind} was due")
        return self.take()

    def list_until(self, *closers: str) -> Node:
        """Items that separators part; one item without a separator is itself."""
        items: list[Node] = []
        while self.kind not in closers and self.kind != "end":
            if self.kind in ("sep", "newrow"):
                self.take()
                continue
            items.append(self.item())
            if self.kind not in ("sep", "newrow", "end", *closers):
                raise Unparsable(f"something unexpected at {self.token.text or self.kind}")
        return items[0] if len(items) == 1 else Node("list", tuple(items))

    def item(self) -> Node:
        """A relation, or one expression, less a label in words before it."""
        while self.kind == "relation" and self.token.text in ("=", "~="):
            self.take()
        operands, operators = [self.operand()], []
        while self.kind == "relation":
            operators.append(self.take().text)
            while self.kind == "relation":  # as in "= >"
                operators[-1] += self.take().text
            operands.append(self.operand())
        if not operators:
            return operands[0]
        return Node("relation", tuple(operands), " ".join(operators))

    def operand(self) -> Node:
        left = self.ratio()
        while self.kind in ("cup", "cap", "without"):
            kind = {"cup": "union", "cap": "intersection", "without": "without"}[self.take().kind]
            left = Node(kind, (left, self.ratio()))
        return left

    def ratio(self) -> Node:
        parts = [self.sum()]
        while self.kind == ":":
            self.take()
            parts.append(self.sum())
        if len(parts) == 1:
            return parts[0]
        if parts[0].kind == "words":  # a label
            return parts[1] if len(parts) == 2 else Node("ratio", tuple(parts[1:]))
        return Node("ratio", tuple(parts))

    def sum(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TooComplex(f"nested deeper than {MAX_DEPTH}")
        terms = [self.signed_term()]
        while self.kind in ("+", "-", "+-", "-+"):
            sign = self.take().kind
            term = self.signed_term()
            if sign in ("+-", "-+"):
                left = terms[0] if len(terms) == 1 else Node("add", tuple(terms))
                terms = [Node("plus_minus", (left, term), sign[0])]
            else:
                terms.append(Node("negate", (term,)) if sign == "-" else term)
        self.depth -= 1
        node = terms[0] if len(terms) == 1 else Node("add", tuple(terms))
        return self.with_unit(node)

    def with_unit(self, node: Node) -> Node:
        if self.kind != "words" or node.kind in ("words", "quantity"):
            return node
        unit = []
        while self.kind in ("words", "^") or (self.kind == "/" and unit):
            token = self.take()
            unit.append(token.text.lower() if token.kind == "words" else token.kind)
            if token.kind == "^":
                unit[-1] += self.power_text()
        return Node("quantity", (node,), " ".join(unit))

    def power_text(self) -> str:
        """The exponent of a unit."""
        braced = self.kind == "{"
        if braced:
            self.take()
        sign = self.take().kind if self.kind == "-" else ""
        text = sign + self.expect("number").text
        if braced:
            self.expect("}")
        return text

    def signed_term(self) -> Node:
        negative = False
        while self.kind in ("+", "-"):
            negative ^= self.take().kind == "-"
        if self.kind in ("+-", "-+"):
            sign = self.take().kind[0]
            node = Node("plus_minus", (self.term(),), sign)
        else:
            node = self.term()
        return Node("negate", (node,)) if negative else node

    def term(self) -> Node:
        node = self.factor()
        while True:
            if self.kind == "*":
                self.take()
                node = Node("multiply", (node, self.signed_factor()))
            elif self.kind == "/":
                self.take()
                if self.kind == "words":  # 5 dollars / hour
                    return Node("quantity", (node,), "/ " + self.words().name)
                node = Node("divide", (node, self.signed_factor()))
            elif self.starts_factor():
                node = self.product(node, self.factor())
            else:
                return node

    def signed_factor(self) -> Node:
        negative = False
        while self.kind in ("+", "-"):
            negative ^= self.take().kind == "-"
        node = self.factor()
        return Node("negate", (node,)) if negative else node

    def starts_factor(self) -> bool:
        return (
            self.kind in _FACTOR_STARTS
            or (self.kind == "|" and self.bars == 0)
            or (self.kind == "[" and self.bars == 0)
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
            return self.spaced_mixed(left, right)
        return Node("multiply", (left, right))

    def spaced_mixed(self, whole: Node, above: Node) -> Node:
        """``6 1/64``; two numbers side by side mean nothing else."""
        if self.kind == "/" and not whole.name and not above.name:
            self.take()
            below = self.factor()
            if below.kind == "number" and (above.number or 0) < (below.number or 0):
                return Node("group", (Node("add", (whole, Node("divide", (above, below)))),))
        raise Unparsable("two numbers side by side")

    def factor(self) -> Node:
        """A primary with its postfixes and its exponent."""
        node = self.primary()
        while True:
            if self.kind == "!":
                self.take()
                node = Node("factorial", (node,))
            elif self.kind == "%":
                self.take()
                node = Node("percent", (node,))
            elif self.kind == "'":
                self.take()
                if node.kind == "number":
                    raise Unparsable("a prime after a number")
                node = Node("symbol", name=f"{node.name}'") if node.kind == "symbol" else node
            elif self.kind == "_":
                self.take()
                node = self.indexed(node)
            elif self.kind == "command" and self.token.text == "circ":
                self.take()
                node = Node("degrees", (node,))
            elif self.kind == "^":
                self.take()
                node = self.raised(node)
            else:
                return node

    def raised(self, base: Node) -> Node:
        braced = self.kind == "{"
        if braced:
            self.take()
            if self.kind == "}":
                raise Unparsable("an empty exponent")
        if self.kind == "command" and self.token.text == "circ":
            self.take()
            node = Node("degrees", (base,))
        elif self.kind == "words" and self.token.text in ("th", "st", "nd", "rd"):
            self.take()
            node = base
        elif self.kind == "'":
            while self.kind == "'":
                self.take()
            node = Node("symbol", name=f"{base.name}'") if base.kind == "symbol" else base
        elif braced:
            node = Node("power", (base, self.sum()))
        else:
            return Node("power", (base, self.exponent()))
        if braced:
            self.expect("}")
        return node

    def exponent(self) -> Node:
        """An exponent without braces, which binds to the right: a^b^c is a^(b^c)."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TooComplex(f"nested deeper than {MAX_DEPTH}")
        negative = False
        while self.kind in ("+", "-"):
            negative ^= self.take().kind == "-"
        node = self.primary()
        if self.kind == "!":
            self.take()
            node = Node("factorial", (node,))
        if self.kind == "^":
            self.take()
            node = self.raised(node)
        self.depth -= 1
        return Node("negate", (node,)) if negative else node

    def indexed(self, node: Node) -> Node:
        """A subscript: the base of a number's digits, or part of a symbol's name."""
        index = self.index_text()
        inner = node.args[0] if node.kind == "group" else node
        if inner.kind == "number" and index.isdigit() and len(index) < 4:
            digits = inner.name or str(inner.number)
            return Node("based", name=digits, number=Fraction(int(index)))
        if node.kind == "symbol":
            return Node("symbol", name=f"{node.name}_{index}")
        if node.kind == "constant":
            return Node("symbol", name=f"{node.name}_{index}")
        raise Unparsable("a subscript of something that is no symbol")

    def index_text(self) -> str:
        if self.kind != "{":
            return self.take().text
        self.take()
        parts = []
        while self.kind not in ("}", "end"):
            token = self.take()
            parts.append(token.text or token.kind)
        self.expect("}")
        return "".join(parts)

    def primary(self) -> Node:
        token = self.take()
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
            case "unevaluated":
                return self.unevaluated(token.text)
            case "words":
                self.position -= 1
                return self.words()
            case "mathbb":
                return self.blackboard(token.text)
            case "emptyset":
                return Node("set")
            case "begin":
                return self.environment(token.text)
            case "(" | "[":
                return self.bracketed(token.kind)
            case "{":
                node = self.list_until("}")
                self.expect("}")
                return Node("group", (node,))
            case "{{":
                return self.set()
            case "|":
                return self.enclosed("abs", "|")
            case "lfloor":
                return self.enclosed("floor", "rfloor")
            case "lceil":
                return self.enclosed("ceil", "rceil")
            case "]":  # ]a,b[
                return self.reversed_interval()
        raise Unparsable(f"{token.text or token.kind} where a value was due")

    def number(self, token: Token) -> Node:
        text = token.text
        value = Fraction(text) if abs(_exponent(text)) < 400 else None
        if value is None:
            raise TooComplex("a number with a large exponent")
        if self.kind == "command" and self.token.text == "overline" and "." in text + ".":
            return self.repeating(text)
        decimal = text if re.search(r"[.eE]", text) else ""
        return Node("number", name=decimal, number=value)

    def repeating(self, text: str) -> Node:
        """``0.1\\overline{6}`` as an exact fraction."""
        self.take()
        self.expect("{")
        cycle = self.expect("number").text
        self.expect("}")
        whole, _, fixed = text.partition(".")
        shift = 10 ** len(fixed)
        tail = Fraction(int(cycle), (10 ** len(cycle) - 1) * shift)
        return Node("number", number=Fraction(int(whole + fixed), shift) + tail)

    def words(self) -> Node:
        found = []
        while self.kind == "words":
            found.append(self.take().text)
        return Node("words", name=" ".join(found).lower())

    def call(self, name: str) -> Node:
        """A function and its argument, in parentheses or not; ``\\sin^2 x``, ``\\sin^{-1} x``."""
        if name == "sqrt":
            return self.root()
        power = base = None
        while self.kind in ("^", "_"):
            if self.take().kind == "_":
                base = self.argument()
            else:
                power = self.argument() if self.kind == "{" else self.exponent()
        if self.kind in ("(", "{", "[", "|", "lfloor", "lceil"):
            inner = bare_list(self.primary())
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
        negative = self.kind == "-" and bool(self.take())
        node = self.factor()
        while self.starts_factor() and self.kind not in ("function", "(", "[", "{", "|"):
            node = self.product(node, self.factor())
        if self.kind == "/" and node.kind in ("number", "symbol", "constant", "multiply"):
            following = self.tokens[self.position + 1 : self.position + 2]
            if following and following[0].kind == "number":  # \sin \pi/6
                self.take()
                node = Node("divide", (node, self.factor()))
        return Node("negate", (node,)) if negative else node

    def root(self) -> Node:
        index = None
        if self.kind == "[":
            self.take()
            index = self.sum()
            self.expect("]")
        inside = self.argument()
        args = (inside,) if index is None else (inside, index)
        return Node("call", args, "root")

    def argument(self) -> Node:
        """One argument of a command: a group in braces, or the next thing."""
        if self.kind == "{":
            self.take()
            node = self.sum()
            self.expect("}")
            return node
        if self.kind == "(":
            return self.primary()
        if self.kind == "-":
            self.take()
            return Node("negate", (self.primary(),))
        return self.primary()

    def digit_argument(self) -> Node:
        """As :meth:`argument`, but of a bare number only its first digit, as in ``\\frac34``."""
        token = self.token
        if token.kind == "number" and len(token.text) > 1 and token.text.isdigit():
            self.tokens[self.position] = Token("number", token.text[1:])
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
                inner = self.index_text() if self.kind == "{" else self.take().text
                return Node("symbol", name=f"overline_{inner}")
        raise Unparsable(f"\\{name} in this place")

    def unevaluated(self, name: str) -> Node:
        """An operation that is left to be done; what it is done to does not matter."""
        depth = 0
        while self.kind != "end":
            if self.kind in ("sep", "relation") and depth == 0:
                break
            if self.kind in (")", "]", "}") and depth == 0:
                break
            depth += (self.kind in ("(", "[", "{")) - (self.kind in (")", "]", "}"))
            self.take()
        return Node("unevaluated", name=name)

    def blackboard(self, letter: str) -> Node:
        name = f"mathbb_{letter.strip()}"
        if self.kind in ("^", "_"):
            name += self.take().kind + self.index_text()
        return Node("symbol", name=name)

    def environment(self, name: str) -> Node:
        if name == "cases" or name.startswith("align") or name.startswith("gather"):
            node = self.list_until("end_environment")
            raise Unparsable(f"{name} environments") if node else Unparsable(name)
        if name not in _MATRICES:
            raise Unparsable(f"the environment {name}")
        if name == "array" and self.kind == "{":
            self.index_text()
        rows: list[Node] = []
        entries: list[Node] = []
        while True:
            match self.kind:
                case "&":
                    self.take()
                case "newrow":
                    self.take()
                    rows, entries = [*rows, Node("row", tuple(entries))] if entries else rows, []
                case "end":
                    if self.take().text != name:
                        raise Unparsable(f"no end of {name}")
                    break
                case _:
                    entries.append(self.sum())
        if entries:
            rows.append(Node("row", tuple(entries)))
        if not rows:
            raise Unparsable("an empty matrix")
        if name in ("vmatrix", "Vmatrix"):
            return Node("unevaluated", name="det")
        return Node("matrix", tuple(rows))

    def bracketed(self, opening: str) -> Node:
        bars, self.bars = self.bars, 0
        node = self.list_until(")", "]")
        self.bars = bars
        if self.kind not in (")", "]"):
            raise Unparsable("a bracket that nothing closes")
        brackets = opening + self.take().kind
        if node.kind == "list":
            return Node("tuple", node.args, brackets)
        if brackets in ("()", "[]"):
            return Node("group", (node,))
        raise Unparsable(f"one value between {brackets}")

    def reversed_interval(self) -> Node:
        node = self.list_until("[")
        self.expect("[")
        if node.kind != "list" or len(node.args) != 2:
            raise Unparsable("a bracket in a strange place")
        return Node("tuple", node.args, "()")

    def set(self) -> Node:
        bars, self.bars = self.bars, 1
        node = self.list_until("}}", "|", ":")
        self.bars = 0
        if node.kind == "ratio" and self.kind == "}}":  # {x : x > 0}
            head, condition = node.args[0], Node("list", node.args[1:])
            node = Node("such_that", (head, condition))
        elif node.kind == "relation" and node.args[0].kind == "ratio":
            head, first = node.args[0].args[0], node.args[0].args[-1]
            condition = Node("relation", (first, *node.args[1:]), node.name)
            node = Node("such_that", (head, condition))
        elif self.kind in ("|", ":"):
            self.take()
            node = Node("such_that", (node, self.list_until("}}")))
        elif node.kind == "list":
            node = Node("set", node.args)
        else:
            node = Node("set", (node,))
        self.bars = bars
        self.expect("}}")
        return node

    def enclosed(self, name: str, closer: str) -> Node:
        self.bars += 1
        inner = self.sum()
        self.bars -= 1
        self.expect(closer)
        return Node("call", (inner,), name)


def bare_list(node: Node) -> tuple[Node, ...]:
    """The arguments in a parenthesised call."""
    if node.kind in ("tuple", "list"):
        return node.args
    return node.args if node.kind == "group" else (node,)


def _plain(node: Node) -> Node:
    return node.args[0] if node.kind == "group" else node


def _exponent(text: str) -> int:
    _, _, exponent = text.lower().partition("e")
    return int(exponent or 0)
