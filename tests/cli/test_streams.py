"""Streams that are closed, full, read by nobody, or take no Unicode: commands end quietly."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import FAILED, OK, WRONG

RECIPE = """
name: small
model: {scratch: {hidden: 32, layers: 1, heads: 1, mlp: 64}}
prompts:
  träin: {task: swaps, size: 10, difficulty: [1, 2]}
stages:
  kält: {kind: sft, rows: träin.worked, max_tokens: 64}
"""
COMMANDS = ("plan small.yaml", "plan small.yaml --json", "--help")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(RECIPE, encoding="utf-8")
    return tmp_path


def shell(
    line: str, project: Path, *, stdout: int = subprocess.PIPE, **variables: str
) -> subprocess.CompletedProcess[str]:
    """A line of the shell, where `stepwell` is the command."""
    stepwell = f'stepwell() {{ {sys.executable} -P -m pipeline "$@"; }}; {line}'
    return subprocess.run(
        ["bash", "-c", stepwell],
        cwd=project,
        env=os.environ | variables,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )


@pytest.fixture
def unread() -> Iterator[int]:
    """A pipe whose reader went away."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_reader_that_went_away(command: str, project: Path, unread: int) -> None:
    done = shell(f"stepwell {command}", project, stdout=unread)
    assert (done.returncode, done.stderr) == (OK, "")


def test_closed_streams(project: Path) -> None:
    assert shell("stepwell plan small.yaml >&-", project).stderr == ""
    assert shell("stepwell plan small.yaml --json <&- >&- 2>&-", project).returncode == OK


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_behind_standard_output(command: str, project: Path) -> None:
    done = shell(f"stepwell {command} > /dev/full", project)
    assert done.returncode == FAILED
    assert done.stderr.splitlines()[0].endswith("No space left on device")
    assert len(done.stderr.splitlines()) == 1


def test_an_error_that_nobody_reads(project: Path, unread: int) -> None:
    done = shell("stepwell plan none.yaml 2>&1", project, stdout=unread)
    assert (done.returncode, done.stderr) == (WRONG, "")


def test_an_ascii_terminal(project: Path) -> None:
    ascii_only = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "TERM": "dumb", "COLUMNS": "20"}
    for command in COMMANDS[:2]:
        done = shell(f"stepwell {command}", project, **ascii_only)
        assert done.returncode == OK
        assert done.stderr == ""
        assert done.stdout.isascii()
    wrong = shell("stepwell plan small.yaml stages.kält.stäps=1", project, **ascii_only)
    assert "unknown key" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    """Another terminal removed it."""
    (tmp_path / "gone").mkdir()
    command = f"{sys.executable} -P -m pipeline plan quickstart"
    done = subprocess.run(
        ["sh", "-c", f"rmdir '{tmp_path}/gone'; exec {command}"],
        cwd=tmp_path / "gone",
        capture_output=True,
        text=True,
    )
    assert done.returncode == WRONG
    assert done.stderr == "the folder that this was started in is gone; cd to another one\n"
