"""A wheel has all that a clone has, works far from it, and is imported by the project's name."""

import importlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.build import build_editable, build_wheel

from pipeline import api
from tests.pages import ROOT, tracked_files

SHIPPED_AS = {
    "pipeline/_stepwell/": "stepwell/",
    "pipeline/": "pipeline/",
    "rewards/": "rewards/",
    "recipes/": "pipeline/_recipes/",
    "data/": "pipeline/_data/",
}
"""Where a wheel has the files of these folders; the first that holds a file decides."""

LIMIT_S = 600.0


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel."""
    place = tmp_path_factory.mktemp("wheel")
    before = Path.cwd()
    os.chdir(ROOT)  # what a build front-end does
    try:
        return place / build_wheel(str(place))
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def packages(wheel: Path) -> Path:
    """A folder with what the wheel installs."""
    place = wheel.parent / "packages"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    return place


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packages: Path) -> Path:
    """An empty folder, where Python finds the wheel's packages first."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(packages))
    return tmp_path


def said(*arguments: str) -> str:
    """What Python prints for these arguments, in the folder that the test stands in."""
    command = [sys.executable, "-P", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_a_wheel_has_every_file_of_ours_and_no_other_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    expected = set()
    for name in tracked_files():
        folder = next((folder for folder in SHIPPED_AS if name.startswith(folder)), None)
        if folder is not None:
            expected.add(name.replace(folder, SHIPPED_AS[folder], 1))
    assert expected - names == set()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "pipeline",
        "rewards",
        "stepwell",
    }


def test_an_editable_install_has_the_projects_name_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    with zipfile.ZipFile(tmp_path / build_editable(str(tmp_path))) as archive:
        assert {"stepwell/__init__.py", "stepwell/py.typed"} <= set(archive.namelist())


def test_the_name_of_the_project_gives_the_functions() -> None:
    stepwell = importlib.import_module("pipeline._stepwell")
    assert stepwell.__all__ == api.__all__
    assert all(getattr(stepwell, name) is getattr(api, name) for name in api.__all__)


def test_a_recipe_plans_outside_of_the_clone(outside: Path, packages: Path) -> None:
    text = said("-m", "pipeline", "plan", "quickstart")
    assert text.startswith("quickstart: data/models/tiny, seed 7\n")
    assert list(outside.iterdir()) == []
    program = (
        "import json, stepwell, pipeline, rewards\n"
        "stages = stepwell.plan('depth-tiny').stages\n"
        "places = [module.__file__ for module in (stepwell, pipeline, rewards)]\n"
        "print(json.dumps([stages, places]))"
    )
    stages, places = json.loads(said("-c", program))
    assert "depth" in stages
    assert all(Path(place).is_relative_to(packages) for place in places)


def test_models_that_ship_are_found_outside_of_the_clone(outside: Path) -> None:
    program = (
        "from pipeline.use.benchmarks import model_source\n"
        "from pipeline.use.model_place import model_place\n"
        "print(model_place('data/models/tiny').folder)\n"
        "print(model_source('data/models/tiny', device='cpu', trust_remote_code=False)['path'])"
    )
    places = said("-c", program).splitlines()
    assert all(Path(place, "config.json").is_file() for place in places)
    rows = [{"question": f"{n}+1?", "answer": str(n + 1)} for n in range(40)]
    (outside / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ("--data", "rows.jsonl", "--model", "data/models/tiny", "--machine", "cpu")
    said("-m", "pipeline", "init", *options)
    assert 'path: "data/models/tiny"' in (outside / "rows.yaml").read_text()


def test_another_pipeline_is_named(outside: Path) -> None:
    (outside / "pipeline.py").write_text("")
    command = [sys.executable, "-c", "import stepwell"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "another `pipeline` comes before Stepwell's own" in done.stderr
