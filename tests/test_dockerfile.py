"""What the Dockerfile names is there, and it does what set-up does. Nothing here builds it."""

import importlib.util
import re
import tomllib
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet

from tests.pages import ROOT

LINES = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def of(instruction: str) -> list[str]:
    """What stands behind an instruction, each time it is given."""
    return [" ".join(line.split()[1:]) for line in LINES if line.split()[:1] == [instruction]]


@pytest.fixture(scope="module")
def set_up() -> Any:
    """The set-up script as a module."""
    spec = importlib.util.spec_from_file_location("set_up", ROOT / ".ci" / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def arguments() -> dict[str, str]:
    """Build arguments with their defaults."""
    return dict(given.split("=", 1) for given in of("ARG"))


def test_its_python_and_its_extra_are_the_projects() -> None:
    assert of("FROM") == ["python:${PYTHON}-slim-bookworm"]
    project = PROJECT["project"]
    assert SpecifierSet(project["requires-python"]).contains(arguments()["PYTHON"])
    assert arguments()["ENGINE"] == "cpu"
    assert {"cpu", "gpu"} <= project["optional-dependencies"].keys()
    assert '"/src[$ENGINE]"' in " ".join(of("RUN"))


def test_it_installs_as_set_up_does(set_up: Any) -> None:
    steps = " ".join(of("RUN"))
    assert arguments()["TORCH_CPU_INDEX"] == set_up.TORCH_CPU_INDEX
    assert f"for package in {' '.join(set_up.COMPANIONS)};" in steps
    assert "bubblewrap g++" in steps


def test_the_context_is_what_a_wheel_is_made_of() -> None:
    first, *others = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] != "#"
    ]
    assert first == "*"
    kept = {line[1:] for line in others if line.startswith("!")}
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    project = PROJECT["project"]
    files = {"pyproject.toml", project["readme"], *project["license-files"]}
    assert kept == {*wheel["only-include"], *files}
    assert all((ROOT / name).exists() for name in kept)
    assert of("COPY") == [". /src"]


def test_a_user_without_rights_runs_the_command() -> None:
    assert of("USER") == ["1000"]
    assert "useradd --create-home --uid 1000 stepwell" in " ".join(of("RUN"))
    (command,) = of("ENTRYPOINT")
    assert re.findall(r'"(\w+)"', command) == list(PROJECT["project"]["scripts"])
    assert LINES.index("USER 1000") < LINES.index('ENTRYPOINT ["stepwell"]')


def test_the_page_says_what_was_not_tried_and_names_arguments_that_there_are() -> None:
    page = (ROOT / "pipeline" / "use" / "install.md").read_text()
    assert "have not been tried" in page
    named = re.findall(r"--build-arg (\w+)=([\w.]+)", page)
    assert named == [("ENGINE", "gpu"), ("PYTHON", "3.11")]
    assert {name for name, _ in named} <= arguments().keys()
    supported = SpecifierSet(PROJECT["project"]["requires-python"])
    assert supported.contains(dict(named)["PYTHON"])
