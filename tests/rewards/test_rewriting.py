"""Real golds written in another way are paid; the same with one thing changed are not."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from rewards import Sample
from rewards.math_answer import gold_text, math_answer

DATA = Path(__file__).resolve().parents[2] / "../shared/data"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="the shared data is not here")

Rewriting = Callable[[str, random.Random], str | None]
"""An answer in another form; None where the form does not fit the answer."""
_LONG = re.compile(r"(?<![\d.,_])\d{4,9}(?![\d.,]|_)")
_INTEGER = re.compile(r"-?\d{1,9}")
_FRACTION = re.compile(r"(-?)\\frac\{(\d{1,6})\}\{(\d{1,6})\}")
_DECIMAL = re.compile(r"(-?)(\d{0,6})\.(\d{1,6})")
_UNIT = re.compile(
    r"(\d[\d.]*)\s?\\(?:text|mbox)\s?\{\s?(cm|m|inches|feet|hours|minutes|grams|kg|miles|seconds)\s?\}"
)
_FLIPPED_UNITS = {"cm": "kg", "m": "hours", "inches": "miles", "feet": "kg", "hours": "minutes",
                  "minutes": "hours", "grams": "cm", "kg": "grams", "miles": "feet",
                  "seconds": "hours"}  # fmt: skip


def golds() -> list[str]:
    """The answers of every row of MATH-500, MATH train and GSM8K's test half."""
    answers = [json.loads(line)["answer"] for line in _lines("math500/test.jsonl")]
    rows = json.loads((DATA / "math_train/math.json").read_text(encoding="utf-8"))
    answers += [row["answer"] for row in rows if row["answer"]]
    answers += [gold_text(json.loads(line)["answer"]) for line in _lines("gsm8k/test.jsonl")]
    return [answer.strip() for answer in answers if 0 < len(answer) < 120]


def _lines(name: str) -> list[str]:
    return (DATA / name).read_text(encoding="utf-8").splitlines()


def _grouped(text: str, joint: str) -> str | None:
    return (
        _LONG.sub(lambda match: f"{int(match[0]):,}".replace(",", joint), text)
        if _LONG.search(text) and not re.search(r"(?<![\d.,_])0\d{3}", text)
        else None
    )


def digit_groups(text: str, r: random.Random) -> str | None:
    return _grouped(text, r.choice(["{,}", "\\,", ",\\!", "\u2009", "\u202f", "~", "'", " "]))


def bare_commas(text: str, r: random.Random) -> str | None:
    return None if re.search(r"[,(\[]", text) else _grouped(text, ",")


def spacing(text: str, r: random.Random) -> str | None:
    if "\\text" in text or "\\mbox" in text:
        return None
    space = r.choice([" ", "\\,", "\\;", "~"])
    wide = re.sub(
        r"(?<=[^\s,=+^_{(\[])\s?([+=])\s?(?=[^\s])",
        rf"{space}\1{space}".replace("\\", "\\\\").replace("\\\\1", "\\1"),
        text,
    )
    return wide if wide != text else f"{space}{text}{space}"


def fraction_command(text: str, r: random.Random) -> str | None:
    return text.replace("\\frac", r.choice(["\\dfrac", "\\tfrac"])) if "\\frac" in text else None


def _parts(text: str, mark: str) -> list[str]:
    """What a mark outside of all brackets separates."""
    parts, depth, start = [], 0, 0
    for index, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if character == mark and depth == 0 and index > start:
            parts.append(text[start:index])
            start = index + 1
    return [*parts, text[start:]]


def sum_order(text: str, r: random.Random) -> str | None:
    if re.search(r"[=<>,:|]|\\(?:text|le|ge|pm|cup|in|mbox|begin|to|mp)", text):
        return None
    parts = _parts(text, "+")
    return "+".join(reversed(parts)) if len(parts) > 1 and all(parts) else None


def list_order(text: str, r: random.Random) -> str | None:
    items = _items(text)
    return None if items is None else ",".join(reversed(items))


def set_braces(text: str, r: random.Random) -> str | None:
    items = _items(text)
    return None if items is None else f"\\{{{', '.join(reversed(items))}\\}}"


def _items(text: str) -> list[str] | None:
    """The items of a plain list; None for what could be digit groups, or has labels or words."""
    if re.search(r"\d,\d{3}|[=<>_!]|\\(?:text|mbox|in|cup|le|ge|ldots|dots)", text):
        return None
    items = [item.strip() for item in _parts(text, ",")]
    return items if len(items) > 1 and all(items) and len(set(items)) == len(items) else None


def expanded_fraction(text: str, r: random.Random) -> str | None:
    match = _FRACTION.fullmatch(text)
    if match is None:
        return f"\\frac{{{2 * int(text)}}}{{2}}" if _INTEGER.fullmatch(text) else None
    times = r.randint(2, 5)
    return f"{match[1]}\\frac{{{int(match[2]) * times}}}{{{int(match[3]) * times}}}"


def slash(text: str, r: random.Random) -> str | None:
    match = _FRACTION.fullmatch(text)
    return f"{match[1]}{match[2]}/{match[3]}" if match else None


def decimal_as_fraction(text: str, r: random.Random) -> str | None:
    match = _DECIMAL.fullmatch(text)
    if match is None:
        return f"{text}.0" if _INTEGER.fullmatch(text) else None
    return f"{match[1]}\\frac{{{int(match[2] + match[3])}}}{{{10 ** len(match[3])}}}"


def unit_added(text: str, r: random.Random) -> str | None:
    unit = r.choice(["\\text{ cm}", "\\ \\mathrm{cm}", "\\text{ minutes}", "\\mathrm{~min}"])
    return text + unit if _INTEGER.fullmatch(text) else None


def unit_left_out(text: str, r: random.Random) -> str | None:
    match = _UNIT.fullmatch(text)
    return match[1] if match else None


def full_width(text: str, r: random.Random) -> str | None:
    if "\\" in text:
        return re.sub(r"[\d=+]", lambda match: chr(ord(match[0]) + 0xFEE0), text)
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c < "~" and c not in "$^_{}" else c for c in text)


REWRITINGS: Sequence[Rewriting] = (
    digit_groups, bare_commas, spacing, fraction_command, sum_order, list_order, set_braces,
    expanded_fraction, slash, decimal_as_fraction, unit_added, unit_left_out, full_width,
)  # fmt: skip
WRAPPERS = (
    "\\boxed{%s}", "$\\boxed{%s}$", "The answer is $%s$.", "The answer is \\(%s\\).",
    "<think>0</think>So the answer is $%s$", "Answer: $%s$", "Thus $x$ works.\n\\[\\boxed{%s}\\]",
)  # fmt: skip


def digit_changed(text: str, r: random.Random) -> str | None:
    places = [match.start() for match in re.finditer(r"(?<![_\[])\d(?!\])", text)]
    if not places or re.search(r"_|\b1\^|\^\{?0|\\text|\bmod", text):
        return None
    place = r.choice(places)
    digit = str(int(text[place]) % 9 + 1)
    return text[:place] + digit + text[place + 1 :]


def sign_changed(text: str, r: random.Random) -> str | None:
    if re.search(r"[,=<>(\[|:_]|\\(?:text|mbox|pm|begin|infty)", text) or not re.search(
        r"[1-9]", text
    ):
        return None
    if not re.match(r"-?(?:\d|\\frac|\\sqrt)", text) or re.search(r"[+-]", text[1:]):
        return None
    return text[1:] if text.startswith("-") else f"-{text}"


def item_dropped(text: str, r: random.Random) -> str | None:
    items = _items(text)
    return None if items is None else ",".join(items[:-1])


def unit_changed(text: str, r: random.Random) -> str | None:
    match = _UNIT.fullmatch(text)
    return f"{match[1]} \\text{{ {_FLIPPED_UNITS[match[2]]}}}" if match else None


CORRUPTIONS: Sequence[Rewriting] = (digit_changed, sign_changed, item_dropped, unit_changed)

Case = tuple[str, str, str, bool]
"""Kind, gold, completion, whether it is to be paid."""


def cases(answers: Sequence[str], *, seed: int) -> Iterator[Case]:
    """Every rewriting that fits each gold, and each rewriting of the gold with a thing changed."""
    r = random.Random(seed)
    for gold in answers:
        for wrapper in WRAPPERS:
            yield "wrapper", gold, wrapper % gold, True
        for rewriting in REWRITINGS:
            text = rewriting(gold, r)
            if text is not None:
                yield rewriting.__name__, gold, f"\\boxed{{{text}}}", True
        for corruption in CORRUPTIONS:
            wrong = corruption(gold, r)
            if wrong is None:
                continue
            yield corruption.__name__, gold, r.choice(WRAPPERS) % wrong, False
            for rewriting in REWRITINGS:
                text = rewriting(wrong, r)
                if text is not None and rewriting is not unit_left_out:
                    kind = f"{corruption.__name__} + {rewriting.__name__}"
                    yield kind, gold, f"\\boxed{{{text}}}", False


def judged(answers: Sequence[str], *, seed: int) -> tuple[Counter[str], Counter[str], list[Case]]:
    """How many cases there are of each kind, how many were judged wrongly, and those."""
    number: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    mistakes = []
    for case in cases(answers, seed=seed):
        kind, gold, completion, due = case
        number[kind] += 1
        result = math_answer(Sample(prompt="", completion=completion, gold=gold))
        if (result.value == 1.0) != due:
            wrong[kind] += 1
            mistakes.append(case)
    return number, wrong, mistakes


def _check(answers: Sequence[str], *, seed: int) -> None:
    number, wrong, mistakes = judged(answers, seed=seed)
    for kind, count in sorted(number.items()):
        print(f"{count:7} {wrong[kind]:5}  {kind}")
    paid = [case for case in mistakes if not case[3]]
    refused = [case for case in mistakes if case[3]]
    due = sum(count for kind, count in number.items() if not kind.startswith(tuple(_NAMES)))
    assert not paid, paid[:20]
    assert len(refused) <= 0.01 * due, refused[:20]


_NAMES = [corruption.__name__ for corruption in CORRUPTIONS]


@needs_data
def test_real_golds_in_other_forms() -> None:
    _check(golds()[::20], seed=0)


@needs_data
@pytest.mark.slow
def test_all_real_golds_in_other_forms() -> None:
    _check(golds(), seed=1)
