"""How programs in other languages are run: a file name and the commands that take it.

A recipe may give its own: ``language: {file: main.rb, commands: [[ruby, main.rb]]}``. All but the
last command prepare (a compiler); the last one runs. They read standard input and print.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rewards.sandbox.go import toolchain as go


@dataclass(frozen=True)
class Language:
    """`file` is written into the run's folder; `commands` run there, one after another."""

    file: str
    commands: Sequence[Sequence[str]]
    environment: Mapping[str, str] = field(default_factory=dict)


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
NAMES = ("python", *LANGUAGES, "go")
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8"}


def language(name: str | Mapping[str, Any]) -> Language:
    """The language of that name or description, its commands found on this machine.

    Raises:
        ValueError: when the name is unknown or a command is not installed.
    """
    if name == "go":
        return _go(("main", "program.go"))
    if isinstance(name, str) and name not in LANGUAGES:
        known = ", ".join(NAMES)
        raise ValueError(f"unknown language {name!r}: one of {known}, or {{file, commands}}")
    choice = LANGUAGES[name] if isinstance(name, str) else Language(name["file"], name["commands"])
    return Language(choice.file, [_by_path(command) for command in choice.commands])


def with_tests(name: str) -> Language:
    """The same for a program with tests in its own language.

    Raises:
        ValueError: as for :func:`language`.
    """
    if name != "go":
        return language(name)
    return _go(("solution", "program.go", "names.go"), ("tests", "tests.go"), ("main", "main.go"))


def readable(name: str | Mapping[str, Any]) -> tuple[str, ...]:
    """The folders that a sandbox for programs of this language must show besides the system's."""
    return go.toolchain().readable if name == "go" else ()


def on_this_machine() -> dict[str, str | None]:
    """The command of each language, or None where it is missing. Nothing is started."""
    commands = {name: choice.commands[0][0] for name, choice in LANGUAGES.items()}
    paths = {name: shutil.which(one, path=ENVIRONMENT["PATH"]) for name, one in commands.items()}
    return {"python": os.path.realpath(sys.executable), **paths, "go": go.go_command()}


def _go(*packages: Sequence[str]) -> Language:
    """Go, with the packages that are compiled one after another: name and files."""
    tools = go.toolchain()
    compiled = [tools.compiled(*package) for package in packages]
    return Language("program.go", [*compiled, tools.linked(), ["./program"]], go.ENVIRONMENT)


def _by_path(command: Sequence[str]) -> list[str]:
    program = command[0]
    if program.startswith("./"):
        return list(command)
    path = shutil.which(program, path=ENVIRONMENT["PATH"])
    if path is None:
        raise ValueError(f"{program} is not installed in {ENVIRONMENT['PATH']}")
    return [os.path.realpath(path), *command[1:]]
