"""Installed packages that programs in a sandbox may import: which files that takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

_NO_MODULES = {"__pycache__", "bin", "share", "include", "etc"}


@dataclass(frozen=True, kw_only=True)
class Packages:
    """Files of some packages with those that they need; nothing beside them is shown."""

    roots: tuple[str, ...] = ()
    """Folders to search for modules."""
    readable: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    """What the packages that were asked for are imported as."""


def installed(names: Sequence[str]) -> Packages:
    """The files of the packages of these names (as pip knows them) and of what they require.

    Raises:
        ValueError: when one is not installed.
    """
    from packaging.requirements import Requirement

    pending, known, modules = list(names), dict[str, Distribution](), list[str]()
    while pending:
        name = pending.pop()
        if name.lower() in known:
            continue
        try:
            package = known[name.lower()] = distribution(name)
        except PackageNotFoundError as error:
            raise ValueError(
                f"packages: {name} is not installed beside Stepwell; install it (pip install "
                f"{name}), or take it out"
            ) from error
        if name in names:
            modules += [_module(path) for path in _tops(package) if _module(path)]
        requirements = map(Requirement, package.requires or ())
        pending += [r.name for r in requirements if r.marker is None or r.marker.evaluate()]
    paths = [str(package.locate_file(top)) for package in known.values() for top in _tops(package)]
    roots = [str(package.locate_file("")) for package in known.values()]
    return Packages(roots=_once(roots), readable=_once(paths), modules=_once(modules))


def _tops(package: Distribution) -> list[str]:
    """The files and folders that a package has directly in its root."""
    tops = dict.fromkeys(path.parts[0] for path in package.files or ())
    return [top for top in tops if top not in ("..", "__pycache__")]


def _module(top: str) -> str:
    """What a top-level file or folder is imported as, or nothing."""
    name = top.partition(".")[0] if top.endswith((".py", ".so")) else top
    return name if name.isidentifier() and name not in _NO_MODULES else ""


def _once(items: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(Path(item)) if "/" in item else item for item in items))
