"""Every page of the documentation holds: links, pictures, names, commands, recipes and code.

Shell blocks (`sh`) are read: each command must be one that exists, with options that it has, and
recipes that load. Sessions (`console`) are run and their output compared, but for what runs a
model. Python and YAML blocks are run and loaded as they stand.
"""

import doctest
import inspect
import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from pydantic import TypeAdapter, ValidationError

from pipeline.cli.app import app, main
from pipeline.plan.plan import make_plan
from pipeline.recipe.load import load_recipe
from pipeline.recipe.schema import Recipe
from tests.pages import (
    HISTORY,
    ROOT,
    SUFFIXES,
    Page,
    has_name,
    missing_names,
    pages,
    tracked_files,
)

PAGES = pages()
OFFLINE = ("reward", "plan", "schema", "data")
"""Commands of `stepwell` that run no model: a session shows what they print."""

every_page = pytest.mark.parametrize("page", PAGES, ids=str)


def blocks(*languages: str) -> list[Any]:
    """A parameter for each block in these languages, on all pages."""
    return [
        pytest.param(page, block, id=f"{page}:{block.line}")
        for page in PAGES
        for block in page.blocks
        if block.language in languages
    ]


@every_page
def test_links_and_pictures_lead_somewhere(page: Page) -> None:
    wrong = []
    for link in [link for link in page.links if "://" not in link]:
        name, _, anchor = link.partition("#")
        target = page.path.parent / name if name else page.path
        if not target.exists() or (anchor and anchor not in Page(path=target).anchors):
            wrong.append(link)
    assert wrong == []


@pytest.mark.parametrize("page", [p for p in PAGES if str(p) != HISTORY], ids=str)
def test_files_and_modules_that_are_named_exist(page: Page) -> None:
    assert missing_names(page) == []


@every_page
def test_commands_exist(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page.save_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    wrong = {command: fault for command in commands(page) if (fault := fault_of(command))}
    named = {command: fault for command in named_commands(page) if (fault := fault_of(command))}
    assert wrong == {}
    assert {c: fault for c, fault in named.items() if "Missing parameter" not in fault} == {}


@pytest.mark.parametrize(("page", "block"), blocks("console"))
def test_sessions_show_what_is_printed(
    page: Page,
    block: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    page.save_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    for command, shown in re.findall(r"^\$ (.*)\n((?:[^$].*\n|\n)*)", block.text, re.MULTILINE):
        if is_offline(command):
            main(shlex.split(command.partition(" | head")[0], comments=True)[1:])
            printed = capfd.readouterr()
            assert_shown(shown, printed.out or printed.err)


@pytest.mark.parametrize(("page", "block"), blocks("python"))
def test_code_runs(page: Page, block: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page.save_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(block.text, f"{page}:{block.line}", "exec"), names)
    for function in [value for value in names.values() if inspect.isfunction(value)]:
        for example in doctest.DocTestFinder().find(function, globs=names, module=False):
            assert doctest.DocTestRunner().run(example).failed == 0


@pytest.mark.parametrize(("page", "block"), blocks("yaml"))
def test_recipes_and_their_parts_load(
    page: Page, block: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page.save_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    values = yaml.safe_load(block.text)
    if "name" in values:
        (tmp_path / "whole.yaml").write_text(block.text)
        assert make_plan(load_recipe("whole.yaml")).stages
    else:
        assert faults_of_part(values) == []


@pytest.mark.parametrize(("page", "block"), blocks("json"))
def test_json_is_json(page: Page, block: Any) -> None:
    if block.file is not None:
        assert all(json.loads(line) for line in block.text.splitlines())
    else:
        json.loads(block.text)


def test_names_are_told_from_those_that_do_not_exist() -> None:
    assert has_name("pipeline.recipe.load")
    assert has_name("pipeline.recipe.load:load_recipe")
    assert has_name("pipeline.recipe.load.load_recipe")
    assert has_name("pipeline.recipe")
    assert not has_name("pipeline.recipe.load.load_recipes")
    assert not has_name("pipeline.config.load")


def test_faults_of_pages_are_seen(tmp_path: Path) -> None:
    page = Page(path=tmp_path / "page.md")
    page.path.write_text(
        "`pipeline/config/load.py`, `nowhere.py`, `pipeline.config.load`, `stepwell.yaml`\n\n"
        "`pipeline/recipe/load.py`, `logs/rollouts.log`, `org/model`, `stepwell run quickstart`\n"
    )
    assert missing_names(page) == [
        "pipeline/config/load.py",
        "nowhere.py",
        "pipeline.config.load",
        "stepwell.yaml",
    ]


@pytest.mark.parametrize(
    "command",
    [
        "stepwell runn quickstart",
        "stepwell run quickstart --fast",
        "stepwell run no-such-recipe",
        "stepwell run quickstart stages.reason.speed=2",
        "make everything",
        "pytest tests/test_nothing.py",
        "python -m tests.bench.nothing",
    ],
)
def test_faults_of_commands_are_seen(command: str) -> None:
    assert fault_of(command)


def commands(page: Page) -> list[str]:
    """The commands in a page's shell blocks, and those of its sessions that are not run."""
    lines = []
    for block in page.blocks:
        if block.language == "sh":
            lines += block.text.replace("\\\n", " ").splitlines()
        elif block.language == "console":
            session = [line[2:] for line in block.text.splitlines() if line.startswith("$ ")]
            lines += [command for command in session if not is_offline(command)]
    return lines


def is_offline(command: str) -> bool:
    """Whether a session shows what this command prints."""
    return command.split()[:1] == ["stepwell"] and command.split()[1] in OFFLINE


def named_commands(page: Page) -> list[str]:
    """Commands that a page names in backticks, which may leave arguments out."""
    lines = []
    for span in page.spans:
        if re.match(r"(stepwell|make|pytest|python -m) \w", span):
            first, *others = span.split("|")
            lines += [first, *(f"{first.rpartition(' ')[0]} {word}" for word in others)]
    return lines


def fault_of(command: str) -> str | None:
    """What is wrong with a command line; None where it is right, or not one of ours."""
    plain = re.sub(r"[\[\]]|\.\.\.", "", command.partition(" | head")[0])
    program, *words = shlex.split(plain, comments=True)
    if program == "stepwell" and words:
        return stepwell_fault(words)
    if program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        wrong = [word for word in words if "=" not in word and word not in targets]
        return f"no target {wrong}" if wrong else None
    if program == "pytest":
        paths = [word.partition("::")[0] for word in words if "/" in word]
        return next((f"no {path}" for path in paths if not (ROOT / path).exists()), None)
    if (
        program == "python"
        and words[:1] == ["-m"]
        and words[1].split(".")[0] in ("tests", "rewards")
    ):
        return None if has_name(words[1]) else f"no module {words[1]}"
    return None


def stepwell_fault(words: list[str]) -> str | None:
    """A fault of a line of our own command: its options, its recipe, its overrides."""
    try:
        values = parsed(typer.main.get_command(app), words, None, "stepwell")
        recipe = str(values.get("recipe") or "")
        if recipe and not recipe.isupper() and (Path(recipe).is_file() or ".yaml" not in recipe):
            overrides = [o for o in values.get("overrides") or [] if not o.startswith("a.b=")]
            load_recipe(recipe, overrides)
    except Exception as error:  # of either library: any of them is a fault of the page
        return f"{type(error).__name__}: {error}"
    return None


def parsed(command: Any, words: list[str], parent: Any, name: str) -> dict[str, Any]:
    """What a command would be called with; the last one of nested ones. Raises on a wrong line."""
    stood_for = ["1" if len(word) == 1 and word.isupper() else word for word in words]
    context = command.make_context(name, stood_for, parent=parent)
    rest = [*getattr(context, "_protected_args", []), *context.args]
    if not rest:
        return context.params
    inner_name, inner, more = command.resolve_command(context, rest)
    return parsed(inner, more, context, inner_name)


def assert_shown(shown: str, printed: str) -> None:
    """What a session shows is printed, from the start; `...` leaves lines out."""
    pieces = re.split(r"^\.\.\.\n", shown, flags=re.MULTILINE)
    assert printed.startswith(pieces[0])
    place = 0
    for piece in pieces:
        place = printed.find(piece, place)
        assert place >= 0, f"{piece!r} is not in {printed!r}"
        place += len(piece)


def faults_of_part(values: dict[str, Any]) -> list[str]:
    """What is wrong with some sections of a recipe, apart from what the part leaves out."""
    faults = []
    for key, value in values.items():
        if key not in Recipe.model_fields:
            faults.append(f"{key}: no such section")
            continue
        try:
            TypeAdapter(Recipe.model_fields[key].annotation).validate_python(value)
        except ValidationError as error:
            faults += [str(e) for e in error.errors() if e["type"] != "missing"]
    return faults


def test_parts_with_faults_are_seen() -> None:
    assert faults_of_part({"stages": {"a": {"kind": "grpo", "stepss": 1}}})
    assert faults_of_part({"stagess": {}})
    assert faults_of_part({"stages": {"a": {"kind": "grpo", "steps": 1}}}) == []


def test_modules_that_code_and_recipes_name_exist() -> None:
    wrong = {
        (name, reference)
        for name in tracked_files()
        if name.endswith((".py", ".yaml")) and name != "tests/test_pages.py"
        for reference in re.findall(
            r"`((?:pipeline|rewards|tests)(?:\.\w+)+(?::\w+)?)`", (ROOT / name).read_text()
        )
        if reference.rpartition(".")[2] not in SUFFIXES and not has_name(reference)
    }
    assert wrong == set()


def test_the_map_has_every_folder_and_the_layers_of_the_contract() -> None:
    page = Page(path=ROOT / "pipeline" / "README.md")
    table = page.text.partition("## One line a folder")[2].partition("`rewards/`")[0]
    places = [
        path for path in (ROOT / "pipeline").iterdir() if not path.name.startswith(("_", "."))
    ]
    code = {f"{path.name}/" if path.is_dir() else path.name for path in places}
    listed = re.findall(r"`([\w.]+/?)`", "".join(re.findall(r"^\| (`.*?) \|", table, re.M)))
    assert set(listed) == code - {"README.md", "py.typed"}
    (layers,) = (b.text for b in page.blocks if b.text.startswith("cli >"))
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    assert [set(re.findall(r"\w+", layer)) for layer in layers.split(">")] == [
        set(re.findall(r"\w+", layer.replace("pipeline.", "")))
        for layer in contract["contracts"][0]["layers"]
    ]
