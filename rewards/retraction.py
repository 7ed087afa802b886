"""Prose that takes an answer back: ``\\boxed{5} is wrong``, ``5. No wait, it is 6``.

What stands before and after the one answer is read in sentences. An answer is taken back where it
is denied, called wrong, supposed or asked rather than given, or where another value is put in its
place or beside it, and nothing after that gives it again. A doubt alone ("Wait, let me check")
takes it back unless a confirmation follows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Set
from functools import cache

from rewards import retraction_cues as cues
from rewards.final_answer import VALUE
from rewards.maths.spoken import lone_letter

MAX_CHARS = 6_000
"""Of the text after an answer so many characters are read at its beginning, and at its end."""
NEAR_CHARS = 72


def _any(*alternatives: str) -> str:
    return f"(?:{'|'.join(alternatives)})"


_LETTER = r"|(?-i:\([A-J]\)|\b[B-HJ]\b(?!['’])|\bA\b(?=\s*(?:[.,;:!)]|$)))"  # neither I nor an A
_BOX = re.compile(r"\\(?:boxed|fbox)\s?\{([^{}]*)\}")
_FIGURE = re.compile(r"\[asy\].*?(?:\[/asy\]|$)", re.DOTALL)
_GLUE = re.compile(r"^[\s$*)\\\]}\"'`.,;:!–—-]+")
_SENTENCE = re.compile(r"(?<=[.!?])(?=\s)|(?<=\?)(?=[^\s$])|\n+|(?<=[;—])\s|。")

_PRAISE = r"(?:correct|right|true|actual|real|final|proper|new|corrected|revised|above|first|last)"
_ANSWER = (
    rf"(?:(?:the|my|this|that|our)\s+)?(?:{_PRAISE}\s+)*"
    r"(?:answer|value|result|solution|number|one|total|choice)(?:\s+above|\s+there)?"
)
_MODAL = r"(?:must|should|would|could|might|may|will|has to|had to|ought to|seems to|needs to)"
_IS = _any(
    r"\s*['’]s",
    r"\s+(?:is|was|are|were|seems?|looks?|appears?)",
    rf"\s+{_MODAL}(?:\s+also)?\s+be",
    r"\s+turn(?:s|ed) out to be",
)
_STATED = re.compile(
    r"(?:answer|value|result|solution|number|one|total|choice)(?:\s+above|\s+there)?"
    r"\s*(?:[:=]|['’]s|equals|is|was|are|were|seem|look|appear|turn|must|should|would|could|might"
    r"|may|will|has|had|ought|needs)"
)
"""What the other value of an answer is said with, in small letters: quick to look for."""
_HOW = (
    r"(?:\s+(?:also|actually|really|clearly|obviously|probably|definitely|surely|simply|just|plain"
    r"|totally|completely|instead|rather|in fact|of course))*"
)
_CALLED = _any(
    r"wrong|incorrect|false|mistaken|erroneous|invalid|nonsense|untrue|inaccurate|bogus|in error",
    r"off by",
    r"(?:an?|the|my)\s+(?:\w+\s+){0,2}(?:mistake|error|trap|typo|lie|decoy|misconception)\b(?!\s+to\b)",
    r"(?:an?|the)\s+(?:wrong|incorrect|naive|tempting)\s",
    r"not\s+(?:(?:even|quite|the|an?|really|what)\s+)*"
    r"(?:right|correct|true|valid|possible|it\b|answer|solution|value|result|final|we\b|is\b|asked)",
)
_FAILS = _any(
    r"(?:does|do|did|would|will)(?:\s+not|n['’]t)\s+"
    r"(?:work|hold|fit|check|satisfy|add up|make sense)",
    r"(?:is|was)n['’]t\s+(?:quite\s+)?"
    r"(?:right|correct|true|it\b|the\s+(?:\w+\s+)?answer|valid|possible)",
    r"(?:can['’]t|cannot|can\s+not|couldn['’]t|could\s+not)\s+be\b",
    r"fails\b",
    r"contradicts\b",
)
_DIRECTLY = re.compile(
    r"^\W{0,12}(?:,?\s*(?:which|(?:(?:but|and|though)\s+)?(?:that|this|it)))?"
    rf"(?:{_IS}{_HOW}\s+(?:{_CALLED}|impossible|absurd|too\s+(?:small|large|big|low|high|many|few))|\s+{_FAILS})"
    r"|^\W{0,12}\(?\s*(?:\w+\s+)?"
    r"(?:wrong|incorrect|false|mistake|not correct|not right|just kidding)\b"
    r"|^\W{0,12}not\s*!",
    re.IGNORECASE,
)
_SUBJECT = re.compile(
    rf"\b(?:this|that|it|which|{_ANSWER})(?:{_IS}{_HOW}\s+{_CALLED}|\s+{_FAILS})", re.IGNORECASE
)
_OPENING = (
    r"(?:(?:oh|ah|but|hmm+|well|actually|ok|okay|wait|and|so|hold on|um+|er+|uh)[\s,.…!—–-]+)*"
)
_INTERJECTION = re.compile(
    _OPENING
    + _any(
        r"(?:no{1,5}|nope|wrong|incorrect|sorry|false|not true|not so|not right|not correct)"
        r"(?=\s*(?:[.,!:;—–-]|$)|\s+(?:wait|that|it|i|the answer)\b)",
        r"(?:w?oops|scratch that|strike that|never\s?mind|correction|erratum|just kidding)\b",
        r"(?:not quite|on (?:second|further) thoughts?|my (?:mistake|bad|error|apologies))\b",
        r"i take (?:that|it|this) back\b",
        r"i(?: was| am|['’]m) (?:wrong|mistaken)\b",
        r"i (?:have |['’]ve )?(?:made|see|spotted|notice) (?:\w+ ){1,2}(?:mistake|error)",
        rf"i (?:have |['’]ve )?(?:{'|'.join(cues.MISTAKEN.split())}|messed up|forgot)\b",
        r"there(?: is|['’]s) an? (?:\w+ )?(?:mistake|error)\b",
        r"that was a (?:mistake|guess)\b",
    )
    + r"|.*(?:不对|错了|不正确|是错的)",
    re.IGNORECASE,
)
_DOUBT = re.compile(
    rf"{_OPENING}(?:wait|hold on|hang on|hm{2, 5}|maybe not|or not"
    r"|let me (?:re\w+|try again|start over)"
    r"|i (?:doubt|am not sure|['’]m not sure) (?:it|that|this))\b|\?|等等",
    re.IGNORECASE,
)
_CONFIRMED = re.compile(
    r"(?<!not )(?<!n't )(?<!be )\b(?:yes|yep|yeah|correct|confirm(?:s|ed)?|verif(?:ied|ies)"
    r"|checks? out|indeed|right|consistent|match(?:es)?|as expected|still|good|great|okay|holds"
    r"|works|fine|agrees?|stands|remains|same)\b|没错|正确",
    re.IGNORECASE,
)
_INSTEAD = (
    r"(?:actually|rather|instead|in fact|i mean|i meant|make (?:that|it)|correction|no|nope|wait"
    r"|sorry|really|but|however|oops|better|alternatively|edit|update)"
)
_END = (
    r"(?=\s*(?:\w+\s*)?(?:[.,;:!?)\]$*]|$)"
    r"|\s*\n|\s(?:instead|actually|too|as well|also|not|because|since)\b)"
)
_APPROXIMATELY = re.compile(
    r"(?:about|approximately|approx\.?|roughly|around|nearly|almost|≈|\\approx)\s*\W{0,3}$",
    re.IGNORECASE,
)
_PEOPLE = r"(?:they|people|students?|some|most|many|who|bob|refuse to)"
_BEFORE = re.compile(
    r"(?:n['’]t|\bnot|\bnever|\bcannot|\bneither|\banything but|\bother than|\bexcept|\brather than"
    rf"|\binstead of)\s*(?:be|equal(?: to)?|equals|simply|just|necessarily|=|{_ANSWER})?\s*$"
    r"|\b(?:wrong|incorrect|false|mistaken|erroneous|naive|tempting|student['’]s|common)\s+"
    r"(?:(?:final|wrong|incorrect)\s+)?(?:answer|result|value|solution|guess|conclusion|mistake|error)"
    r"s?\s*(?:is|was|would be|of|:|=|to (?:say|answer|get))?\s*(?:the answer is\s*)?$"
    r"|(?:\b(?:doubt|false|untrue|wrong|deny|denies|unlikely|impossible|disagree)"
    r"|(?:\bnot|n['’]t) (?:think|believe|true|say|claim|suppose|the case|mean))"
    rf"\s+(?:that\s+)?(?:{_ANSWER}|it|this)\s*(?:is|was|=|:|be|equals)?\s*$"
    r"|\b(?:if|suppose|supposing|assume|assuming|unless|whether|pretend|imagine"
    rf"|(?:might|may|could|would|initially|first|wrongly|mistakenly|incorrectly|originally|{_PEOPLE}"
    r"|tempted to)\s+(?:have\s+)?"
    r"(?:think|thought|says?|said|guess(?:ed)?|believed?|claim(?:ed)?|answer(?:ed)?"
    r"|writes?|wrote|put|give|gave))"
    rf"(?:\s+(?:that\s+)?(?:{_ANSWER}|it|this)?\s*(?:is|was|were|be|=|:|equals)?)?\s*$",
    re.IGNORECASE,
)


def taken_back(before: str, answer: str, after: str, *, same: Callable[[str], bool]) -> str | None:
    """The words that take an answer back, or None.

    Args:
        before: the text up to the answer.
        answer: the answer; where it is the letter of a choice, other letters are others.
        after: the text from its end on.
        same: whether a value that stands in the text is the answer's.
    """
    head = before[-NEAR_CHARS:].rpartition("\n")[2].rstrip(" $*({[\"'`\\")
    if cues.reserved(head):
        denial = _BEFORE.search(head)
        if denial:
            return denial[0].strip()
    rest = after if len(after) <= 2 * MAX_CHARS else after[:MAX_CHARS] + "\n" + after[-MAX_CHARS:]
    if "[asy]" in rest:
        rest = _FIGURE.sub(" ", rest)
    spoken = cues.words_in(rest)
    if cues.ALL.isdisjoint(spoken) and "?" not in rest and rest.isascii():
        return None
    words = set(spoken)
    letter = lone_letter(answer) is not None
    rest = _BOX.sub(r"\1", rest)
    strong = [*_denials(rest, words), *_replacements(rest, words, letter=letter, same=same)]
    value = _value(letter=letter)
    if strong:
        position, reason = max(strong)
        return None if _given_again(rest[position:], value, same) else reason
    if rest.isascii() and "?" not in rest and cues.DOUBTING.isdisjoint(words):
        return None
    doubts = [(start, text) for start, text in _sentences(rest) if _DOUBT.match(text)]
    if not doubts:
        return None
    position, reason = doubts[-1]
    values = list(re.finditer(value, rest[position:]))
    sure = _CONFIRMED.search(rest, position) or (values and same(_plain(values[-1][0])))
    return None if sure else reason


def _sentences(text: str) -> Iterator[tuple[int, str]]:
    """Each sentence with the place where it begins; the first begins where the answer ends."""
    start = 0
    for match in _SENTENCE.finditer(text):
        if match.start() > start:
            yield start, _GLUE.sub("", text[start : match.start()])
        start = match.end()
    yield start, _GLUE.sub("", text[start:])


def _denials(text: str, words: Set[bytes]) -> Iterator[tuple[int, str]]:
    """Where each denial ends, and its words."""
    if text.isascii() and cues.DENYING.isdisjoint(words):
        return
    direct = _DIRECTLY.search(text)
    if direct:
        yield direct.end(), direct[0].strip()
    for start, sentence in _sentences(text):
        spoken = cues.words_in(sentence)
        if sentence.endswith("?") or (sentence.isascii() and cues.DENYING.isdisjoint(spoken)):
            continue
        matches = []
        if cues.cried(spoken) or not sentence.isascii():
            matches.append(_INTERJECTION.match(sentence))
        if not cues.DENIED.isdisjoint(spoken):
            matches.append(_SUBJECT.search(sentence))
        for match in matches:
            if match:
                yield start + match.end(), match[0].strip()


def _replacements(
    text: str, words: Set[bytes], *, letter: bool, same: Callable[[str], bool]
) -> Iterator[tuple[int, str]]:
    """Where another value is said to be the answer, in place of this one or beside it."""
    for some, pattern in _others(letter=letter):
        if some.isdisjoint(words) or (some is cues.ANSWERS and not _STATED.search(text.lower())):
            continue
        for match in pattern.finditer(text):
            names = [name for name, part in match.groupdict().items() if part is not None]
            first = min(match.start(name) for name in names)
            if _APPROXIMATELY.search(text, max(0, first - 20), first):
                continue
            values = [_plain(match[name]) for name in names]
            equal = [_worked(one) or same(one) for one in values]
            if not all(equal) and (len(values) == 1 or any(equal)):
                yield match.end(), match[0].strip()


def _value(*, letter: bool) -> str:
    return VALUE + (_LETTER if letter else "")


@cache
def _others(*, letter: bool) -> list[tuple[Set[bytes], re.Pattern[str]]]:
    """Patterns of other answers, each with words of which one is in it.

    In a pattern with two values one of them is this answer.
    """
    value = _value(letter=letter)
    other = f"(?P<one>{value})"
    modal = r"(?:should|could|might|may|must|ought to|can)\s+(?:\w+\s+)?be"
    is_it = rf"(?:(?:it|that|this|{_ANSWER}|[a-z])(?:{_IS}{_HOW}|\s*=)\s*)?"
    guess = r"(?:maybe|perhaps|possibly|even|else|also|is it|it\s+(?:could|might|may)\s+be)?"
    also = r"(?:(?:is|would be|works?|could be)\s+(?:also\s+|another\s+|equally\s+)?(?:an?\s+)?"
    also += r"(?:possible|correct|valid|accept(?:able|ed|s)|answer|solution"
    also += r"|(?:too|as well)\b(?=\W*$|[.,!]))"
    also += r"|(?:also|would also|might also|could also)\s+(?:works?|holds?)|works too)"
    patterns = (
        (
            cues.ANSWERS,
            rf"\b{_ANSWER}\s*(?:{_IS}{_HOW}|\s+equals|:|=)\s*(?:equal to |exactly )?{other}{_END}",
        ),
        (cues.MODALS, rf"\b(?:it|that|this|answer)\s+{modal}\s+{other}{_END}"),
        (
            cues.INSTEAD,
            rf"\b{_INSTEAD}\b[\s,.:;…—–-]*{is_it}(?:actually |rather |instead )?{other}{_END}",
        ),
        (
            cues.GOT,
            rf"\b(?:however|but|actually|wait|instead|again|recomputing|rechecking)\b[^.!?\n]{{0,40}}"
            rf"\b(?:i|we)\s+(?:now\s+|actually\s+|instead\s+)?(?:get|got|obtain|find)\s+{other}{_END}",
        ),
        (cues.OR, rf"^\W{{0,8}}(?:or|alternatively)\b[\s,]*{guess}\s*(?:equivalently,? )?{other}"),
        (cues.ALSO, rf"{other}\s+{also}"),
        (cues.BOTH, rf"\b(?:either|both)\s+{other}\s+(?:or|and)\s+(?P<two>{value})"),
    )
    return [(some, re.compile(pattern, re.IGNORECASE)) for some, pattern in patterns]


def _worked(value: str) -> bool:
    """Whether a formula is a chain of steps rather than a value."""
    return len(re.findall(r"=|\\(?:equiv|approx|Rightarrow|implies)\b", value)) > 1


def _given_again(text: str, value: str, same: Callable[[str], bool]) -> bool:
    """Whether the last value is the answer again, given as one."""
    given = list(
        re.finditer(
            r"(?:\b(?:yes|so|thus|hence|therefore|indeed|is|at|remains|confirmed|answer|get|still)\b"
            rf"|[=:])[\s,:]*(?:the answer is |it is |we get |still |indeed )*(?P<value>{value})",
            text,
            re.IGNORECASE,
        )
    )
    values = list(re.finditer(value, text))
    return bool(given) and given[-1].end() == values[-1].end() and same(_plain(given[-1]["value"]))


def _plain(value: str) -> str:
    """A value without its dollar signs or brackets."""
    return value.strip("$ ,").removeprefix("\\(").removesuffix("\\)").strip("() ")
