"""Text on the pages has a contrast of at least 4.5, in light and dark, as WCAG 2.2 computes it."""

import re

import pytest

from pipeline.watch.page import page_environment

TEXT = 4.5  # success criterion 1.4.3
SHAPE = 3.0  # success criterion 1.4.11: the edges of controls
SURFACES = ("page", "card", "wash")
ON_SURFACES = ("ink", "soft", "link", "good", "bad", "mid")
TINTS = ("unsure", "deep")


def schemes() -> dict[str, dict[str, str]]:
    """The colours of the pages by name, light and dark."""
    css = page_environment().get_template("page.css.j2").render()
    light, dark = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    found = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", part)) for part in (light, dark)]
    return {"light": found[0], "dark": found[0] | found[1]}


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """The ratio of two colours' relative luminances, from 1 to 21."""
    bright, dim = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def luminance(colour: tuple[float, ...]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return sum(part * weight for part, weight in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))


def parts(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))


def mixed(tint: str, surface: str, share: float) -> tuple[float, ...]:
    pairs = zip(parts(tint), parts(surface), strict=True)
    return tuple(share * a + (1 - share) * b for a, b in pairs)


def test_the_formula_is_that_of_the_standard() -> None:
    assert contrast(parts("#000000"), parts("#ffffff")) == pytest.approx(21)
    assert contrast(parts("#777777"), parts("#ffffff")) == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_on_every_surface(scheme: str) -> None:
    colours = schemes()[scheme]
    low = {
        f"{text} on {surface}": round(ratio, 2)
        for surface in SURFACES
        for text in ON_SURFACES
        if (ratio := contrast(parts(colours[text]), parts(colours[surface]))) < TEXT
    }
    assert low == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_tokens_can_be_read_however_they_are_coloured(scheme: str) -> None:
    colours = schemes()[scheme]
    ratios = [
        contrast(parts(colours["ink"]), mixed(colours[tint], colours["card"], share / 20))
        for tint in TINTS
        for share in range(21)
    ]
    assert min(ratios) >= TEXT


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_controls_have_edges(scheme: str) -> None:
    colours = schemes()[scheme]
    for surface in ("page", "card"):
        assert contrast(parts(colours["edge"]), parts(colours[surface])) >= SHAPE
        assert contrast(parts(colours["accent"]), parts(colours[surface])) >= SHAPE
