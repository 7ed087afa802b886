"""The files whose code a user's reward runs: its own, and what it imports from beside itself.

Read from source text; nothing is imported. Installed packages are not followed, but for the one
that a reward of an installed package stands in.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from rewards.registry import is_file, module_file, reward_file, split_reference

OURS = ("pipeline", "rewards")
"""Packages that are found before a user's, and are no user's code."""


def source_files(ref: str, *, base: Path | None = None) -> dict[str, Path]:
    """Every file of a reward's code by its name relative to the folder it is imported from.

    Empty for a built-in, an installed package's entry point, and code that has no source text.
    A file that cannot be parsed is there, and what it imports is not.

    Args:
        ref: as the recipe has it.
        base: folder that a file's path is relative to, and where modules are looked up.

    Raises:
        RewardNotFound: when there is no such file or module.
    """
    if ref.startswith("builtin:") or ":" not in ref:
        return {}
    where, _ = split_reference(ref, ref=ref)
    if is_file(where):
        first = reward_file(where, ref=ref, base=base)
        return _reached(first, first.parent)
    module = module_file(where, ref, base)
    if module is None:
        return {}
    depth = len(where.split(".")) - (module.name != "__init__.py")
    root = module.parents[depth]
    installed = root != (base or Path.cwd())
    return _reached(module, root, package=where.partition(".")[0] if installed else None)


def _reached(first: Path, folder: Path, *, package: str | None = None) -> dict[str, Path]:
    """The file and all below `folder` that its imports lead to, within `package` if given."""
    waiting, met = [first], {first}
    while waiting:
        for near in _imported(waiting.pop(), folder):
            top = near.relative_to(folder).parts[0].removesuffix(".py")
            if near not in met and top not in OURS and package in (None, top):
                met.add(near)
                waiting.append(near)
    return {str(path.relative_to(folder)): path for path in sorted(met)}


def _imported(path: Path, folder: Path) -> Iterator[Path]:
    """Files below `folder` that a file imports, at any depth of its code."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield from _modules(folder, alias.name.split("."))
            case ast.ImportFrom(module=module, names=names, level=level):
                start = folder if level == 0 else path.parents[level - 1]
                if not start.is_relative_to(folder):
                    continue
                parts = module.split(".") if module else []
                yield from _modules(start, parts)
                for alias in names:
                    yield from _modules(start, [*parts, alias.name])


def _modules(start: Path, parts: list[str]) -> Iterator[Path]:
    """The files that importing a dotted name runs: its packages' and its own."""
    for count in range(1, len(parts) + 1):
        place = start.joinpath(*parts[:count])
        for candidate in (place / "__init__.py", place.with_name(f"{place.name}.py")):
            if candidate.is_file():
                yield candidate
