"""The author's guide names every argument, field, trait and form that there is."""

import inspect
import re
from dataclasses import fields
from pathlib import Path

from rewards.api import Sample, Traits
from rewards.forms import recognise
from rewards.registry import BUILTINS, resolve

GUIDE = (Path(__file__).resolve().parents[2] / "rewards/README.md").read_text()


def cells(head: str) -> dict[str, list[str]]:
    """Names in backticks of a table: those in the second column by each of the first."""
    rows = GUIDE.partition(f"| {head} |")[2].partition("\n\n")[0].splitlines()[2:]
    columns = [row.split(" | ") for row in rows]
    names = [[re.findall(r"`(\w+)`", cell) for cell in row[:2]] for row in columns]
    return {name: second for first, second in names for name in first}


def test_built_ins_with_their_arguments() -> None:
    arguments = {
        name: list(inspect.signature(resolve(f"builtin:{name}").function).parameters)[1:]
        for name in BUILTINS
    }
    assert cells("built-in") == arguments


def test_fields_of_a_sample() -> None:
    assert set(cells("field")) == {field.name for field in fields(Sample)}


def test_traits() -> None:
    assert set(cells("trait")) == {field.name for field in fields(Traits)}


def test_forms_are_recognised_as_they_are_written() -> None:
    rows = re.findall(r"^\| (\w+) \| `f\(([\w, *]+)\)", GUIDE.partition("| form |")[2], re.M)
    assert len(rows) == 6
    for form, parameters in rows:
        space: dict = {}
        exec(f"def f({parameters}): ...", space)
        assert recognise(space["f"], ref="f").form == form
