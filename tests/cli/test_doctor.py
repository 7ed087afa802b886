"""What doctor finds, without importing the heavy libraries (the slow test does)."""

import dataclasses
import itertools
import shutil
from pathlib import Path

import pytest

from pipeline.cli import doctor
from pipeline.plan.plan import make_plan
from pipeline.plan.stage_plan import Plan
from pipeline.recipe.load import load_recipe

SMALL = """
name: small
model: {scratch: {hidden: 32, layers: 1, heads: 1, mlp: 64}}
prompts: {train: {task: swaps, size: 10, difficulty: [1, 2]}}
stages: {cold: {kind: sft, rows: train.worked}}
hardware: {device: cpu}
report_to: [wandb]
"""


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    (tmp_path / "small.yaml").write_text(SMALL)
    return make_plan(load_recipe(str(tmp_path / "small.yaml")))


def found(plan: Plan | None) -> dict[str, doctor.Check]:
    """The cheap checks, by name."""
    light = itertools.takewhile(lambda c: c.name != "isolation", doctor.examine(plan))
    return {check.name: check for check in light}


def test_the_machine_is_described() -> None:
    checks = found(None)
    assert {"python", "versions", "cores", "memory", "disk", "compiler"} <= set(checks)
    assert checks["python"].status == "ok"
    assert "GiB" in checks["memory"].found


def test_whatever_is_not_ok_says_what_to_do() -> None:
    for check in found(None).values():
        assert check.status == "ok" or check.fix


def test_a_recipes_needs_are_checked(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "COMPANIONS", ())
    checks = itertools.takewhile(lambda c: c.name != "torch", doctor.examine(plan))
    names = {check.name: check for check in checks}
    assert names["recipe"].status == "ok"
    assert "wandb" in names


def test_too_little_memory_is_a_warning_with_a_way_out(plan: Plan) -> None:
    hardware = plan.recipe.hardware.model_copy(update={"kv_cache_gib": 1e6})
    recipe = plan.recipe.model_copy(update={"hardware": hardware})
    check = doctor.enough_memory(dataclasses.replace(plan, recipe=recipe))
    assert check.status == "warning"
    assert "smaller model" in check.fix


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is missing")
def test_isolation_is_tried() -> None:
    check = next(c for c in doctor.examine() if c.name == "isolation")
    assert check.status == "ok"
    assert "layers in force: " in check.found
    assert "seccomp" in check.found


def test_no_isolation_says_what_rewards_do(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = {"isolation": "none", "usable": False, "reason": "nothing isolates programs here"}
    monkeypatch.setattr(doctor, "report", lambda: nothing)
    check = next(c for c in doctor.examine() if c.name == "isolation")
    assert check.status == "warning"
    assert "isolation: none" in check.fix


def test_a_library_that_breaks_is_quoted() -> None:
    assert doctor.tried("x", "print('1.0')") == doctor.Check(name="x", status="ok", found="1.0")
    broken = doctor.tried("x", "raise ImportError('operator torchvision::nms does not exist')")
    assert broken.status == "wrong"
    assert "torchvision::nms" in broken.found
    assert broken.fix
    assert doctor.tried("x", "import os; os._exit(9)").found == "exit code 9"


@pytest.mark.slow
def test_a_machine_that_runs_the_tests_is_ready() -> None:
    wrong = [check for check in doctor.examine() if check.status == "wrong"]
    assert not wrong
