"""Units of measure: which names mean the same, and how many of the basic one each is."""

from __future__ import annotations

import re
from fractions import Fraction

F = Fraction
_TABLE = {
    "length": {"m": F(1), "meter": F(1), "metre": F(1), "cm": F(1, 100), "centimeter": F(1, 100),
               "centimetre": F(1, 100), "mm": F(1, 1000), "millimeter": F(1, 1000), "km": F(1000),
               "kilometer": F(1000), "kilometre": F(1000), "inch": F(254, 10000),
               "in": F(254, 10000), "inche": F(254, 10000), "foot": F(3048, 10000),
               "feet": F(3048, 10000), "ft": F(3048, 10000), "yard": F(9144, 10000),
               "yd": F(9144, 10000), "mile": F(1609344, 1000), "mi": F(1609344, 1000),
               "dm": F(1, 10), "decimeter": F(1, 10)},
    "mass": {"g": F(1), "gram": F(1), "kg": F(1000), "kilogram": F(1000), "mg": F(1, 1000),
             "pound": F(45359237, 100000), "lb": F(45359237, 100000), "ton": F(1000000),
             "ounce": F(45359237, 1600000), "oz": F(45359237, 1600000)},
    "time": {"s": F(1), "sec": F(1), "second": F(1), "minute": F(60), "min": F(60),
             "hour": F(3600), "h": F(3600), "hr": F(3600), "day": F(86400), "week": F(604800),
             "month": F(2629746), "year": F(31556952)},
    "volume": {"l": F(1), "liter": F(1), "litre": F(1), "ml": F(1, 1000), "milliliter": F(1, 1000),
               "gallon": F(3785411784, 10**9), "quart": F(3785411784, 4 * 10**9),
               "cup": F(3785411784, 16 * 10**9), "pint": F(3785411784, 8 * 10**9)},
    "money": {"dollar": F(100), "usd": F(100), "cent": F(1)},
    "euro": {"euro": F(1), "eur": F(1)}, "yuan": {"yuan": F(1), "rmb": F(1)},
    "rupee": {"rupee": F(1)},
    "angle": {"degree": F(1), "radian": F(18000000, 314159), "rad": F(18000000, 314159)},
    "length/time": {"mph": F(1609344, 3600000), "kmh": F(1000, 3600), "kph": F(1000, 3600)},
    "force": {"n": F(1), "newton": F(1), "kn": F(1000)},
    "energy": {"j": F(1), "joule": F(1), "kj": F(1000)},
    "power": {"w": F(1), "watt": F(1), "kw": F(1000)}, "voltage": {"v": F(1), "volt": F(1)},
    "resistance": {"ohm": F(1), "kiloohm": F(1000)},
    "pressure": {"pa": F(1), "pascal": F(1), "kpa": F(1000)},
    "frequency": {"hz": F(1), "hertz": F(1), "khz": F(1000)},
    "heat": {"celsius": F(1)}, "heat_f": {"fahrenheit": F(1)},
}  # fmt: skip
_KNOWN = {name: (kind, size) for kind, names in _TABLE.items() for name, size in names.items()}
_POWERS = {"square": 2, "sq": 2, "squared": 2, "cubic": 3, "cu": 3, "cubed": 3}


def measure(unit: str) -> tuple[str, Fraction] | None:
    """Dimension and size of a unit such as ``square inches``, ``cm^2`` or ``miles / hour``.

    None for anything else that is counted: dogs, pieces, ways.
    """
    unit = re.sub(r"\bper\b", "/", unit.lower())
    parts = unit.split("/")
    simple = [_simple(part) for part in parts]
    measures = [part for part in simple if part is not None]
    if len(measures) != len(parts):
        return None
    kind, size = measures[0]
    for below_kind, below_size in measures[1:]:
        kind, size = f"{kind}/{below_kind}", size / below_size
    return kind, size


def _simple(text: str) -> tuple[str, Fraction] | None:
    power = 1
    for word in text.split():
        power = _POWERS.get(word, power)
    match = re.search(r"\^(\d)", text)
    power = int(match[1]) if match else power
    names = [w for w in re.sub(r"\^\S*", " ", text).split() if w not in _POWERS]
    if len(names) != 1:
        return None
    name = names[0].rstrip(".")
    one = _KNOWN.get(name) or _KNOWN.get(name.removesuffix("s"))
    if one is None:
        return None
    kind, size = one
    return (kind if power == 1 else f"{kind}^{power}"), size**power
