"""The generated tasks whose problems are groups of moves, worked out while they are written.

A group begins at a place that nobody knows before the last character of the question, so that
iterating over the prompt finds nothing; see :mod:`pipeline.prompts.drafts` for the other tasks.
"""

import random
import string
from collections.abc import Mapping

from pipeline.prompts.drafts import Draft

Moves = Mapping[str, str]
"""By the name of a move the new place of each place."""

CUPS: Moves = {"x": "102", "y": "021", "z": "210"}
"""Swaps of two of three cups."""

MARKS: Moves = {"r": "120", "l": "201"}
"""Turns of a dial of three marks."""


def shuffles(rng: random.Random, difficulty: int, distractors: int) -> Draft:
    """Follow a ball through shuffles of three cups: ``_xyzz?,_YXZ?,_x?;1``.

    Every group of moves begins with the ball under the cup named last, which nobody knows before.
    The worked trace fills the blanks in with where the ball begins and ends: ``1xyzz0,1YXZ0,1x0``.
    ``x`` swaps cups 0 and 1, ``y`` 1 and 2, ``z`` 0 and 2. Groups in small letters are asked for:
    one of ``difficulty`` moves and at times a second one, no longer. Distractors are groups in
    capitals, no longer either: written with the others, and then not used.
    """
    return _groups(rng, CUPS, difficulty, distractors)


def turns(rng: random.Random, difficulty: int, distractors: int) -> Draft:
    """:func:`shuffles` with a dial of three marks: ``r`` turns it one on, ``l`` one back."""
    return _groups(rng, MARKS, difficulty, distractors)


def picks(rng: random.Random, difficulty: int, distractors: int) -> Draft:
    """:func:`shuffles` of which only the question's end says what counts:
    ``a_xyz?,b_zzx?,c_yxy?;1;b`` asks for group b alone.

    All groups have ``difficulty`` moves, in small letters. One or two are asked for; distractors
    are further ones. The worked trace writes every group, those that are not asked for in capitals:
    ``a1XYZ0,b1zzx1,c1YXY1``.

    Raises ValueError for more groups than there are names.
    """
    asked = rng.randint(1, 2)
    count = asked + distractors
    if count > len(string.ascii_lowercase):
        raise ValueError(f"{distractors} distractors need {count} names; there are only 26 letters")
    start = rng.choice("012")
    labels = string.ascii_lowercase[:count]
    chosen = sorted(rng.sample(labels, asked))
    groups = [_moved(rng, CUPS, start, difficulty) for _ in labels]
    named = list(zip(labels, groups, strict=True))
    return Draft(
        question=f"{','.join(f'{name}_{text}?' for name, (text, _) in named)};{start};"
        f"{','.join(chosen)}",
        answer="".join(end for name, (_, end) in named if name in chosen),
        steps=tuple(
            f"{name}{start}{text if name in chosen else text.upper()}{end}"
            for name, (text, end) in named
        ),
        needed_depth=difficulty,
    )


def _moved(rng: random.Random, moves: Moves, start: str, length: int) -> tuple[str, str]:
    """Moves drawn at random, and the place that they lead to."""
    names = rng.choices(sorted(moves), k=length)
    place = start
    for name in names:
        place = moves[name][int(place)]
    return "".join(names), place


def _groups(rng: random.Random, moves: Moves, difficulty: int, distractors: int) -> Draft:
    """Places 0 to 2 followed through ``moves``, each of which is the new place of every place."""
    lengths = [difficulty, *(rng.randint(1, difficulty) for _ in range(rng.randint(0, 1)))]
    idle = [rng.randint(1, difficulty) for _ in range(distractors)]
    start = rng.choice("012")
    groups: list[tuple[str, str, bool]] = []
    for index, length in enumerate([*lengths, *idle]):
        text, place = _moved(rng, moves, start, length)
        counts = index < len(lengths)
        groups.append((text if counts else text.upper(), place, counts))
    rng.shuffle(groups)
    return Draft(
        question=f"{','.join(f'_{text}?' for text, _, _ in groups)};{start}",
        answer="".join(end for _, end, counts in groups if counts),
        steps=tuple(f"{start}{text}{end}" for text, end, _ in groups),
        needed_depth=difficulty,
    )
