"""How programs in other languages are run: a file name and the commands that take it.

A recipe may give its own: ``language: {file: main.rb, commands: [[ruby, main.rb]]}``. All but the
last command prepare (a compiler); the last one runs. They read standard input and print.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Language:
    """`file` is written into the run's folder; `commands` run there, one after another."""

    file: str
    commands: Sequence[Sequence[str]]


LANGUAGES = {
    "javascript": Language("program.js", [["node", "program.js"]]),
    "cpp": Language(
        "program.cpp",
        [["g++", "-std=c++17", "-O1", "-o", "program", "program.cpp"], ["./program"]],
    ),
    "c": Language(
        "program.c", [["gcc", "-O1", "-o", "program", "program.c", "-lm"], ["./program"]]
    ),
}
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8"}


def language(name: str | Mapping[str, Any]) -> Language:
    """The language of that name or description, its commands found on this machine.

    Raises:
        ValueError: when the name is unknown or a command is not installed.
    """
    if isinstance(name, str) and name not in LANGUAGES:
        known = ", ".join(["python", *LANGUAGES])
        raise ValueError(f"unknown language {name!r}: one of {known}, or {{file, commands}}")
    choice = LANGUAGES[name] if isinstance(name, str) else Language(name["file"], name["commands"])
    return Language(choice.file, [_by_path(command) for command in choice.commands])


def _by_path(command: Sequence[str]) -> list[str]:
    program = command[0]
    if program.startswith("./"):
        return list(command)
    path = shutil.which(program, path=ENVIRONMENT["PATH"])
    if path is None:
        raise ValueError(f"{program} is not installed in {ENVIRONMENT['PATH']}")
    return [os.path.realpath(path), *command[1:]]
