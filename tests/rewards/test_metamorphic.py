# ruff: noqa: E501  tables of forms, one family a line
"""Maths answers that are equal, or unequal, by construction, in twenty thousand pairs."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from fractions import Fraction

import pytest

from rewards.math_compare import compare

Pair = tuple[str, str, bool, str]
"""Gold, answer, whether they are equal, and the family the pair is from."""


def pairs(number: int, *, seed: int) -> Iterator[Pair]:
    """`number` pairs from every family in turn."""
    generator = random.Random(seed)
    for index in range(number):
        yield _FAMILIES[index % len(_FAMILIES)](generator)


def _integer(r: random.Random) -> Pair:
    n = r.choice((r.randint(-99, 99), r.randint(1000, 10**7)))
    if r.random() < 0.5:
        forms = [
            str(n),
            f"{n}.0",
            f"{n:,}",
            f"${n}$",
            f"x = {n}",
            f"{2 * n}/2",
            f"{n}\\text{{ cm}}",
        ]
        forms += [f"\\frac{{{3 * n}}}{{3}}", f"({n})", f"{n}\\,", f"\\text{{{n}}}", f"+{n}"]
        return str(n), r.choice(forms) if n >= 0 else r.choice(forms[:-1]), True, "integer"
    m = n + r.choice((-1, 1, 10, -10, 100))
    return (
        str(n),
        r.choice([str(m), f"{m:,}", f"{n}.5", f"{n}\\%", f"-({n + 1})"]),
        False,
        "integer",
    )


def _fraction(r: random.Random) -> Pair:
    a, b = r.randint(-40, 40) or 7, r.randint(2, 40)
    value = Fraction(a, b)
    gold = f"\\frac{{{a}}}{{{b}}}"
    k = r.randint(2, 5)
    if r.random() < 0.5:
        forms = [
            f"{a}/{b}",
            f"\\dfrac{{{a * k}}}{{{b * k}}}",
            f"\\frac{{{-a}}}{{{-b}}}",
            f"{a} \\div {b}",
        ]
        forms.append(f"{value.numerator}/{value.denominator}")
        if value > 1 and value.denominator > 1:
            whole, rest = divmod(value.numerator, value.denominator)
            forms += [
                f"{whole}\\frac{{{rest}}}{{{value.denominator}}}",
                f"{whole} {rest}/{value.denominator}",
            ]
        return gold, r.choice(forms), True, "fraction"
    wrong = [
        f"\\frac{{{b}}}{{{a}}}",
        f"\\frac{{{a + 1}}}{{{b}}}",
        f"{a}/{b + 1}",
        f"\\frac{{{-a}}}{{{b}}}",
    ]
    wrong = [w for w, v in zip(wrong, (Fraction(b, a), Fraction(a + 1, b), Fraction(a, b + 1), -value), strict=True)
             if v != value]  # fmt: skip
    return gold, r.choice(wrong), False, "fraction"


def _decimal(r: random.Random) -> Pair:
    digits = r.randint(1, 6)
    n = r.randint(1, 10**digits)
    value = Fraction(n, 10**digits)
    gold = f"{n / 10**digits:.{digits}f}"
    if r.random() < 0.5:
        forms = [
            gold + "0",
            f"{value.numerator}/{value.denominator}",
            gold.removeprefix("0"),
            f"{gold}",
        ]
        forms.append(f"{Fraction(n * 100, 10**digits).numerator}\\%" if digits <= 2 else gold)
        return gold, r.choice(forms), True, "decimal"
    off = (n + r.choice((1, -1))) / 10**digits
    return gold, r.choice([f"{off:.{digits}f}", f"{n}", f"{gold}1"]), False, "decimal"


def _surd(r: random.Random) -> Pair:
    a, b = r.randint(2, 9), r.choice((2, 3, 5, 6, 7, 10))
    if r.random() < 0.5:
        gold, forms = r.choice([
            (f"{a}\\sqrt{{{b}}}", [f"\\sqrt{{{a * a * b}}}", f"{a} \\cdot \\sqrt{b}", f"sqrt({a * a * b})", f"\\frac{{{a * b}}}{{\\sqrt{{{b}}}}}"]),
            (f"\\frac{{\\sqrt{{{b}}}}}{{{b}}}", [f"\\frac{{1}}{{\\sqrt{{{b}}}}}", f"1/sqrt({b})", f"{b}^{{-1/2}}"]),
            (f"{a}+\\sqrt{{{b}}}", [f"\\sqrt{{{b}}}+{a}", f"\\sqrt{b} + {a}", f"\\frac{{{2 * a}+2\\sqrt{{{b}}}}}{{2}}"]),
            (f"\\sqrt[3]{{{b}}}", [f"{b}^{{1/3}}", f"{b}^{{\\frac{{1}}{{3}}}}"]),
        ])  # fmt: skip
        return gold, r.choice(forms), True, "surd"
    wrong = [
        f"{a + 1}\\sqrt{{{b}}}",
        f"{a}\\sqrt{{{b + 4}}}",
        f"\\sqrt{{{a * b}}}",
        f"{a}+\\sqrt{{{b}}}",
        f"-{a}\\sqrt{{{b}}}",
    ]
    wrong.append(f"{a * b**0.5:.3f}")
    return f"{a}\\sqrt{{{b}}}", r.choice(wrong), False, "surd"


def _polynomial(r: random.Random) -> Pair:
    x = r.choice("xyzntab")
    a, b, c = r.randint(1, 9), r.randint(-9, 9) or 2, r.randint(-9, 9) or 3
    gold = f"{a}{x}^2{b:+d}{x}{c:+d}"
    if r.random() < 0.5:
        forms = [
            f"{c}{b:+d}{x}+{a}{x}^{{2}}", f"{a} {x}^2 {b:+d} \\cdot {x} {c:+d}", f"{x}({a}{x}{b:+d}){c:+d}",
            f"y = {gold}" if x != "y" else gold, f"{a}*{x}**2{b:+d}*{x}{c:+d}", f"f({x}) = {gold}",
            f"\\frac{{{2 * a}{x}^2{2 * b:+d}{x}{2 * c:+d}}}{{2}}",
        ]  # fmt: skip
        return gold, r.choice(forms), True, "polynomial"
    wrong = [f"{a}{x}^2{b:+d}{x}{c + 1:+d}", f"{a + 1}{x}^2{b:+d}{x}{c:+d}", f"{a}{x}^3{b:+d}{x}{c:+d}",
             f"{a}{x}^2{-b:+d}{x}{c:+d}", f"{a}w^2{b:+d}w{c:+d}", str(a + b + c)]  # fmt: skip
    return gold, r.choice(wrong), False, "polynomial"


def _pi(r: random.Random) -> Pair:
    a, b = r.randint(1, 12), r.choice((2, 3, 4, 6))
    gold = f"\\frac{{{a}\\pi}}{{{b}}}"
    if r.random() < 0.5:
        forms = [
            f"{a}\\pi/{b}",
            f"\\frac{{{a}}}{{{b}}}\\pi",
            f"{a}π/{b}",
            f"\\pi \\cdot \\frac{{{a}}}{{{b}}}",
            f"{180 * a // b}^\\circ",
        ]
        return gold, r.choice(forms), True, "pi"
    wrong = [
        f"\\frac{{{a + 1}\\pi}}{{{b}}}",
        f"\\frac{{{a}}}{{{b}}}",
        f"{a * 3.14 / b:.2f}",
        f"{180 * a // b + 1}^\\circ",
    ]
    return gold, r.choice(wrong), False, "pi"


def _several(r: random.Random) -> Pair:
    items = r.sample(range(-20, 30), r.randint(2, 5))
    gold = ", ".join(map(str, items))
    other = r.sample(items, len(items))
    if r.random() < 0.5:
        joined = ", ".join(map(str, other))
        forms = [joined, f"\\{{{joined}\\}}", " and ".join(map(str, other)), f"x = {joined}",
                 ", ".join(f"x_{i}={n}" for i, n in enumerate(other)), " \\text{ or } ".join(f"x={n}" for n in other)]  # fmt: skip
        return gold, r.choice(forms), True, "list"
    forms = [", ".join(map(str, other[1:])), ", ".join(map(str, [*other, 99])),
             ", ".join(map(str, [other[0] + 50, *other[1:]]))]  # fmt: skip
    return gold, r.choice(forms), False, "list"


def _tuple(r: random.Random) -> Pair:
    a, b = r.sample(range(-9, 20), 2)
    gold = f"({a}, {b})"
    if r.random() < 0.5:
        forms = [f"({a},{b})", f"\\left({a}, {b}\\right)", f"(x, y) = ({a}, {b})", f"x={a}, y={b}",
                 f"({2 * a}/2, {b}.0)", f"\\left(\\frac{{{3 * a}}}{{3}}, {b}\\right)"]  # fmt: skip
        return gold, r.choice(forms), True, "tuple"
    forms = [f"({b}, {a})", f"({a}, {b + 1})", f"({a}, {b}, 0)", f"{a}", f"{b}, {a}", f"[{a}, {b})"]
    return gold, r.choice(forms), False, "tuple"


def _interval(r: random.Random) -> Pair:
    a, b = sorted(r.sample(range(-15, 25), 2))
    gold, equal, wrong = r.choice([
        (f"[{a},{b}]", [f"{a} \\le x \\le {b}", f"x \\in [{a}, {b}]", f"\\{{x | {a} \\le x \\le {b}\\}}", f"\\left[{a},{b}\\right]"],
         [f"({a},{b}]", f"[{a},{b + 1}]", f"{a} < x \\le {b}"]),
        (f"({a},\\infty)", [f"x > {a}", f"(x \\mid x > {a})".replace("(", "\\{", 1)[:-1] + "\\}", f"({a}, +\\infty)", f"{a} < x"],
         [f"[{a},\\infty)", f"x < {a}", f"({a - 1},\\infty)", f"(-\\infty,{a})"]),
        (f"(-\\infty,{a})\\cup({b},\\infty)", [f"x<{a} \\text{{ or }} x>{b}", f"({b},\\infty) \\cup (-\\infty,{a})"],
         [f"(-\\infty,{a}]\\cup({b},\\infty)", f"({a},{b})", f"(-\\infty,{b})\\cup({a},\\infty)"]),
    ])  # fmt: skip
    same = r.random() < 0.5
    return gold, r.choice(equal if same else wrong), same, "interval"


def _matrix(r: random.Random) -> Pair:
    rows = [[r.randint(-9, 9) for _ in range(2)] for _ in range(2)]

    def text(rows: list[list[int]], kind: str, form: Callable[[int], str] = str) -> str:
        body = " \\\\ ".join(" & ".join(form(n) for n in row) for row in rows)
        return f"\\begin{{{kind}}}{body}\\end{{{kind}}}"

    gold = text(rows, "pmatrix")
    if r.random() < 0.5:
        forms = [
            text(rows, "bmatrix"),
            text(rows, "pmatrix", lambda n: f"\\frac{{{2 * n}}}{{2}}"),
            "$" + gold + "$",
        ]
        return gold, r.choice(forms), True, "matrix"
    other = [list(row) for row in rows]
    other[r.randint(0, 1)][r.randint(0, 1)] += r.choice((-1, 1))
    return (
        gold,
        r.choice([text(other, "pmatrix"), text([*rows, [0, 0]], "pmatrix")]),
        False,
        "matrix",
    )


def _equation(r: random.Random) -> Pair:
    a, b, c = r.randint(1, 9), r.randint(1, 9), r.randint(-9, 9)
    gold = f"{a}x+{b}y={c}"
    k = r.randint(2, 4)
    if r.random() < 0.5:
        forms = [f"{k * a}x+{k * b}y={k * c}", f"{a}x+{b}y-{c}=0" if c >= 0 else f"{a}x+{b}y+{-c}=0",
                 f"y = \\frac{{{c}-{a}x}}{{{b}}}", f"{c} = {b}y+{a}x", f"x = ({c}-{b}y)/{a}"]  # fmt: skip
        return gold, r.choice(forms), True, "equation"
    forms = [f"{a}x+{b}y={c + 1}", f"{a}x-{b}y={c}", f"{a + 1}x+{b}y={c}", f"{a}x+{b}z={c}"]
    return gold, r.choice(forms), False, "equation"


def _measured(r: random.Random) -> Pair:
    n = r.randint(2, 90)
    gold, equal, wrong = r.choice([
        (f"{n}\\text{{ cm}}", [f"{n}", f"{n} cm", f"{n}\\ \\mathrm{{cm}}", f"{n} centimeters"], [f"{n} m", f"{n + 1} cm", f"{n}\\text{{ mm}}"]),
        (f"{n}\\%", [f"{n}\\%", f"{n / 100:.2f}", f"{n} percent", f"\\frac{{{n}}}{{100}}"], [f"{n}", f"{n + 1}\\%", f"{n / 10:.1f}\\%"]),
        (f"{n}^\\circ", [f"{n}", f"{n}^{{\\circ}}", f"{n}°", f"{n} degrees"], [f"{n + 1}^\\circ", f"{n}\\pi"]),
        (f"\\${n}", [f"{n}", f"{n} dollars", f"\\${n}.00"], [f"{n}.01", f"{n + 1} dollars"]),
        (f"{n} hours", [f"{n}", f"{n} hrs", f"{60 * n} minutes"], [f"{n} minutes", f"{n + 1} hours"]),
    ])  # fmt: skip
    same = r.random() < 0.5
    return gold, r.choice(equal if same else wrong), same, "measured"


def _based(r: random.Random) -> Pair:
    base = r.randint(3, 9)
    digits = "".join(str(r.randint(1, base - 1)) for _ in range(r.randint(2, 5)))
    gold = f"{digits}_{base}"
    if r.random() < 0.5:
        return gold, r.choice([f"{digits}_{{{base}}}", digits, f"({digits})_{base}"]), True, "based"
    return (
        gold,
        r.choice([f"{digits}_{base + 1}", f"1{digits}_{base}", f"{int(digits) + 1}"]),
        False,
        "based",
    )


def _words(r: random.Random) -> Pair:
    words = [
        "yes",
        "no",
        "even",
        "odd",
        "ellipse",
        "Tuesday",
        "line segment",
        "infinitely many",
        "A",
        "C",
    ]
    word, other = r.sample(words, 2)
    gold = f"\\text{{{word}}}"
    if r.random() < 0.5:
        forms = [word, f"\\text{{{word}}}", f"\\textbf{{{word}}}", f" {word}."]
        if len(word) == 1:
            forms += [f"({word})", f"\\text{{({word})}}", f"{word}."]
        return gold, r.choice(forms), True, "words"
    return gold, r.choice([other, f"\\text{{not {word}}}", f"\\text{{{other}}}"]), False, "words"


def _power(r: random.Random) -> Pair:
    a, n = r.randint(2, 9), r.randint(2, 99)
    gold, equal, wrong = r.choice([
        (f"{a}^{{{n}}}", [f"{a}^{n}", f"{a} \\cdot {a}^{{{n - 1}}}", f"{a}^{{{n}}}"], [f"{a}^{{{n + 1}}}", f"{a + 1}^{{{n}}}", f"{a}^{{-{n}}}"]),
        (f"{a}^{{-{n}}}", [f"\\frac{{1}}{{{a}^{{{n}}}}}", f"1/{a}^{{{n}}}"], [f"{a}^{{-{n + 1}}}", "0", f"-{a}^{{{n}}}"]),
        (f"{a}!", [str(_factorial(a))], [str(_factorial(a) + 1), f"{a + 1}!"]),
        (f"{a}e^{{{n}}}", [f"{a} \\cdot e^{{{n}}}", f"e^{{{n}}} \\times {a}"], [f"{a}e^{{{n + 1}}}", f"{a + 1}e^{{{n}}}"]),
        (f"\\ln {a}", [f"\\ln({a})", f"-\\ln\\frac{{1}}{{{a}}}", f"\\frac{{\\ln {a * a}}}{{2}}"], [f"\\ln {a + 1}", f"-\\ln {a}"]),
    ])  # fmt: skip
    same = r.random() < 0.5
    return gold, r.choice(equal if same else wrong), same, "power"


def _factorial(n: int) -> int:
    return 1 if n < 2 else n * _factorial(n - 1)


def _complex(r: random.Random) -> Pair:
    a, b = r.randint(1, 9), r.randint(2, 9)
    gold = f"{a}-{b}i"
    if r.random() < 0.5:
        return (
            gold,
            r.choice([f"-{b}i+{a}", f"{a} - {b} i", f"\\frac{{{2 * a}-{2 * b}i}}{{2}}"]),
            True,
            "complex",
        )
    return gold, r.choice([f"{a}+{b}i", f"{b}-{a + 10}i", f"{a - b}"]), False, "complex"


def _trigonometry(r: random.Random) -> Pair:
    n = r.randint(2, 9)
    gold, equal, wrong = r.choice([
        (f"\\sin {n}x", [f"\\sin({n}x)", f"\\cos(\\frac{{\\pi}}{{2}}-{n}x)"], [f"\\cos {n}x", f"\\sin {n + 1}x", f"{n}\\sin x"]),
        (f"{n}\\sin^2 x", [f"{n}-{n}\\cos^2 x", f"{n}(\\sin x)^2"], [f"{n}\\sin x^2", f"{n}\\cos^2 x"]),
        (f"\\arctan {n}", [f"\\tan^{{-1}} {n}", f"\\frac{{\\pi}}{{2}}-\\arctan\\frac{{1}}{{{n}}}"], [f"\\arctan {n + 1}", f"\\tan {n}"]),
    ])  # fmt: skip
    same = r.random() < 0.5
    return gold, r.choice(equal if same else wrong), same, "trigonometry"


_FAMILIES = (
    _integer, _fraction, _decimal, _surd, _polynomial, _pi, _several, _tuple, _interval, _matrix,
    _equation, _measured, _based, _words, _power, _complex, _trigonometry,
)  # fmt: skip


def measured(number: int, *, seed: int) -> tuple[float, float, list[Pair]]:
    """Precision, recall and the pairs judged wrongly."""
    paid = right = due = 0
    wrong = []
    for pair in pairs(number, seed=seed):
        gold, answer, equal, _ = pair
        correct = compare(gold, answer).verdict == "correct"
        paid, due, right = paid + correct, due + equal, right + (correct and equal)
        if correct != equal:
            wrong.append(pair)
    return right / paid, right / due, wrong


def test_a_thousand_pairs() -> None:
    precision, recall, wrong = measured(1_000, seed=0)
    assert precision >= 0.999, wrong
    assert recall >= 0.98, wrong


@pytest.mark.slow
def test_twenty_thousand_pairs() -> None:
    precision, recall, wrong = measured(20_000, seed=1)
    assert precision >= 0.999, wrong[:20]
    assert recall >= 0.98, wrong[:20]
