"""A stage that goes on elsewhere says so: another machine is told, other versions are refused."""

import json
from pathlib import Path

import pytest

from pipeline.stages.recipe_changes import recipe_changes
from pipeline.stages.surroundings import SURROUNDINGS_FILE, OtherVersions, Surroundings, settled

HERE = Surroundings(
    packages={"torch": "2.13.0", "trl": "1.16.0"},
    machine={"machine": "x86_64", "instruction sets": "AVX2"},
)
NEWER = Surroundings(packages={"torch": "2.14.0", "trl": "1.16.0"}, machine=HERE.machine)
LARGER = Surroundings(
    packages=HERE.packages, machine={**HERE.machine, "instruction sets": "AVX2 AVX-512"}
)


def settle(work: Path, here: Surroundings, *, force: bool = False) -> tuple[list[str], list[str]]:
    """What is told, and the changes that a manifest would have."""
    told: list[str] = []
    record = settled(work, "reason", here, force=force, tell=told.append)
    assert record["packages"] == dict(HERE.packages)
    return told, record["changes"]


def test_the_same_surroundings_say_nothing(tmp_path: Path) -> None:
    for _ in range(2):
        assert settle(tmp_path, HERE) == ([], [])


def test_another_machine_is_told_once_and_written_down(tmp_path: Path) -> None:
    settle(tmp_path, HERE)
    change = "instruction sets AVX2, now AVX2 AVX-512"
    (sentence,), changes = settle(tmp_path, LARGER)
    assert f"reason goes on elsewhere than it was begun ({change})" in sentence
    assert "the end may differ in its last bits" in sentence
    assert changes == [change]
    assert settle(tmp_path, LARGER) == ([], [change])
    assert settle(tmp_path, HERE) == ([], [change])


def test_other_versions_are_refused_unless_forced(tmp_path: Path) -> None:
    settle(tmp_path, HERE)
    with pytest.raises(
        OtherVersions, match=r"stage reason was begun with torch 2\.13\.0, now 2\.14"
    ):
        settle(tmp_path, NEWER)
    told, changes = settle(tmp_path, NEWER, force=True)
    assert len(told) == 1
    assert changes == ["torch 2.13.0, now 2.14.0"]


@pytest.mark.parametrize("text", ["", "[]", '{"packages": {}}'])
def test_a_damaged_record_begins_anew(text: str, tmp_path: Path) -> None:
    (tmp_path / SURROUNDINGS_FILE).write_text(text)
    assert settle(tmp_path, HERE) == ([], [])
    assert json.loads((tmp_path / SURROUNDINGS_FILE).read_text())["machine"] == HERE.machine


def test_this_process_has_some() -> None:
    here = Surroundings.here(device="cpu")
    assert {"stepwell", "python", "torch"} <= here.packages.keys()
    assert here.machine["device"] == "cpu"


def test_changes_of_a_recipe_are_named_by_their_keys() -> None:
    before = "stages: {a: {lr: 1.0, rows: [x]}, b: {steps: 2}}"
    assert recipe_changes(before, before) is None
    now = "stages: {a: {lr: 2.0, rows: [x, y]}, c: {steps: 2}}"
    assert recipe_changes(before, now) == (
        "stages.a.lr 1.0, now 2.0; stages.a.rows ['x'], now ['x', 'y']; "
        "stages.b.steps 2, now absent; stages.c.steps absent, now 2"
    )
    many = ", ".join(f"k{i}: {i}" for i in range(20))
    changes = recipe_changes("{}", f"{{{many}}}")
    assert changes is not None
    assert changes.endswith("and 14 keys more")
    assert recipe_changes("a: [", "a: 1") is None
    assert recipe_changes("", "a: 1") == "a absent, now 1"
