"""What test code takes from the program: names that it does not define, and what it imports."""

from __future__ import annotations

import ast
import builtins
import re
import symtable
import sys
from collections.abc import Iterator
from dataclasses import dataclass

MODULES = {
    "bisect", "cmath", "collections", "copy", "datetime", "decimal", "fractions", "functools",
    "heapq", "itertools", "json", "math", "operator", "os", "pytest", "random", "re", "string",
    "sys", "time", "unittest",
}  # fmt: skip
"""Modules that test code may use without importing them, as it ran beside the program's imports."""
HINTS = {
    "Any",
    "Callable",
    "Dict",
    "Iterable",
    "Iterator",
    "List",
    "Optional",
    "Set",
    "Tuple",
    "Union",
}
"""Names of ``typing`` that test code may use without importing them."""
LIBRARIES = {
    "PIL", "aiohttp", "attr", "bs4", "cv2", "dateutil", "django", "faker", "fastapi", "flask",
    "freezegun", "geopandas", "hypothesis", "jax", "keras", "librosa", "lxml", "matplotlib",
    "mock", "networkx", "nltk", "nose", "numpy", "openpyxl", "pandas", "parameterized", "psutil",
    "pytest", "pydantic", "pytest_mock", "pytz", "regex", "requests", "responses", "scipy",
    "seaborn", "sklearn", "sqlalchemy", "statsmodels", "sympy", "tensorflow", "textblob", "torch",
    "transformers", "wordcloud", "yaml",
}  # fmt: skip
"""Modules that are not the program, though Python does not bring them."""
BUILTINS = set(dir(builtins))
_CLASS = re.compile(r"[A-Z][A-Za-z0-9]*[a-z][A-Za-z0-9]*")


@dataclass(frozen=True)
class ProgramNames:
    """Names, and modules that stand for the program."""

    names: tuple[str, ...]
    classes: tuple[str, ...]
    """Those that read as classes: their objects' own operators hold in tests."""
    modules: tuple[str, ...]
    star: bool
    """Whether any public name of the program may be used."""
    imports: tuple[str, ...]
    """Modules that are not the program, with those that are used without an import."""
    unsaid: tuple[str, ...]
    """The imports that the code leaves out."""


def program_names(source: str, tree: ast.Module, *, setup: str, entry: str | None) -> ProgramNames:
    """What the test code `source` takes from the program."""
    names, modules, imports, star = [entry] if entry else [], [], [], False
    for node in ast.walk(tree):
        for module, name in _imported(node):
            if not _is_program(module):
                imports.append(module)
                continue
            parts = module.split(".")
            modules += [".".join(parts[: count + 1]) for count in range(len(parts))]
            star = star or name in (None, "*")
            names += [name] if name not in (None, "*") else []
    free = _free_names(source, setup)
    unsaid = sorted(free & MODULES)
    hints = sorted(free & HINTS)
    names += sorted(free - MODULES - HINTS - {"__name__", "__file__", "__doc__"})
    star = star or bool({"unittest.mock", "pytest", "importlib"}.intersection([*imports, *unsaid]))
    names = [name for name in dict.fromkeys(names) if not name.startswith("__")]
    return ProgramNames(
        names=tuple(names),
        classes=tuple(name for name in names if _CLASS.fullmatch(name)),
        modules=tuple(dict.fromkeys(modules)),
        star=star,
        imports=tuple(dict.fromkeys([*imports, *unsaid, *_setup_imports(setup)])),
        unsaid=(
            *(f"import {name}" for name in unsaid),
            *(f"from typing import {name}" for name in hints),
        ),
    )


def _imported(node: ast.AST) -> Iterator[tuple[str, str | None]]:
    """(module, name) of an import; no name where the module itself is imported."""
    match node:
        case ast.Import(names=aliases):
            yield from ((alias.name, None) for alias in aliases)
        case ast.ImportFrom(module=None, names=aliases):  # from . import solution
            yield from ((alias.name, None) for alias in aliases)
        case ast.ImportFrom(module=str(module), names=aliases):
            for alias in aliases:
                yield module, alias.name
                if module in ("unittest", "src"):
                    yield f"{module}.{alias.name}", None


def _is_program(module: str) -> bool:
    """Whether an import is of the program: of nothing that has another meaning."""
    top = module.partition(".")[0]
    return top not in sys.stdlib_module_names and top not in LIBRARIES


def _setup_imports(setup: str) -> list[str]:
    return [module for node in ast.walk(ast.parse(setup)) for module, _ in _imported(node)]


def _free_names(source: str, setup: str) -> set[str]:
    """Names that test code reads and neither it, its setup nor Python defines."""
    read, bound = _global_names(source)
    known = _global_names(setup)[1] if setup else set[str]()
    return read - bound - known - BUILTINS


def _global_names(source: str) -> tuple[set[str], set[str]]:
    """(names read from the module's scope, names bound in it)."""
    top = symtable.symtable(source, "tests.py", "exec")
    tables, read, bound = [top], set(), set()
    while tables:
        table = tables.pop()
        tables += table.get_children()
        for symbol in table.get_symbols():
            name = symbol.get_name()
            binds = symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()
            if binds and (table is top or symbol.is_declared_global()):
                bound.add(name)
            if symbol.is_referenced() and (table is top or symbol.is_global()):
                read.add(name)
    return read, bound
