"""From the text of an answer, in LaTeX or plain, to tokens."""

from __future__ import annotations

import re
from typing import NamedTuple

from rewards.maths.tree import TooComplex, Unparsable

MAX_CHARS = 8_000
MAX_TOKENS = 8_000
MAX_DIGITS = 400

FUNCTIONS = {
    "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "arccot", "arcsec",
    "arccsc", "sinh", "cosh", "tanh", "coth", "ln", "log", "lg", "exp", "max", "min", "sqrt",
    "cis",
}  # fmt: skip
ALIASES = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "tg": "tan", "ctg": "cot",
           "cosec": "csc", "arctg": "arctan"}  # fmt: skip
UNEVALUATED = {
    "int", "iint", "iiint", "oint", "sum", "prod", "lim", "limsup", "liminf", "det", "bmod", "pmod",
    "mod", "gcd", "lcm", "integrate", "limit", "coprod", "partial", "nabla", "argmax", "argmin",
    "sup", "inf", "rem", "diff", "solve", "bigcup", "bigcap", "dim", "ker", "deg", "Pr", "hcf",
}  # fmt: skip
CONSTANTS = {"pi": "pi", "infty": "infinity", "infinity": "infinity", "oo": "infinity"}
UNITS = {
    "mm", "cm", "km", "kg", "mg", "ml", "mL", "ft", "in", "yd", "mi", "lb", "lbs", "oz", "hr",
    "hrs", "min", "sec", "mph", "kmh", "USD", "usd", "Hz", "cents", "cent", "inch", "foot", "feet",
    "mile",
    "yard", "day", "days", "week", "year", "hour", "am", "pm", "sq", "rad",
}  # fmt: skip
WORDS = {"yes", "no", "odd", "even", "the", "for", "all", "if", "is", "are", "none", "any", "true",
         "per", "of", "not"} | UNITS  # fmt: skip
RELATIONS = {
    "le": "<=", "leq": "<=", "leqslant": "<=", "leqq": "<=", "lt": "<", "ge": ">=", "geq": ">=",
    "geqslant": ">=", "geqq": ">=", "gt": ">", "ne": "!=", "neq": "!=", "in": "in", "equiv": "==",
    "approx": "~=", "simeq": "~", "sim": "~", "to": "->", "rightarrow": "->", "mapsto": "->",
    "implies": "=>", "Rightarrow": "=>", "iff": "<=>", "Leftrightarrow": "<=>", "subset": "sub",
    "subseteq": "sube", "perp": "perp", "parallel": "par", "cong": "cong", "notin": "notin",
    "propto": "prop", "doteq": "=", "coloneqq": "=",
}  # fmt: skip
_SKIPPED = {
    "left", "right", "big", "Big", "bigg", "Bigg", "bigl", "bigr", "Bigl", "Bigr", "biggl", "biggr",
    "middle", "displaystyle", "textstyle", "scriptstyle", "limits", "nolimits", "quad", "qquad",
    "rm", "it", "bf", "mathstrut", "strut", "hfill", "newline", "thinspace", "phantom", "relax",
    "boldmath",
}  # fmt: skip
_TEXT = {"text", "textbf", "textit", "textrm", "mbox", "hbox", "textnormal", "emph", "texttt",
         "textsf"}  # fmt: skip
_LETTERS = {"mathrm", "mathbf", "mathit", "mathsf", "boldsymbol", "operatorname", "mathcal", "bm",
            "vec", "hat", "bar", "tilde", "mathfrak", "widehat", "overrightarrow", "mathscr",
            "underline", "boxed", "fbox", "ensuremath"}  # fmt: skip
_OPERATORS = {
    "cdot": "*", "times": "*", "ast": "*", "cdotp": "*", "div": "/", "pm": "+-", "mp": "-+",
    "cup": "cup", "cap": "cap", "setminus": "without", "backslash": "without", "mid": "|",
    "vert": "|", "lvert": "|", "rvert": "|", "lbrace": "{{", "rbrace": "}}", "colon": ":",
    "lfloor": "lfloor", "rfloor": "rfloor", "lceil": "lceil", "rceil": "rceil", "prime": "'",
    "lparen": "(", "rparen": ")", "lbrack": "[", "rbrack": "]", "wedge": "sep", "land": "sep",
    "lor": "sep", "langle": "(", "rangle": ")", "slash": "/",
}  # fmt: skip
_DOTS = {"dots", "ldots", "cdots", "dotsc", "dotsb", "dotsm", "dotso"}
_ACCENTED = re.compile(r"\\?([A-Za-z]+)(_(?:\w|\{\w+\}))?")
_UNICODE = {
    "π": r"\pi ", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ", "−": "-",
    "–": "-", "—": "-", "÷": r"\div ", "≤": r"\le ", "≥": r"\ge ", "⩽": r"\le ", "⩾": r"\ge ",
    "≠": r"\ne ", "∞": r"\infty ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "√": r"\sqrt ",
    "°": r"^\circ ", "±": r"\pm ", "∓": r"\mp ", "∅": r"\emptyset ", "²": "^2 ", "³": "^3 ",
    "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "≈": r"\approx ",
    "→": r"\to ", "⟨": "(", "⟩": ")", "′": "'", "’": "'", "θ": r"\theta ", "α": r"\alpha ",
    "β": r"\beta ", "∫": r"\int ", "∑": r"\sum ", "∏": r"\prod ", "ℝ": r"\mathbb{R}",
    "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}",
}  # fmt: skip
_UNICODE |= {chr(0x2460 + index): f", {index + 1}, " for index in range(20)}
_IN_ASCII = str.maketrans(_UNICODE)

_JOINED = re.compile(r"(?<=\d),\s*\\!\s*(?=\d{3})|(?<=\d)\\,(?=\d{3}(?!\d))")
_DOUBLED = re.compile(r"\\\\(?=[A-Za-z])")
_SPACING = re.compile(
    r"(?<!\\)\\[,;:! ()\[\]]|\\(?=\n)|~|\\\$|\$|€|£|¥|\\hspace\{[^{}]*\}|\\label\{[^{}]*\}"
)
_NUMBER = re.compile(r"\d+(?:\.\d+)?|\.\d+")
_GROUPED = re.compile(
    r"(?<!\d,)(?:\d{1,3}(?:,\d{3})+|\d{1,2}(?:,\d{2})+,\d{3})(?!\d|,\d)(?:\.\d+)?"
)
_SCIENTIFIC = re.compile(r"(\d+\.\d+[eE][-+]?\d{1,4}|\d+E[-+]?\d{1,4}|\d+e[-+]\d{2,4})(?![\w.])")
_COMMAND = re.compile(r"\\([A-Za-z]+)\*?")
_RUN = re.compile(r"[A-Za-z]+")
_ORDINAL = re.compile(r"(?:\^\s*\{?\s*)?(?:\\(?:text|mathrm)\s*\{\s*)?(?:st|nd|rd|th)\b(?:\s*\})*")
_DERIVATIVE = re.compile(r"\s*\{\s*(?:d|\\partial)\b[^{}]*\}\s*\{\s*(?:d|\\partial)")
_TEXT_WORD = re.compile(r"[A-Za-z][A-Za-z'’\-.]*[A-Za-z.]|[A-Za-z]")


class Token(NamedTuple):
    """`kind` is number, symbol, constant, function, words, relation, command, unevaluated, sep,
    or, for everything else, the operator itself."""

    kind: str
    text: str = ""


class Lexer:
    """Splits one answer into tokens. With `thousands`, ``1,000`` outside brackets is one number."""

    def __init__(self, text: str, *, thousands: bool = True) -> None:
        if len(text) > MAX_CHARS:
            raise TooComplex(f"longer than {MAX_CHARS} characters")
        if not text.isascii():
            text = text.translate(_IN_ASCII)
        if "," in text:
            text = _JOINED.sub("", text.replace("{,}", ",\\!"))
        if "\\\\" in text and "\\begin" not in text:
            text = _DOUBLED.sub(r"\\", text)
        self.text = _SPACING.sub(" ", text).rstrip().rstrip("^_")
        self.thousands = thousands
        self.position = 0
        self.depth = 0
        self.tokens: list[Token] = []

    def run(self) -> list[Token]:
        """All tokens.

        Raises:
            Unparsable: at a character that has no meaning in an answer.
            TooComplex: when there are too many tokens or digits.
        """
        while self.position < len(self.text):
            if self.text[self.position].isspace():
                self.position += 1
                continue
            self._next()
            if len(self.tokens) > MAX_TOKENS:
                raise TooComplex(f"more than {MAX_TOKENS} parts")
        return self.tokens

    def _add(self, kind: str, text: str = "") -> None:
        self.tokens.append(Token(kind, text))

    def _next(self) -> None:
        character = self.text[self.position]
        if character.isdigit() or character == ".":
            self._number()
        elif character == "\\":
            self._command()
        elif character.isalpha() and character.isascii():
            self._letters()
        else:
            self._punctuation(character)

    def _number(self) -> None:
        match = _SCIENTIFIC.match(self.text, self.position)
        if match is None and self.thousands and self.depth == 0 and "," in self.text:
            match = _GROUPED.match(self.text, self.position)
        match = match or _NUMBER.match(self.text, self.position)
        if match is None:  # a full stop, or three dots
            self.position += 1
            if self.text[self.position :].strip(" .}"):
                raise Unparsable("a full stop inside")
            return
        if len(match[0]) > MAX_DIGITS:
            raise TooComplex(f"a number of more than {MAX_DIGITS} digits")
        self.position = match.end()
        self._add("number", match[0].replace(",", ""))
        ordinal = _ORDINAL.match(self.text, self.position)
        if ordinal:
            self.position = ordinal.end()

    def _letters(self) -> None:
        match = _RUN.match(self.text, self.position)
        assert match is not None
        run = match[0]
        self.position = match.end()
        known = self._known(run)
        if known:
            return
        if len(run) > 3 or run in WORDS or (run.lower() in WORDS and len(run) > 1):
            self._add("words", run)
            return
        for letter in run:
            self._add("constant" if letter in "ei" else "symbol", letter)

    def _known(self, name: str) -> bool:
        """Add the token of a name that means something, in a formula or as plain letters."""
        name = ALIASES.get(name, name)
        if name in CONSTANTS:
            self._add("constant", CONSTANTS[name])
        elif name in FUNCTIONS:
            self._add("function", name)
        elif name in ("and", "or"):
            self._add("sep", name)
        elif name in ("inf", "Inf") and not self.text.startswith(
            "\\", self.position - len(name) - 1
        ):
            self._add("constant", "infinity")
        elif name in UNEVALUATED and name not in ("inf", "deg"):
            self._add("unevaluated", name)
        elif name in ("union", "cup"):
            self._add("cup")
        else:
            return False
        return True

    def _command(self) -> None:
        if self.text.startswith("\\\\", self.position):
            self.position += 2
            self._add("newrow")
            return
        match = _COMMAND.match(self.text, self.position)
        if match is None:
            self._escaped()
            return
        name = match[1]
        self.position = match.end()
        if name in _SKIPPED:
            if name in ("left", "right") and self.text.startswith(".", self.position):
                self.position += 1
        elif name in _TEXT:
            self._text_content()
        elif name in _LETTERS:
            self._letter_content()
        elif name in ("begin", "end", "mathbb"):
            self._add(name, self._braced())
        elif name in _OPERATORS:
            self._operator(_OPERATORS[name], "or" if name == "lor" else "")
        elif name in RELATIONS:
            self._add("relation", RELATIONS[name])
        elif name in ("frac", "dfrac", "tfrac", "cfrac"):
            self._fraction()
        elif not self._known(name):
            self._other_command(name)

    def _accent(self, name: str) -> None:
        """A symbol with dots over it, of which an index may stand inside or after the braces."""
        content = self._braced().strip()
        if content == "\\":  # \dot\theta
            command = _RUN.match(self.text, self.position)
            content += command[0] if command else ""
            self.position += len(content) - 1
        match = _ACCENTED.fullmatch(content)
        if match is None:
            raise Unparsable(f"\\{name} over {content}")
        self._add("symbol", f"{name} {match[1]}")
        if match[2]:
            self.tokens.extend(Lexer(match[2]).run())

    def _fraction(self) -> None:
        if _DERIVATIVE.match(self.text, self.position, self.position + 60):
            self._add("unevaluated", "derivative")
        self._add("command", "frac")

    def _other_command(self, name: str) -> None:
        if name in ("binom", "dbinom", "tbinom", "sqrt", "overline", "circ"):
            self._add("command", name.removeprefix("d").removeprefix("t"))
        elif name in ("emptyset", "varnothing"):
            self._add("emptyset")
        elif name in _DOTS:
            self._add("dots")
        elif name in ("dot", "ddot"):
            self._accent(name)
        else:
            self._add("symbol", name.removeprefix("var"))

    def _escaped(self) -> None:
        character = self.text[self.position + 1 : self.position + 2]
        self.position += 2
        if character in ("{", "}"):
            self._operator(character * 2)
        elif character == "|":
            self._add("|")
        elif character == "%":
            self._add("%")
        elif character and character not in "#&_":
            raise Unparsable(f"\\{character}")

    def _operator(self, operator: str, text: str = "") -> None:
        self._add(operator, text)
        self.depth += (operator in ("(", "[", "{{")) - (operator in (")", "]", "}}"))

    def _punctuation(self, character: str) -> None:
        two = self.text[self.position : self.position + 2]
        self.position += 1
        if two in ("<=", ">=", "!=", "==") and not (two == "!=" and self._after_factorial()):
            self.position += 1
            self._add("relation", "=" if two == "==" else two)
        elif two == "**":
            self.position += 1
            self._add("^")
        elif character in "=<>":
            self._add("relation", character)
        elif character in ",;":
            self._add("sep", character)
        elif character in "()[]":
            self._operator(character)
        elif character in "+-*/^_{}|:!%&'":
            self._add(character)
        elif character == "?" and self.text[self.position :].strip(" .}"):
            raise Unparsable("a question mark inside")
        elif character not in '"`?':
            raise Unparsable(f"the character {character!r}")

    def _after_factorial(self) -> bool:
        """Whether ``!=`` is a factorial and an equals sign: it is when no space precedes it."""
        before = self.text[self.position - 2 : self.position - 1]
        return before.isalnum() or before == ")"

    def _braced(self) -> str:
        """The text between the braces that follow, or the one character there."""
        while self.position < len(self.text) and self.text[self.position].isspace():
            self.position += 1
        if not self.text.startswith("{", self.position):
            self.position += 1
            return self.text[self.position - 1 : self.position]
        depth, start = 0, self.position + 1
        for index in range(self.position, len(self.text)):
            depth += (self.text[index] == "{") - (self.text[index] == "}")
            if depth == 0:
                self.position = index + 1
                return self.text[start:index]
        raise Unparsable("a brace that nothing closes")

    def _letter_content(self) -> None:
        """``\\mathrm{...}`` and the like: a name, one letter, or a formula."""
        content = self._braced()
        name = re.sub(r"\s+", "", content)
        if re.fullmatch(r"[A-Za-z]{2,}", name):
            unit = name in ("min", "sec") and self._after_value()
            if unit or not self._known(name):
                self._add("words", name)
        else:
            self.tokens.extend(Lexer(content, thousands=self.thousands).run())

    def _after_value(self) -> bool:
        """Whether a number stands before this place, and no argument of a function after it."""
        rest = self.text[self.position : self.position + 20].lstrip()
        return (
            bool(self.tokens)
            and self.tokens[-1].kind in ("number", "}")
            and rest[:1] not in tuple("([{_\\")
        )

    def _text_content(self) -> None:
        """``\\text{...}``: words, with numbers, separators and brackets among them."""
        content = self._braced().replace("{", " ").replace("}", " ")
        index = 0
        while index < len(content):
            number = _NUMBER.match(content, index)
            word = _TEXT_WORD.match(content, index)
            if number:
                self._add("number", number[0])
                index = number.end()
            elif word:
                self._word(word[0])
                index = word.end()
            else:
                character = content[index]
                index += 1
                if character in ",;":
                    self._add("sep", character)
                elif character in "()[]":
                    self._operator(character)
                elif character in "+-*/^=<>:%$":
                    sub = Lexer(character).run()
                    self.tokens.extend(sub)

    def _word(self, word: str) -> None:
        if word in ("and", "or"):
            self._add("sep", word)
        elif word in FUNCTIONS and word not in ("min", "sec"):
            self._add("function", word)
        elif len(word) == 1 and word not in "mgshlLNJWVK":
            self._add("symbol", word)
        else:
            self._add("words", word.rstrip("."))
