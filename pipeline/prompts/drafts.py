"""The generated tasks: each function drafts one problem from a random generator.

Arithmetic is modulo 10, so every answer of a reasoning task is one digit; only the tasks in English
(`arithmetic`, `totals`, `additions`, `largest`) count beyond. :mod:`pipeline.prompts.tasks` names
them and turns drafts into data sets.
"""

import itertools
import random
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A problem before the choice of which steps are written."""

    question: str
    answer: str
    steps: tuple[str, ...]
    needed_depth: int


TWO_DIGITS = 90
"""How many numbers have two digits."""

MOST_ARROWS = 9
"""The longest way that :func:`lookups` asks for: it is written as one digit."""

Drafter = Callable[[random.Random, int, int], Draft]
"""Takes the random generator, the difficulty and the number of distractors."""


def swaps(rng: random.Random, difficulty: int, distractors: int) -> Draft:
    """Follow the ball under cup ``s`` of five through swaps: ``s;12;35?``.

    Each of the ten swaps comes once before any comes again. Distractors swap cups 6 to 9, which
    never hold the ball.
    """
    place = start = rng.randrange(1, 6)
    moves: list[str] = []
    steps: list[str] = []
    depth = 0
    for left, right in _pairs(rng, difficulty):
        depth += place in (left, right)
        place = {left: right, right: left}.get(place, place)
        moves.append(f"{left}{right}")
        steps.append(f"{left}{right}:{place}")
    idle = ["".join(map(str, sorted(rng.sample(range(6, 10), 2)))) for _ in range(distractors)]
    question = ";".join([str(start), *_interleave(rng, moves, idle)]) + "?"
    return Draft(question=question, answer=str(place), steps=tuple(steps), needed_depth=depth)


def sums(rng: random.Random, difficulty: int, distractors: int) -> Draft:
    """Add digits modulo 10: ``7+5+8?``. Distractors are digits in brackets, to be ignored."""
    total = start = rng.randrange(10)
    terms: list[str] = []
    steps: list[str] = []
    for _ in range(difficulty):
        term = rng.randrange(1, 10)
        total = (total + term) % 10
        terms.append(f"+{term}")
        steps.append(f"+{term}={total}")
    idle = [f"({rng.randrange(10)})" for _ in range(distractors)]
    question = f"{start}{''.join(_interleave(rng, terms, idle))}?"
    return Draft(question=question, answer=str(total), steps=tuple(steps), needed_depth=difficulty)


def arithmetic(rng: random.Random, difficulty: int, distractors: int) -> Draft:
    """Numbers from 2 to 20 added and subtracted, in words: ``What is 7 + 16 - 5?``.

    For models that read English; answers are whole numbers, not digits. Distractors are numbers
    named after the question.
    """
    return _in_words(rng, difficulty, distractors, signs=(1, -1))


def totals(rng: random.Random, difficulty: int, distractors: int) -> Draft:
    """:func:`arithmetic` that only adds: ``What is 7 + 16 + 5?``."""
    return _in_words(rng, difficulty, distractors, signs=(1,))


def _in_words(
    rng: random.Random, difficulty: int, distractors: int, *, signs: Sequence[int]
) -> Draft:
    total = rng.randrange(2, 21)
    text = str(total)
    steps: list[str] = []
    for _ in range(difficulty):
        term, sign = rng.randrange(2, 21), rng.choice(signs)
        sum_ = f"{total} {'+' if sign > 0 else '-'} {term}"
        total += sign * term
        text += f" {'+' if sign > 0 else '-'} {term}"
        steps.append(f"{sum_} = {total}")
    return Draft(
        question=f"What is {text}?{_ignored(rng, distractors)}",
        answer=str(total),
        steps=tuple(steps),
        needed_depth=difficulty,
    )


def additions(rng: random.Random, difficulty: int, distractors: int) -> Draft:
    """Two numbers from 0 to ten times ``difficulty``, to be added at once: ``What is 7 + 16?``.

    For models that read English. Distractors are numbers named after the question.
    """
    left, right = rng.randint(0, 10 * difficulty), rng.randint(0, 10 * difficulty)
    return Draft(
        question=f"What is {left} + {right}?{_ignored(rng, distractors)}",
        answer=str(left + right),
        steps=(),
        needed_depth=1,
    )


def largest(rng: random.Random, difficulty: int, distractors: int) -> Draft:
    """The largest of two-digit numbers, ``difficulty`` beside the first: ``Which is the largest:
    34, 71 or 28?``.

    For models that read English. Distractors are numbers named after the question.
    """
    if difficulty >= TWO_DIGITS:
        raise ValueError(f"difficulty {difficulty}: there are only {TWO_DIGITS} two-digit numbers")
    numbers = rng.sample(range(10, 10 + TWO_DIGITS), difficulty + 1)
    listed = f"{', '.join(map(str, numbers[:-1]))} or {numbers[-1]}"
    return Draft(
        question=f"Which is the largest: {listed}?{_ignored(rng, distractors)}",
        answer=str(max(numbers)),
        steps=(),
        needed_depth=difficulty,
    )


def chains(rng: random.Random, difficulty: int, distractors: int) -> Draft:
    """Evaluate a chain of variables modulo 10, lines in order: ``a=3;b=a+2;c=b*7;c?``.

    Distractors are further variables, which the answer does not use.
    """
    lines, unused, draft = _chain(rng, difficulty, distractors)
    return _ask(";".join(_interleave(rng, lines, unused)), draft)


def scrambles(rng: random.Random, difficulty: int, distractors: int) -> Draft:
    """:func:`chains` with the lines in random order."""
    lines, unused, draft = _chain(rng, difficulty, distractors)
    shuffled = [*lines, *unused]
    rng.shuffle(shuffled)
    return _ask(";".join(shuffled), draft)


def nesting(rng: random.Random, difficulty: int, distractors: int) -> Draft:
    """Apply nested functions modulo 10: ``f+3;g*7;f(g(4))?``. Distractors are never called."""
    names = _letters(rng, difficulty + distractors)
    value = start = rng.randrange(10)
    rules: list[str] = []
    steps: list[str] = []
    expression = str(start)
    for name in names[:difficulty]:
        rule, apply = _rule(rng)
        value = apply(value)
        rules.append(f"{name}{rule}")
        steps.append(f"{name}={value}")
        expression = f"{name}({expression})"
    rules.extend(f"{name}{_rule(rng)[0]}" for name in names[difficulty:])
    rng.shuffle(rules)
    return Draft(
        question=";".join([*rules, expression]) + "?",
        answer=str(value),
        steps=tuple(steps),
        needed_depth=difficulty,
    )


def hops(rng: random.Random, difficulty: int, distractors: int) -> Draft:
    """Follow pointers, in random order, to a digit: ``b=7;a>b;a?``.

    Distractors are further nodes, which the start does not reach.
    """
    names = _letters(rng, difficulty + 1 + distractors)
    path, others = names[: difficulty + 1], names[difficulty + 1 :]
    value = rng.randrange(10)
    lines = [f"{here}>{there}" for here, there in itertools.pairwise(path)]
    lines.append(f"{path[-1]}={value}")
    for index, name in enumerate(others):
        lines.append(
            f"{name}>{rng.choice(others[:index])}" if index else f"{name}={rng.randrange(10)}"
        )
    rng.shuffle(lines)
    return Draft(
        question=";".join([*lines, path[0]]) + "?",
        answer=str(value),
        steps=tuple(path[1:]),
        needed_depth=difficulty + 1,
    )


def lookups(rng: random.Random, difficulty: int, distractors: int) -> Draft:
    """Follow arrows on a circle of nodes: ``!a3.c1?ab;bd;ca;dc`` asks what is 3 arrows after a.

    Two queries marked ``!`` are asked for, up to ``difficulty`` arrows away; distractors are
    queries marked ``.``, as far, whose results are written with the others and then not used.
    """
    if difficulty > MOST_ARROWS:
        raise ValueError(f"difficulty {difficulty}: lookups writes at most {MOST_ARROWS} arrows")
    size = difficulty + rng.randint(1, 3)  # no way goes round the circle
    names = rng.sample(string.ascii_lowercase[:12], size)
    image = dict(zip(names, [*names[1:], names[0]], strict=True))
    queries = [(rng.choice(names), difficulty, "!")]
    for mark in ["!", *("." * distractors)]:
        queries.append((rng.choice(names), rng.randint(1, difficulty), mark))
    rng.shuffle(queries)
    results = [_applied(image, name, times) for name, times, _ in queries]
    labels = [f"{mark}{name}{times}" for name, times, mark in queries]
    edges = [f"{name}{image[name]}" for name in rng.sample(names, size)]
    return Draft(
        question=f"{''.join(labels)}?{';'.join(edges)}",
        answer="".join(r for r, (_, _, mark) in zip(results, queries, strict=True) if mark == "!"),
        steps=tuple(f"{query}{result}" for query, result in zip(labels, results, strict=True)),
        needed_depth=difficulty,
    )


def copy(rng: random.Random, difficulty: int, distractors: int) -> Draft:
    """Repeat letters: ``copy gkd`` gives ``gkd``. General data: no steps, one look-up deep."""
    return _instruction("copy", rng, difficulty, distractors)


def reverse(rng: random.Random, difficulty: int, distractors: int) -> Draft:
    """Letters backwards: ``reverse gkd`` gives ``dkg``. General data: no steps."""
    return _instruction("reverse", rng, difficulty, distractors)


def sort(rng: random.Random, difficulty: int, distractors: int) -> Draft:
    """Letters in alphabetical order: ``sort gkd`` gives ``dgk``. General data: no steps."""
    return _instruction("sort", rng, difficulty, distractors)


def echo(rng: random.Random, difficulty: int, distractors: int) -> Draft:
    """One of :func:`copy`, :func:`reverse` and :func:`sort`, equally likely."""
    return _instruction(rng.choice(sorted(_INSTRUCTIONS)), rng, difficulty, distractors)


def _ignored(rng: random.Random, count: int) -> str:
    """Numbers from 2 to 20 that a question names and does not ask for."""
    return "".join(f" Ignore {rng.randrange(2, 21)}." for _ in range(count))


def _interleave(rng: random.Random, first: list[str], second: list[str]) -> list[str]:
    """Both lists merged at random, each in its own order."""
    marks = [True] * len(first) + [False] * len(second)
    rng.shuffle(marks)
    ones, others = iter(first), iter(second)
    return [next(ones) if mark else next(others) for mark in marks]


def _pairs(rng: random.Random, count: int) -> list[tuple[int, int]]:
    """Pairs of different cups of 1 to 5, each of the ten once before any comes again."""
    every = list(itertools.combinations(range(1, 6), 2))
    rounds = -(-count // len(every))
    return [pair for _ in range(rounds) for pair in rng.sample(every, len(every))][:count]


def _applied(image: Mapping[str, str], name: str, times: int) -> str:
    """``image`` applied ``times`` times."""
    for _ in range(times):
        name = image[name]
    return name


def _letters(rng: random.Random, count: int) -> list[str]:
    """Distinct lower-case letters.

    Raises:
        ValueError: more than the alphabet has.
    """
    if count > len(string.ascii_lowercase):
        raise ValueError(
            f"difficulty and distractors need {count} names; there are only 26 letters"
        )
    return rng.sample(string.ascii_lowercase, count)


def _chain(
    rng: random.Random, difficulty: int, distractors: int
) -> tuple[list[str], list[str], Draft]:
    """Lines of a chain, unused lines, and the draft whose question only asks for the last."""
    names = _letters(rng, difficulty + 1 + distractors)
    path, others = names[: difficulty + 1], names[difficulty + 1 :]
    value = rng.randrange(10)
    lines = [f"{path[0]}={value}"]
    steps: list[str] = []
    for source, name in itertools.pairwise(path):
        rule, apply = _rule(rng)
        value = apply(value)
        lines.append(f"{name}={source}{rule}")
        steps.append(f"{name}={value}")
    unused = [f"{name}={rng.choice(path)}{_rule(rng)[0]}" for name in others]
    draft = Draft(
        question=f"{path[-1]}?", answer=str(value), steps=tuple(steps), needed_depth=difficulty
    )
    return lines, unused, draft


def _ask(lines: str, draft: Draft) -> Draft:
    """The draft with the lines put before its question."""
    return Draft(
        question=f"{lines};{draft.question}",
        answer=draft.answer,
        steps=draft.steps,
        needed_depth=draft.needed_depth,
    )


def _rule(rng: random.Random) -> tuple[str, Callable[[int], int]]:
    """A function on digits that loses nothing: add 1 to 3, or multiply by a unit modulo 10.

    The two kinds do not commute, so a chain of them has no short cut; and a function's value says
    something of its argument alone, without which small models do not start to learn.
    """
    if rng.random() < 0.5:
        term = rng.randrange(1, 4)
        return f"+{term}", lambda value: (value + term) % 10
    factor = rng.choice((3, 7, 9))
    return f"*{factor}", lambda value: value * factor % 10


_INSTRUCTIONS: Mapping[str, Callable[[str], str]] = {
    "copy": lambda letters: letters,
    "reverse": lambda letters: letters[::-1],
    "sort": lambda letters: "".join(sorted(letters)),
}


def _instruction(verb: str, rng: random.Random, length: int, distractors: int) -> Draft:
    """``verb letters`` with the result as the answer.

    Raises:
        ValueError: distractors were asked for.
    """
    if distractors:
        raise ValueError(f"task {verb} has no distractors; leave the range at (0, 0)")
    letters = "".join(rng.choices(string.ascii_lowercase, k=length))
    return Draft(
        question=f"{verb} {letters}",
        answer=_INSTRUCTIONS[verb](letters),
        steps=(),
        needed_depth=1,
    )
