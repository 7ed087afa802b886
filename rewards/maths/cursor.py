"""A place in an answer's tokens, which its parsers share and move on."""

from __future__ import annotations

from collections.abc import Sequence

from rewards.maths.lexer import Token
from rewards.maths.tree import TooComplex, Unparsable

MAX_DEPTH = 60
END = Token("end")


class Cursor:
    """The token to be read next, how deeply it is nested, and how many bars stand open."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = [*tokens, END]
        self._position = 0
        self.depth = 0
        self.bars = 0
        self.token = self._tokens[0]
        self.kind = self.token.kind
        """The kind of the next token; ``end`` after the last one."""

    @property
    def following(self) -> Token:
        """The token after the next one."""
        return self._tokens[min(self._position + 1, len(self._tokens) - 1)]

    def take(self) -> Token:
        """The next token, which is read with this."""
        token = self.token
        if token is not END:
            self._position += 1
            self.replace(self._tokens[self._position])
        return token

    def replace(self, token: Token) -> None:
        """Let the next token be another one."""
        self.token, self.kind = token, token.kind

    def expect(self, kind: str) -> Token:
        """Take a token of this kind.

        Raises:
            Unparsable: when the next one is of another.
        """
        if self.kind != kind:
            raise Unparsable(f"{self.token.text or self.kind} where {kind} was due")
        return self.take()

    def enter(self) -> None:
        """Go one level deeper; the caller lowers `depth` when it is done.

        Raises:
            TooComplex: beyond ``MAX_DEPTH`` levels.
        """
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TooComplex(f"nested deeper than {MAX_DEPTH}")


def without_doubles(tokens: Sequence[Token]) -> Sequence[Token]:
    """Without parentheses directly inside parentheses, and without pairs of minus signs."""
    kinds = [token.kind for token in tokens]
    if kinds.count("(") < 2 and kinds.count("-") < 2:
        return tokens
    doubles = _doubles(tokens)
    rest: list[Token] = []
    for index, token in enumerate(tokens):
        if index in doubles:
            continue
        if token.kind == "-" and len(rest) > 1 and rest[-1].kind == rest[-2].kind == "-":
            rest.pop()
        else:
            rest.append(token)
    return rest


def _doubles(tokens: Sequence[Token]) -> set[int]:
    """Positions of each pair of parentheses that holds nothing but another pair."""
    openings: list[int] = []
    closings: dict[int, int] = {}
    doubles: set[int] = set()
    for index, token in enumerate(tokens):
        if token.kind == "(":
            openings.append(index)
        elif token.kind == ")" and openings:
            start = openings.pop()
            closings[start] = index
            if closings.get(start + 1) == index - 1:
                doubles |= {start, index}
    return doubles
