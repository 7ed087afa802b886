"""Answers in words: sets that have names, choices with their values, sentences."""

from __future__ import annotations

import re

_COMMAND = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mbox|operatorname)\s?\{([^{}]*)\}")
_LAYOUT = re.compile(r"\\[,;:! ]|\\q?quad\b|[$~]")
_THING = (
    r"(?:solutions?|roots?|values?|answers?|zeros?|numbers?|integers?|pairs?|triples?|functions?)"
)
_SORT = r"(?:(?:real|integer|integral|rational|complex|positive|valid|possible|such) ){0,3}"
_EMPTY = re.compile(
    rf"(?:there (?:is|are|exists?) )?no {_SORT}{_THING}(?: [a-z]| \([a-z], ?[a-z]\))?(?: exists?)?"
    r"|(?:the )?(?:equation|system|inequality) has no (?:real )?solutions?"
    r"|(?:the )?(?:empty|null) set|none|(?:本?方程|不等式)?无(?:实数)?解|没有(?:实数)?解|空集"
)
_EVERY = re.compile(
    r"(?:[a-z] (?:is|can be|may be) |for )?(?:(?:all|any|every|each)(?: of)? "
    r"|(?:the )?set of (?:all )?)?(?:the )?"
    r"(?P<sort>(?:positive |negative |non-?negative |non-?positive |non-?zero |nonzero )?"
    r"(?:reals?|integers?|natural|rationals?|complex))"
    r"(?: numbers?| values?)?(?: of [a-z]| [a-z])?"
    r"(?: (?:except|other than|but)(?: for)? (?:[a-z] ?= ?)?(?P<less>(?:[^a-z]|\band\b){1,40}?))?"
)
_COMPARED = {
    "greater than": ">", "more than": ">", "larger than": ">", "less than": "<",
    "smaller than": "<", "greater than or equal to": "\\ge", "less than or equal to": "\\le",
    "at least": "\\ge", "at most": "\\le",
}  # fmt: skip
_BOUNDED = re.compile(
    r"(?:all|every|any|the set of all) (?:the )?real numbers? "
    r"(?:(?:such that|with|where|for which) )?"
    r"(?:(?P<relation>[a-z] ?(?:[<>]=?|\\(?:le|ge|leq|geq|lt|gt|neq?)\b) ?[^a-z]{1,20})"
    rf"|(?:[a-z] )?(?P<words>{'|'.join(sorted(_COMPARED, key=len, reverse=True))})"
    r" (?P<end>[^a-z]{1,20}))"
)
_CHINESE = re.compile(
    r"(?:所有|全体|任意|一切)(?:的)?(实数|整数|正整数|自然数|有理数|复数|正实数)|(实数)集"
)
_SETS = {
    "real": r"\mathbb{R}", "integer": r"\mathbb{Z}", "positive integer": r"\mathbb{Z}^+",
    "natural": r"\mathbb{N}", "rational": r"\mathbb{Q}", "complex": r"\mathbb{C}",
    "positive real": r"(0,\infty)", "negative real": r"(-\infty,0)",
    "nonnegative real": r"[0,\infty)", "nonpositive real": r"(-\infty,0]",
    "nonzero real": r"\mathbb{R} \setminus \{0\}", "实数": r"\mathbb{R}", "整数": r"\mathbb{Z}",
    "正整数": r"\mathbb{Z}^+", "自然数": r"\mathbb{N}", "有理数": r"\mathbb{Q}",
    "复数": r"\mathbb{C}", "正实数": r"(0,\infty)",
}  # fmt: skip
_LONG_WORD = re.compile(r"(?<!\\)\b[A-Za-z]{4}|[^\x00-\x7f]")
_LETTER = re.compile(
    r"\s*(?:\\(?:text|textbf|textrm|mathrm|mathbf|mbox|bf|rm)\s?\{\s{0,3}\(\s?([A-J])\s?\)\s{0,3}\}"
    r"|\(\s?\\(?:text|textbf|textrm|mathrm|mathbf|mbox)\s?\{\s?([A-J])\s?\}\s?\)"
    r"|\(([A-J])\)(?=\s|\\[ ,;q~]|~))"
    r"(?:\\[ ,;:]|\\q?quad\b|[\s~:])*(?P<value>\S.*)",
    re.DOTALL,
)
_LONE_LETTER = re.compile(r"\(?([A-J])\)?\.?")
_ANY_LETTER = re.compile(r"\(\s?[A-J]\s?\)|\\text(?:bf)?\s?\{\s?\(?[A-J]\b")
_YES_NO = re.compile(r"(yes|no)(?:$|[,.;:!](?!.*\b(?:yes|no|or|but|maybe|perhaps)\b))")
_SEVERAL = re.compile(r"[\s($]*[A-J][\s)]*(?:(?:,|and|\s)*[\s(]*[A-J][\s)]*){1,9}[$.]?\s*")
_DETERMINERS = {"the", "a", "an", "any", "every", "each", "it", "is"}
_RESERVES = re.compile(
    r"\b(?:not|no|never|neither|nor|or|and|but|if|unless|except|only|than|both|either|none|cannot|"
    r"most|least|some|half|all|false|wrong|impossible|between|when|where)\b|n['’]t\b|\bnon|[,;:/&=<>]"
)
SENTENCE_WORDS = 5
NAME_WORDS = 2


def words_of(text: str) -> str:
    """`text` in lower case without commands of layout and writing, and without a full stop."""
    text = _LAYOUT.sub(" ", _COMMAND.sub(r" \1 ", text.replace("{{", "{").replace("}}", "}")))
    return " ".join(text.lower().split()).strip(" .!")


def named_set(text: str) -> str | None:
    """The formula of a set that has a name, else None.

    >>> named_set("\\\\text{no real solutions}"), named_set("all real numbers except 2")
    ('\\\\emptyset', '\\\\mathbb{R} \\\\setminus \\\\{2\\\\}')
    """
    if len(text) > 120 or not _LONG_WORD.search(text):
        return None
    words = words_of(text)
    if _EMPTY.fullmatch(words):
        return r"\emptyset"
    chinese = _CHINESE.fullmatch(words.strip("。"))
    if chinese:
        return _SETS[chinese[1] or chinese[2]]
    bounded = _BOUNDED.fullmatch(words)
    if bounded:
        return bounded["relation"] or f"x {_COMPARED[bounded['words']]} {bounded['end']}"
    match = _EVERY.fullmatch(words)
    if match is None or words in ("real", "integer", "rational", "complex", "natural"):
        return None
    sort = match["sort"].replace("non-", "non").removesuffix("s")
    if sort not in _SETS:
        return None
    points = match["less"] and match["less"].replace("and", ",")
    less = f" \\setminus \\{{{points}\\}}" if points else ""
    return _SETS[sort] + less


def letter_and_value(text: str) -> tuple[str, str] | None:
    """Letter and value of an answer such as ``\\textbf{(C)}\\ 24``; None where it has not both."""
    if "(" not in text[:20]:
        return None
    match = _LETTER.fullmatch(text.strip().strip("$"))
    if match is None or _ANY_LETTER.search(match["value"]):
        return None
    return match[1] or match[2] or match[3], match["value"]


def lone_letter(text: str) -> str | None:
    """The letter that is all of an answer: ``C``, ``(C)``, ``\\textbf{(C)}``."""
    bare = _LAYOUT.sub(" ", _COMMAND.sub(r" \1 ", text)).replace(" ", "")
    match = _LONE_LETTER.fullmatch(bare)
    return match[1] if match else None


def yes_or_no(text: str) -> str | None:
    """``yes`` or ``no`` where an answer is that, or begins with it and a reason.

    >>> yes_or_no("\\\\text{No, it is not possible}"), yes_or_no("Yes or no"), yes_or_no("None")
    ('no', None, None)
    """
    match = _YES_NO.match(words_of(text)) if len(text) < 200 else None
    return match[1] if match else None


def choices(text: str) -> frozenset[str] | None:
    """The letters of several choices, such as ``A, C`` or ``AC``; None for anything else."""
    match = _SEVERAL.fullmatch(_COMMAND.sub(r" \1 ", text)) if len(text) < 60 else None
    return frozenset(re.findall(r"[A-J]", text.replace("and", ""))) if match else None


_SAYING = re.compile(r" (?:is|was|will)\b")


def concludes(sentence: str, name: str) -> bool:
    """Whether "the ... is NAME" is all that a sentence says.

    >>> concludes("The sequence is decreasing.", "decreasing")
    True
    >>> concludes("The sequence is not decreasing.", "decreasing")
    False
    """
    if len(sentence) > 120 or len(name) > 40 or not _SAYING.search(sentence):
        return False
    whole, wanted = words_of(sentence), words_of(name)
    if not wanted.isalpha() or len(wanted) < 3 or _RESERVES.search(whole):
        return False
    return (
        re.fullmatch(
            rf"(?:the|this|it)(?: [a-z]+){{0,4}} (?:is|was|will be) (?:an? |the )?{wanted}", whole
        )
        is not None
    )


_WINS = re.compile(
    r" (?:(?:always |will (?:always )?|can (?:always )?|would )?wins?(?: the game)?"
    r"|won(?: the game)?|has (?:a|the) winning strategy|can force a win)$"
)
_EMPTY_WORDS = re.compile(r"\b(?:a|an|the|numbers?|it is|it's|its)\b|-")


def same_sentence(one: str, two: str) -> bool:
    """Whether two answers of plain words are the same but for articles and who "wins".

    >>> same_sentence("n is prime", "n is a prime number"), same_sentence("Alice wins", "Alice")
    (True, True)
    >>> same_sentence("n is prime", "n is not prime"), same_sentence("Bob loses", "Bob")
    (False, False)
    """
    if len(one) > 200 or len(two) > 200 or not (_LONG_WORD.search(one) or _LONG_WORD.search(two)):
        return False
    ours, theirs = words_of(one), words_of(two)
    if not all(re.fullmatch(r"[a-z' -]+", words) for words in (ours, theirs)):
        return False
    if _WINS.search(ours) is not None or _WINS.search(theirs) is not None:
        ours, theirs = _WINS.sub("", ours), _WINS.sub("", theirs)
    ours, theirs = _plain_words(ours), _plain_words(theirs)
    if not ours or not theirs:
        return False
    return ours == theirs or _said_of(ours) == theirs or ours == _said_of(theirs)


def _plain_words(words: str) -> list[str]:
    return [
        word.removesuffix("s") if len(word) > 3 else word
        for word in _EMPTY_WORDS.sub(" ", words).split()
    ]


def _said_of(words: list[str]) -> list[str]:
    """``triangle is isosceles`` as ``isosceles triangle``."""
    return [words[2], words[0]] if len(words) == 3 and words[1] == "is" else []


def says(sentence: str, name: str) -> bool:
    """Whether a name of one or two words is what a sentence begins with, or says that something is.

    The sentence has at least five words, and none that reserve, join or compare.

    >>> says("A stopped clock shows the correct time more often.", "stopped")
    True
    >>> says("The transformed function is odd.", "odd"), says("The function is not odd.", "odd")
    (True, False)
    """
    if len(sentence) > 300 or len(name) > 60 or sentence.count(" ") < SENTENCE_WORDS - 1:
        return False
    whole = words_of(re.sub(r"\$[^$]*\$", " it ", sentence))
    words, wanted = whole.split(), words_of(name).split()
    if not 1 <= len(wanted) <= NAME_WORDS or not all(word.isalpha() for word in wanted):
        return False
    if len(words) < SENTENCE_WORDS or _RESERVES.search(whole) or re.search(r"\d", whole):
        return False
    if set(wanted) & _DETERMINERS or any(len(word) < 3 for word in wanted):
        return False
    while words and words[0] in _DETERMINERS:
        words = words[1:]
    ending = any(words[-len(wanted) - 1 :] == [verb, *wanted] for verb in ("is", "are", "was"))
    return words[: len(wanted)] == wanted or ending
