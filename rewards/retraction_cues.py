"""Words without which prose takes no answer back: looked for first, as that is quicker by far.

Each set holds, for a pattern or a group of patterns of :mod:`rewards.retraction`, some word of
everything that it matches. Parts of words count where a pattern has an apostrophe: the ``t`` of
``isn't``.
"""

from __future__ import annotations

from collections.abc import Sequence

_APART = bytes(
    ord(chr(code).lower()) if code < 128 and chr(code).isalnum() else ord(" ")
    for code in range(256)
)
"""Letters as small ones, spaces for all that is no letter or digit."""


def words_in(text: str) -> list[bytes]:
    """The words of a text, as small ASCII letters and digits; anything else parts them.

    >>> words_in("No, it isn't!")
    [b'no', b'it', b'isn', b't']
    """
    return text.encode("ascii", "replace").translate(_APART).split()


def _cues(text: str) -> frozenset[bytes]:
    return frozenset(text.encode().split())


_NO = "no noo nooo noooo nooooo"
_DENIED = (
    "absurd bogus cannot contradicts decoy erroneous error fails false impossible inaccurate "
    "incorrect invalid lie misconception mistake mistaken naive nonsense not off t tempting trap "
    "too typo untrue wrong"
)
"""Called wrong, or said to fail."""
MISTAKEN = (
    "misread misreads miscounted miscalculated miscomputed misunderstood misinterpreted mistook "
    "misapplied misremembered mistyped misplaced misspoke misjudged misused misadded missed"
)
_CRIED = (
    "apologies back bad correction erratum forgot guess kidding messed mind nevermind nope oops "
    f"scratch sorry strike thought thoughts woops {MISTAKEN}"
)
"""Cried out where a sentence begins."""
_OPENERS = _cues("oh ah but hm well actually ok okay wait and so hold on um er uh")
_CRIES = _cues(
    f"{_NO} wrong incorrect sorry false not oops woops scratch strike never nevermind "
    "correction erratum just on my i there that"
)
"""The first words of what is cried out where a sentence begins."""
DENIED = _cues(_DENIED)
DENYING = _cues(f"{_DENIED} {_CRIED} {_NO}")
DOUBTING = _cues("wait hold hang maybe not me doubt sure hmm hmmm hmmmm hmmmmm")
"""A question mark is another."""
ANSWERS = _cues("answer choice number one result solution total value")
MODALS = _cues("should could might may must ought can")
INSTEAD = _cues(
    f"{_NO} actually alternatively better but correction edit fact however instead make mean meant "
    "nope oops rather really sorry update wait"
)
GOT = _cues("get got obtain find")
OR = _cues("or alternatively")
ALSO = _cues("also possible correct valid acceptable accepted accepts answer solution too well")
BOTH = _cues("either both")
ALL = DENYING | DOUBTING | ANSWERS | MODALS | INSTEAD | GOT | OR | ALSO | BOTH
_RESERVING = _cues(
    "anything assume assuming bob cannot common could denies deny disagree doubt erroneous except "
    "false first if imagine impossible incorrect incorrectly initially instead many may might "
    "mistaken mistakenly most naive neither never not originally other people pretend rather "
    "refuse some student students suppose supposing t tempted tempting they unless unlikely "
    "untrue whether who would wrong wrongly"
)
_BETWEEN = _cues(
    "above actual answer answered answers be believe believed but case choice claim claimed "
    "conclusion conclusions correct corrected equal equals error errors final get guess guessed "
    "guesses have is it just last mean mistake mistakes my necessarily new number of one our "
    "proper real result results revised right s said say says simply solution solutions than that "
    "the there think this thought to total true value values was were "
    "gave give put write writes wrote"
)
"""What may stand between a reservation and the answer."""


def reserved(head: str) -> bool:
    """Whether an answer may be denied, supposed, or somebody else's by what stands before it.

    >>> reserved("They say that the answer is"), reserved("If so, then x is")
    (True, False)
    """
    words = words_in(head)
    if _RESERVING.isdisjoint(words):
        return False
    for word in reversed(words):
        if word in _RESERVING:
            return True
        if word not in _BETWEEN:
            return False
    return False


def cried(words: Sequence[bytes]) -> bool:
    """Whether a sentence of these words may begin with a cry, such as ``Oh wait, no``."""
    for word in words:
        if word in _CRIES:
            return True
        if word not in _OPENERS and word.strip(b"mhure"):
            return False
    return False
