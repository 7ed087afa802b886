"""What doctor finds, without importing the heavy libraries (the slow test does)."""

import dataclasses
import itertools
import json
import shutil
from pathlib import Path

import pytest

from pipeline.cli.app import main
from pipeline.cli.doctor import examine as examination
from pipeline.cli.doctor import libraries, machine
from pipeline.cli.doctor.check import Check, tried
from pipeline.cli.doctor.examine import examine
from pipeline.cli.doctor.recipe_checks import enough_memory
from pipeline.errors import OK, WRONG
from pipeline.plan.plan import make_plan
from pipeline.plan.stage_plan import Plan
from pipeline.recipe.load import load_recipe

SMALL = """
name: small
model: {scratch: {hidden: 32, layers: 1, heads: 1, mlp: 64}}
prompts: {train: {task: swaps, size: 10, difficulty: [1, 2]}}
stages: {cold: {kind: sft, rows: train.worked, batch_rows: 5}}
hardware: {device: cpu}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    (tmp_path / "small.yaml").write_text(SMALL)
    return str(tmp_path / "small.yaml")


@pytest.fixture
def plan(recipe: str) -> Plan:
    return make_plan(load_recipe(recipe))


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """No library is tried."""
    monkeypatch.setattr(examination, "started", lambda **_: [])


def of_machine() -> dict[str, Check]:
    """The cheap checks, by name."""
    before = itertools.takewhile(lambda c: c.name != "isolation", machine.machine_checks())
    return {check.name: check for check in before}


def test_the_machine_is_described() -> None:
    checks = of_machine()
    assert {"python", "versions", "cores", "memory", "disk", "compiler"} <= set(checks)
    assert checks["python"].status == "fine"
    assert "GiB" in checks["memory"].why


@pytest.mark.parametrize(
    ("flags", "status", "words"),
    [
        ("flags : fpu sse2", "warning", "none of those that matter: vLLM on the CPU needs AVX2"),
        ("flags : avx2 avx512f", "fine", "AVX2, AVX-512: no bf16 units"),
        ("flags : avx2 avx512_bf16 avx512_vnni", "fine", "AVX2, bf16, VNNI: on the CPU dtype: bf"),
        ("flags : avx2 amx_tile amx_bf16", "fine", "AVX2, bf16, AMX: "),
    ],
)
def test_instruction_sets_say_what_follows(
    tmp_path: Path, flags: str, status: str, words: str
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{flags}\n\nprocessor : 1\n{flags}\n")
    (check,) = machine.instructions(tmp_path / "cpuinfo")
    assert check.status == status
    assert check.why.startswith(words)
    assert check.status == "fine" or check.fix


def test_another_sort_of_cpu_has_no_such_line(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor : 0\nFeatures : fp asimd\n")
    assert not list(machine.instructions(tmp_path / "cpuinfo"))
    assert not list(machine.instructions(tmp_path / "absent"))


def test_a_speed_is_a_number_and_a_failure_stays_one() -> None:
    check = libraries.matmul({"why": "98.5"})
    assert (check.status, check.matmul_gflops) == ("fine", 98.5)
    assert "98.5 GFLOP/s (float32" in check.why
    failed = libraries.matmul({"error": "MemoryError: "})
    assert (failed.status, failed.matmul_gflops) == ("wrong", None)


def test_whatever_is_not_ok_says_what_to_do() -> None:
    for check in of_machine().values():
        assert check.status == "fine" or check.fix


@pytest.mark.usefixtures("light")
def test_a_recipe_is_ready_with_all_its_parts(
    recipe: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", recipe, "--json"]) == OK
    said = capfd.readouterr()
    document = json.loads(said.out)
    assert document["ready"] is True
    assert {"name", "status", "why", "fix"} == set(document["checks"][0])
    names = {check["name"]: check["status"] for check in document["checks"]}
    assert set(names.values()) <= {"fine", "warning"}
    for name in ("recipe memory", "run folder", "batches", "data train", "model files"):
        assert names[name] == "fine"
    assert "looking at the model's files: scratch" in said.err


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("stages.cold.micro_batch_rows=3", "micro_batch_rows=3 does not divide"),
        ("stages.cold.rows=trian.worked", "did you mean train?"),
        ("prompts.train={file: absent.jsonl}", "absent.jsonl"),
        ("model={path: absent}", "there is no folder absent"),
        ("stages.cold.stepss=2", "unknown key"),
    ],
)
def test_a_recipe_that_cannot_run_is_not_ready(
    recipe: str, change: str, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", recipe, change, "--json"]) == WRONG
    document = json.loads(capfd.readouterr().out)
    assert document["ready"] is False
    (fault,) = [check for check in document["checks"] if check["status"] == "wrong"]
    assert fault["name"] == "recipe"
    assert words in f"{fault['why']}; {fault['fix']}"
    assert fault["fix"]


def test_a_probe_is_of_a_recipe(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--probe"]) == WRONG
    assert "name the recipe" in capfd.readouterr().err


def test_too_little_memory_is_wrong_with_a_way_out(plan: Plan) -> None:
    hardware = plan.recipe.hardware.model_copy(update={"kv_cache_gib": 1e6})
    recipe = plan.recipe.model_copy(update={"hardware": hardware})
    check = enough_memory(dataclasses.replace(plan, recipe=recipe))
    assert check.status == "wrong"
    assert "smaller model" in check.fix


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is missing")
def test_isolation_is_tried() -> None:
    check = machine.isolation()
    assert check.status == "fine"
    assert "layers in force: " in check.why
    assert "seccomp" in check.why


def test_no_isolation_says_what_rewards_do(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = {"isolation": "none", "usable": False, "reason": "nothing isolates programs here"}
    monkeypatch.setattr(machine, "report", lambda: nothing)
    check = machine.isolation()
    assert check.status == "warning"
    assert "isolation: none" in check.fix


def test_languages_of_programs_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = {"python": "/p", "javascript": "/usr/bin/node", "c": None, "cpp": None, "go": None}
    monkeypatch.setattr(machine, "on_this_machine", lambda: paths)
    check = machine.languages()
    assert check.status == "fine"
    assert check.why == "of programs: python, javascript; not c, cpp, go"
    assert check.fix == "for programs in them install gcc, g++, stepwell[go]"
    monkeypatch.setattr(machine, "on_this_machine", lambda: dict.fromkeys(paths, "/there"))
    assert machine.languages().why == "of programs: python, javascript, c, cpp, go"
    assert machine.languages().fix == ""


def test_a_library_that_breaks_is_quoted() -> None:
    assert tried("x", "print('1.0')") == Check(name="x", status="fine", why="1.0")
    broken = tried("x", "raise ImportError('operator torchvision::nms does not exist')")
    assert broken.status == "wrong"
    assert "torchvision::nms" in broken.why
    assert broken.fix
    assert tried("x", "import os; os._exit(9)").why == "exit code 9"


@pytest.mark.slow
def test_a_machine_that_runs_the_tests_is_ready() -> None:
    checks = list(examine())
    assert not [check for check in checks if check.status == "wrong"]
    assert [check.name for check in checks if check.matmul_gflops] == ["matmul"]
