"""The set-up script's pure parts; `make setup` on a fresh clone tests the rest."""

import importlib.util
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script as a module, with its .venv elsewhere."""
    spec = importlib.util.spec_from_file_location("stepwell_setup", ROOT / ".ci" / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    return module


def test_the_torch_pin_is_read_from_the_one_place(setup: ModuleType) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert setup.torch_pin() in project["dependencies"]


def test_a_python_that_does_not_run_has_no_version(setup: ModuleType, tmp_path: Path) -> None:
    shim = tmp_path / "python3.12"
    shim.write_text("#!/bin/sh\necho 'command not found' >&2\nexit 127\n")
    shim.chmod(0o755)
    assert setup.version_of(str(shim)) is None
    assert setup.version_of(str(tmp_path / "none")) is None
    assert setup.version_of(sys.executable) == sys.version_info[:2]


def test_without_a_right_python_set_up_says_what_to_install(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\necho 3 9\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(setup.SetupError, match=r"python3 is 3\.9.*install"):
        setup.find_python()


def test_the_stamp_follows_engine_and_environment(setup: ModuleType, tmp_path: Path) -> None:
    before = setup.stamp_key("cpu")
    assert setup.stamp_key("cpu") == before
    assert setup.stamp_key("gpu") != before
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "pyvenv.cfg").write_text("version = 3.12.1\n")
    assert setup.stamp_key("cpu") != before


def test_the_script_needs_only_the_standard_library() -> None:
    text = (ROOT / ".ci" / "setup.py").read_text()
    imported = [line.split()[1].split(".")[0] for line in text.splitlines() if _imports(line)]
    assert imported
    assert set(imported) <= sys.stdlib_module_names | {"__future__"}


def _imports(line: str) -> bool:
    return line.startswith(("import ", "from "))
