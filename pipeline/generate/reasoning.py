"""A completion's reasoning and its answer, told apart by their tags, also while it is written."""

from dataclasses import dataclass

OPEN, CLOSE = "<think>", "</think>"


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a completion holds. `held`: its last characters where they may begin a tag."""

    reasoning: str = ""
    answer: str = ""
    held: str = ""
    ended: bool = True  # the reasoning is over, or there was none

    @property
    def whole(self) -> "Parts":
        """The parts where nothing more is to come: what was held is text."""
        if self.ended:
            return Parts(reasoning=self.reasoning, answer=self.answer + self.held)
        return Parts(reasoning=self.reasoning + self.held, answer=self.answer, ended=False)


def parts_of(text: str, *, opened: bool = False) -> Parts:
    """The parts of a completion so far; `opened`: its prompt ends with the opening tag.

    Without a first opening tag all is answer: a model that does not reason hides nothing.

    >>> parts_of("<think>2+2</think>4")
    Parts(reasoning='2+2', answer='4', held='', ended=True)
    >>> parts_of("2+2</th", opened=True)
    Parts(reasoning='2+2', answer='', held='</th', ended=False)
    """
    rest = text.lstrip()
    if rest.startswith(OPEN):
        rest = rest.removeprefix(OPEN)
    elif not opened:
        return Parts(held=text) if OPEN.startswith(rest) else Parts(answer=text)
    elif OPEN.startswith(rest):
        return Parts(held=text, ended=False)
    else:
        rest = text
    reasoning, closing, answer = rest.partition(CLOSE)
    if closing:
        return Parts(reasoning=reasoning, answer=answer)
    count = _begun(reasoning)
    return Parts(
        reasoning=reasoning[: len(reasoning) - count],
        held=reasoning[len(reasoning) - count :],
        ended=False,
    )


def _begun(text: str) -> int:
    """How many of the last characters may begin the closing tag."""
    return next((n for n in range(len(CLOSE) - 1, 0, -1) if text.endswith(CLOSE[:n])), 0)
