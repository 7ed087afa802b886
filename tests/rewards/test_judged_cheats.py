"""Programs that try to decide judged tests themselves are not paid, and the tests ask something."""

import re
from pathlib import Path

import pytest

from rewards.api import Sample
from rewards.code_tests import code_tests

TEXT = Path(__file__).with_name("judged_cheats.txt").read_text()
PIECES = dict(re.findall(r"^## (.*)\n((?:(?!## ).*\n)*)", TEXT, re.MULTILINE))


@pytest.mark.parametrize("name", [name for name in PIECES if not name.startswith("tests: ")])
def test_only_the_right_programs_are_paid(name: str) -> None:
    tests = PIECES["tests: " + name.partition(":")[0]]
    sample = Sample(prompt="", completion=PIECES[name], columns={"test": tests}, id=name)
    reward = code_tests(sample)
    assert reward.value == float(name.endswith(": right")), (reward.verdict, reward.detail)
