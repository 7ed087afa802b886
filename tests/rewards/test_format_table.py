"""`stepwell data check` on five rows of every format that rewards/README.md lists."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from rewards.sandbox.languages import on_this_machine

ROOT = Path(__file__).resolve().parents[2]


def _rows_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "format_rows", Path(__file__).with_name("format_rows.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["format_rows"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FORMATS = _rows_module().FORMATS
LANGUAGES = {name for name, path in on_this_machine().items() if path}
HERE = [name for name, one in FORMATS.items() if one.args.get("language", "python") in LANGUAGES]


def write_recipe(folder: Path, names: list[str], *, wrong: bool = False) -> Path:
    """A recipe with an entry and an evaluation of each format; `wrong` breaks every solution."""
    prompts, routes, stages = {}, {}, {}
    for name in names:
        one = FORMATS[name]
        lines = [json.dumps(_broken(row) if wrong else row) for row in one.rows()]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
        prompts[name] = {"file": f"{name}.jsonl", "columns": one.columns}
        routes[name] = {"use": "builtin:code_tests", "args": one.args}
        report = {"kind": "evaluate", "models": ["base"], "prompts": name}
        stages[f"{name}_report"] = {**report, "max_tokens": 64}
    recipe = {
        "name": "formats",
        "model": {"path": "data/models/tiny"},
        "prompts": prompts,
        "rewards": {"answer": {"by_source": routes}},
        "stages": stages,
    }
    path = folder / "formats.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return path


WRONG = {
    "2 * x": "3 * x", "sum(x)": "len(x)", "upper": "lower", "== 0": "== 1", "max(x) -": "max(x) +",
    "a + b, 0": "a - b, 0", "toUpperCase": "toLowerCase", "=== 0": "=== 1", "...x) -": "...x) +",
    "end(), 0)": "end(), 1)", "toupper": "tolower", "back() -": "back() +", "total += n":
    "total -= n", "ToUpper": "ToLower", "[len(x)-1] -": "[len(x)-1] +",
}  # fmt: skip


def _broken(row: dict[str, Any]) -> dict[str, Any]:
    """The row with its solution's mistake, and its tests as they were."""
    keys = {"solution", "solutions", "code", "canonical_solution"}
    broken = dict(row)
    for key in keys & set(row):
        text = json.dumps(row[key])
        for right, wrong in WRONG.items():
            text = text.replace(right, wrong)
        broken[key] = json.loads(text)
    return broken


def checked(recipe: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "pipeline.cli.app", "data", "check", str(recipe), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is missing")
def test_golds_of_every_format_are_paid(tmp_path: Path) -> None:
    document = checked(write_recipe(tmp_path, HERE))
    entries = {entry["prompts"]: entry for entry in document["prompts"]}
    assert {name: entry["problems"] for name, entry in entries.items()} == dict.fromkeys(HERE, [])
    assert {entry["rows"] for entry in entries.values()} == {5}
    assert document["ok"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is missing")
def test_wrong_golds_of_every_format_are_named(tmp_path: Path) -> None:
    names = [name for name in HERE if name != "humaneval_plus"]  # the reference is the test
    entries = checked(write_recipe(tmp_path, names, wrong=True))["prompts"]
    counts = {entry["prompts"]: len(entry["problems"]) for entry in entries}
    assert counts == dict.fromkeys(names, 5)
