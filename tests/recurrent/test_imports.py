"""What the package may import: it is copied beside weights, and its pure parts stay pure."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "pipeline" / "recurrent"
MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_of_ours_are_relative_and_stay_inside(path: Path) -> None:
    """transformers copies files that are named by `from .x import y`, and no others."""
    depth = len(path.relative_to(PACKAGE).parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            roots = {alias.name.partition(".")[0] for alias in node.names}
            assert not roots & {"pipeline", "rewards"}, ast.unparse(node)
        elif isinstance(node, ast.ImportFrom) and node.level:
            assert node.level <= depth, ast.unparse(node)
            assert node.module, ast.unparse(node)
        elif isinstance(node, ast.ImportFrom):
            root = (node.module or "").partition(".")[0]
            assert root not in {"pipeline", "rewards"}, ast.unparse(node)


@pytest.mark.parametrize("module", ["request", "shape"])
def test_pure_modules_load_no_machine_learning_library(module: str) -> None:
    heavy = {"torch", "transformers", "numpy", "vllm", "ray", "trl", "deepspeed"}
    code = f"import sys, pipeline.recurrent.{module}; print({heavy!r} & set(sys.modules))"
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parents[1], capture_output=True, text=True
    )
    assert out.stdout.strip() == "set()", out.stderr
