"""The page from one's own rows to a model: its blocks are run as they stand, as a reader would."""

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pages import ROOT, Page

PAGE = Page(path=ROOT / "recipes" / "own-data.md")
RUNS = ("run", "report", "rollouts", "metrics", "export", "chat", "eval")
"""Commands that need a run, or are one."""
LIMIT_S = 1800.0  # of a command, on a machine that does other work


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader's folder with the page's files, and `stepwell` and `python` as a reader has them."""
    place = tmp_path_factory.mktemp("own-data")
    for name, text in PAGE.files.items():
        (place / name).write_text(text)
    programs = place / "bin"
    programs.mkdir()
    for name, options in (("stepwell", "-P -m pipeline"), ("python", "")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {options} "$@"\n')
        program.chmod(0o755)
    return place


@pytest.fixture(scope="module")
def prepared(desk: Path) -> dict[str, str]:
    """What the commands before the run print, by command."""
    return {command: printed(command, desk) for command in commands() if not needs_a_run(command)}


@pytest.fixture(scope="module")
def finished(desk: Path, prepared: dict[str, str]) -> dict[str, str]:
    """What the run and all commands after it print."""
    return {command: printed(command, desk) for command in commands() if needs_a_run(command)}


def commands() -> list[str]:
    """The page's commands, in its order."""
    shell = [block.text for block in PAGE.blocks if block.language == "sh"]
    return "".join(shell).replace("\\\n", " ").splitlines()


def needs_a_run(command: str) -> bool:
    program, word = command.split()[:2]
    return (program == "stepwell" and word in RUNS) or word == "ask.py"


def printed(command: str, folder: Path) -> str:
    """What a command prints on standard output; it ends with 0."""
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def of(outputs: dict[str, str], start: str) -> Iterator[str]:
    """What the commands that begin so printed."""
    return (text for command, text in outputs.items() if command.startswith(start))


def test_every_command_of_the_page_is_one_of_the_two_halves() -> None:
    assert [c for c in commands() if c.startswith("stepwell run ")]
    assert {c.split()[0] for c in commands()} == {"python", "head", "wc", "stepwell"}
    assert PAGE.files.keys() == {"rows.py", "cases.jsonl", "ask.py"}


def test_rows_become_recipes_that_plan(desk: Path, prepared: dict[str, str]) -> None:
    rows = [json.loads(line) for line in (desk / "cups.jsonl").read_text().splitlines()]
    with (desk / "cups.csv").open(newline="") as file:
        same = list(csv.DictReader(file))
    assert len(rows) == len(same) == 1000
    assert [row["answer"].split()[-1] for row in rows] == [row["cup"] for row in same]
    held_out = (desk / "cups-held-out.jsonl").read_text().splitlines()
    learned = (desk / "cups-train.jsonl").read_text().splitlines()
    assert (len(learned), len(held_out)) == (900, 100)
    stages = [re.search(r"^stages: (.*)$", text, re.M) for text in of(prepared, "stepwell init")]
    assert [one and one[1] for one in stages] == [
        "start, reason, report, export",
        "reason, report, export",
    ]
    (plan,) = of(prepared, "stepwell plan")
    assert "6 x 8 x 8" in plan


def test_the_rows_and_the_reward_hold(prepared: dict[str, str]) -> None:
    for text in of(prepared, "stepwell data check"):
        assert text.count("gold answers wrong under answer: 0") == 2
        assert "warning" not in text
    (trial,) = of(prepared, "stepwell reward test")
    assert "3 cases, precision 1.000, recall 1.000" in trial
    (attack,) = of(prepared, "stepwell reward attack")
    assert re.search(r"\d{2,} attacks tried, 0 paid", attack)


@pytest.mark.slow
def test_the_run_learns_and_its_model_loads(desk: Path, finished: dict[str, str]) -> None:
    results = json.loads((desk / "runs/cups/stages/report/results.json").read_text())
    right = {row["model"]: row["accuracy"] for row in results}
    assert right.keys() == {"base", "start", "reason"}
    assert right["reason"] > right["base"] + 0.2
    assert (desk / "my-cups" / "model.safetensors").is_file()
    (page,) = of(finished, "stepwell report")
    assert "<html" in Path(desk, page.strip()).read_text()
    (table,) = of(finished, "stepwell metrics")
    assert len(list(csv.DictReader(table.splitlines()))) == 6
    (rollouts,) = of(finished, "stepwell rollouts")
    assert "reason, step 6" in rollouts
    (chat,), (asked,) = of(finished, "stepwell chat"), of(finished, "python ask.py")
    assert asked.strip() == chat.strip()
    (evaluated,) = of(finished, "stepwell eval")
    assert "of 50 problems" in evaluated
