"""Every error class of the pipeline carries its exit code."""

import ast
from pathlib import Path

from pipeline.errors import FAILED, STOPPED, WRONG, RunFailed, Stopped, WrongInput

PIPELINE = Path(__file__).resolve().parents[1] / "pipeline"
OURS = ("StepwellError", "WrongInput", "RunFailed", "Stopped")


def test_each_kind_has_its_exit_code() -> None:
    assert (WrongInput.exit_code, RunFailed.exit_code, Stopped.exit_code) == (2, 3, 4)
    assert (WRONG, FAILED, STOPPED) == (2, 3, 4)


def test_every_error_class_is_of_one_kind() -> None:
    """But those of `recurrent`, which is copied beside weights and imports nothing of ours."""
    bases: dict[str, list[str]] = {}
    for path in sorted(PIPELINE.rglob("*.py")):
        if PIPELINE / "recurrent" in path.parents or path == PIPELINE / "errors.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                bases[node.name] = [base.id for base in node.bases if isinstance(base, ast.Name)]

    def is_ours(name: str) -> bool:
        return name in OURS or any(map(is_ours, bases.get(name, ())))

    strays = [
        name
        for name, of in bases.items()
        if any(base.endswith(("Error", "Exception")) for base in of) and not is_ours(name)
    ]
    assert strays == []


def test_nothing_tells_errors_apart_by_words() -> None:
    """No module compares the name or the module of an error's class."""
    told = [
        path.name
        for path in PIPELINE.rglob("*.py")
        if "__qualname__" in path.read_text() or "__mro__" in path.read_text()
    ]
    assert told == []
