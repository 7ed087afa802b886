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


@pytest.mark.parametrize(
    ("flags", "status", "words"),
    [
        ("flags : fpu sse2", "warning", "none of those that matter: vLLM on the CPU needs AVX2"),
        ("flags : avx2 avx512f", "ok", "AVX2, AVX-512: no bf16 units"),
        ("flags : avx2 avx512_bf16 avx512_vnni", "ok", "AVX2, bf16, VNNI: on the CPU dtype: bf"),
        ("flags : avx2 amx_tile amx_bf16", "ok", "AVX2, bf16, AMX: "),
    ],
)
def test_instruction_sets_say_what_follows(
    tmp_path: Path, flags: str, status: str, words: str
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{flags}\n\nprocessor : 1\n{flags}\n")
    (check,) = doctor.instructions(tmp_path / "cpuinfo")
    assert check.status == status
    assert check.found.startswith(words)
    assert check.status == "ok" or check.fix


def test_another_sort_of_cpu_has_no_such_line(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor : 0\nFeatures : fp asimd\n")
    assert not list(doctor.instructions(tmp_path / "cpuinfo"))
    assert not list(doctor.instructions(tmp_path / "absent"))


def test_a_speed_is_a_number_and_a_failure_stays_one() -> None:
    check = doctor.matmul(doctor.tried("matmul", "print('98.5')"))
    assert (check.status, check.matmul_gflops) == ("ok", 98.5)
    assert "98.5 GFLOP/s (float32" in check.found
    failed = doctor.tried("matmul", "raise MemoryError")
    assert doctor.matmul(failed) == failed


def test_only_where_torch_loads_is_its_speed_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing_loads(name: str, program: str) -> doctor.Check:
        return doctor.Check(name=name, status="wrong", found=program, fix="make setup")

    monkeypatch.setattr(doctor, "tried", nothing_loads)
    names = [check.name for check in doctor.examine()]
    assert "torch" in names
    assert "matmul" not in names


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


def test_languages_of_programs_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = {"python": "/p", "javascript": "/usr/bin/node", "c": None, "cpp": None, "go": None}
    monkeypatch.setattr(doctor, "on_this_machine", lambda: paths)
    check = doctor.languages()
    assert check.status == "ok"
    assert check.found == "of programs: python, javascript; not c, cpp, go"
    assert check.fix == "for programs in them install gcc, g++, stepwell[go]"
    monkeypatch.setattr(doctor, "on_this_machine", lambda: dict.fromkeys(paths, "/there"))
    assert doctor.languages().found == "of programs: python, javascript, c, cpp, go"
    assert doctor.languages().fix == ""


def test_a_library_that_breaks_is_quoted() -> None:
    assert doctor.tried("x", "print('1.0')") == doctor.Check(name="x", status="ok", found="1.0")
    broken = doctor.tried("x", "raise ImportError('operator torchvision::nms does not exist')")
    assert broken.status == "wrong"
    assert "torchvision::nms" in broken.found
    assert broken.fix
    assert doctor.tried("x", "import os; os._exit(9)").found == "exit code 9"


@pytest.mark.slow
def test_a_machine_that_runs_the_tests_is_ready() -> None:
    checks = list(doctor.examine())
    assert not [check for check in checks if check.status == "wrong"]
    assert [check.name for check in checks if check.matmul_gflops] == ["matmul"]
