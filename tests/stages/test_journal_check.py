"""Damaged steps of a journal are named and set aside; training goes on from where it can."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.generate.journal import Journal, journals
from pipeline.stages.journal_check import CHECKED, Needs, check_finished, start_of
from tests.generate.test_journal import step
from tests.train.test_checkpoints import checkpoint, flipped

PLAIN = Needs(ahead=0, history=False, updates_per_step=1)
AHEAD = Needs(ahead=1, history=False, updates_per_step=1)
HISTORY = Needs(ahead=0, history=True, updates_per_step=1)
TWICE = Needs(ahead=0, history=False, updates_per_step=2)


def journal_of(folder: Path, told: list[str], *, steps: int) -> Journal:
    journal = Journal(folder / "journal", tell=told.append)
    for number in range(steps):
        journal.write(number, step(float(number)))
    return journal


@pytest.mark.parametrize(
    ("needs", "lost", "start", "then"),
    [
        (PLAIN, 1, "checkpoint-4", "it lies before checkpoint-4"),
        (PLAIN, 4, "checkpoint-4", "it is made again"),
        (AHEAD, 1, "checkpoint-4", "it lies before checkpoint-4"),
        (AHEAD, 4, "checkpoint-2", "it is made again"),
        (HISTORY, 3, "checkpoint-2", "it is made again"),
        (HISTORY, 1, None, "it is made again"),
        (TWICE, 1, "checkpoint-4", "it lies before checkpoint-4"),
        (TWICE, 2, "checkpoint-4", "it is made again"),
    ],
)
def test_training_goes_on_from_where_it_can(
    needs: Needs, lost: int, start: str | None, then: str, tmp_path: Path
) -> None:
    told: list[str] = []
    journal = journal_of(tmp_path, told, steps=6)
    for updates in (2, 4):
        checkpoint(tmp_path, updates)
    flipped(journal.path(lost))
    whole = start_of(tmp_path, journal, needs)
    assert (None if whole is None else whole.name) == start
    assert f"{journal.path(lost)} differs from its checksum" in told[-1]
    assert told[-1].endswith(then) or f"{then}, so that" in told[-1]
    assert journal.steps() == [number for number in range(6) if number != lost]
    assert journal.path(lost).with_name(f"{journal.path(lost).name}.old-1").exists()
    told.clear()
    assert start_of(tmp_path, journal, needs) == whole
    assert told == []


def test_a_step_that_is_gone_and_needed_is_made_again(tmp_path: Path) -> None:
    told: list[str] = []
    journal = journal_of(tmp_path, told, steps=5)
    checkpoint(tmp_path, 2)
    checkpoint(tmp_path, 4)
    journal.path(2).unlink()
    assert start_of(tmp_path, journal, PLAIN) == tmp_path / "checkpoint-4"
    assert start_of(tmp_path, journal, HISTORY) == tmp_path / "checkpoint-2"
    (sentence,) = told
    assert f"{tmp_path / 'checkpoint-4'} is set aside as" in sentence
    assert "takes step-000002 of" in sentence
    assert (tmp_path / "checkpoint-4.old-1").is_dir()


def test_journals_of_a_finished_stage_are_looked_at(tmp_path: Path) -> None:
    told: list[str] = []
    for name in ("journal", "journal/seed-1", "journal.old-1"):
        Journal(tmp_path / name).write(3, step(0.5))
        flipped(Journal(tmp_path / name).path(3))
    assert journals(tmp_path) == [tmp_path / "journal", tmp_path / "journal" / "seed-1"]
    check_finished(tmp_path / "journal", tell=told.append)
    assert [line.split(" differs")[0] for line in told] == [
        str(tmp_path / "journal" / "step-000003.parquet"),
        str(tmp_path / "journal" / "seed-1" / "step-000003.parquet"),
    ]
    assert all("its stage is finished" in line for line in told)
    check_finished(tmp_path / "journal", tell=told.append)
    assert len(told) == 2


def _overwritten(file: Path) -> None:
    """Its times are as before; the change of the file itself has one that cannot be set."""
    times = file.stat()
    flipped(file)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def _replaced(file: Path) -> None:
    """By a damaged copy with the times of the file, as a tool that restores leaves it."""
    other = file.with_name("copy")
    shutil.copy2(file, other)
    _overwritten(other)
    other.replace(file)


def _cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1)


@pytest.mark.parametrize("damage", [_overwritten, _replaced, _cut])
def test_a_finished_journal_is_read_again_where_it_changed(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    told: list[str] = []
    journal = journal_of(tmp_path, told, steps=3)
    check_finished(journal.folder, tell=told.append)
    before = (journal.folder / CHECKED).stat().st_mtime_ns
    check_finished(journal.folder, tell=told.append)
    assert told == []
    assert (journal.folder / CHECKED).stat().st_mtime_ns == before
    damage(journal.path(1))
    check_finished(journal.folder, tell=told.append)
    (line,) = told
    assert line.startswith(f"{journal.path(1)} differs from its checksum")
    assert journal.steps() == [0, 2]


def test_a_finished_journal_that_stayed_is_not_read(tmp_path: Path) -> None:
    """Seen by a wrong checksum beside it, which only reading can find."""
    told: list[str] = []
    journal = journal_of(tmp_path, told, steps=2)
    check_finished(journal.folder, tell=told.append)
    journal.path(1).with_suffix(".sha256").write_text("0" * 64)
    check_finished(journal.folder, tell=told.append)
    assert told == []
    assert list(journal.damaged()) == [1]
    assert journal.read(1) is None  # where it is used, it is noticed


def test_a_copied_journal_is_read_anew(tmp_path: Path) -> None:
    told: list[str] = []
    journal = journal_of(tmp_path / "run", told, steps=2)
    check_finished(journal.folder, tell=told.append)
    copy = Journal(shutil.copytree(journal.folder, tmp_path / "copy"))
    _overwritten(copy.path(0))
    check_finished(copy.folder, tell=told.append)
    assert len(told) == 1
    assert copy.steps() == [1]


@pytest.mark.parametrize("text", ["", "[]", '{"0": [1, 2, 3, 4]}', "{"])
def test_a_damaged_note_of_what_was_read_costs_a_reading(text: str, tmp_path: Path) -> None:
    told: list[str] = []
    journal = journal_of(tmp_path, told, steps=2)
    flipped(journal.path(0))
    (journal.folder / CHECKED).write_text(text)
    check_finished(journal.folder, tell=told.append)
    assert len(told) == 1
    assert list(json.loads((journal.folder / CHECKED).read_text())) == ["1"]
