"""Where recipes, and the files that they name, are looked up."""

import importlib.util
import os
import re
from pathlib import Path

from pipeline.recipe.recipe_errors import RecipeError, did_you_mean

_PACKAGE = Path(__file__).resolve().parents[1]
NEAR = 6  # folders that a sentence lists
_SUFFIXES = (".yaml", ".yml")
_HUB_ID = re.compile(r"(?![-.])[\w.-]{1,96}(?<![-.])(/(?![-.])[\w.-]{1,96}(?<![-.]))?", re.ASCII)


def recipe_path(ref: str) -> Path:
    """The file that `ref` names: a path, or a shipped recipe by its name.

    Raises RecipeError for what is there and no file, or with the nearest shipped name.
    """
    if not Path(ref).name:
        raise RecipeError(f"{ref!r} names no recipe file; write a YAML file's path")
    if (given := recipe_file(Path(ref).expanduser())) is not None:
        return given
    if (shipped := recipe_file(shipped_recipes() / ref.removeprefix("recipes/"))) is not None:
        return shipped
    _refuse_other_kinds(ref)
    names = [
        str(path.relative_to(shipped_recipes()).with_suffix(""))
        for path in sorted(shipped_recipes().rglob("*.yaml"))
    ]
    path = Path(ref)
    nearest = did_you_mean(path.name, _recipes_beside(path))
    nearest = nearest or did_you_mean(path.with_suffix("").name, names)
    raise RecipeError(f"{ref}: no such recipe file{nearest}; shipped recipes: {', '.join(names)}")


def _recipes_beside(path: Path) -> list[str]:
    """Names of the YAML files in the folder of one that is not there."""
    try:
        beside = sorted(path.expanduser().parent.iterdir())
    except (OSError, ValueError):  # no such folder, or no path at all
        return []
    return [other.name for other in beside if other.suffix in _SUFFIXES]


def _refuse_other_kinds(ref: str) -> None:
    path = Path(ref).expanduser()
    if os.path.isdir(path):
        inside = sorted(p.name for p in path.iterdir() if p.suffix in _SUFFIXES)
        among = f", such as {Path(ref) / inside[0]}" if inside else ""
        raise RecipeError(f"{ref} is a folder; name a YAML file{among}")
    if os.path.exists(path):
        raise RecipeError(f"{ref} is no file that can be read twice; write the recipe to one")
    if os.path.islink(path):
        raise RecipeError(f"{ref} links to {os.readlink(path)}, where no file is; mend the link")


def shipped_recipes() -> Path:
    """The folder of the recipes that come with the package."""
    installed = _PACKAGE / "_recipes"
    return installed if installed.is_dir() else _PACKAGE.parent / "recipes"


def data_path(text: str) -> str:
    """The absolute path of a file or folder; `data/...` falls back to what ships with the package.

    What is nowhere stays as it is.
    """
    path = Path(text).expanduser()
    candidates = [path]
    if path.parts[:1] == ("data",):
        candidates += [_PACKAGE / "_data" / Path(*path.parts[1:]), _PACKAGE.parent / path]
    try:
        return next((str(p.resolve()) for p in candidates if p.exists()), text)
    except OSError:  # no name that a file can have
        return text


def named_path(text: str) -> Path:
    """A path as it is named; of `data/...` that is not here, where it ships with the package."""
    path = Path(text)
    return path if os.path.exists(path) else Path(data_path(text))


def shipped_place(text: str) -> str | None:
    """How an absolute path is named on any machine: `data/...` of what ships with the package,
    `package:NAME` of a GGUF file in another one; None of all else."""
    path = Path(text)
    for root in (_PACKAGE / "_data", _PACKAGE.parent / "data"):
        if path.is_relative_to(root):
            return str(Path("data", path.relative_to(root)))
    if path.suffix == ".gguf" and "site-packages" in path.parts:
        return f"package:{path.parts[path.parts.index('site-packages') + 1]}"
    return None


def hub_id_mistake(text: str) -> str | None:
    """Why a text is neither an id of the Hugging Face hub nor a folder; None where it is."""
    named = _HUB_ID.fullmatch(text) and ".." not in text and "--" not in text
    if named or os.path.isdir(text):
        return None
    return (
        f"{text} is no id of the hub, which is written OWNER/NAME, and there is no such folder"
        f"{near_folder(text)}"
    )


def near_folder(text: str) -> str:
    """What lies where a missing folder should: the one with nearly its name, or some of them."""
    path = Path(text).expanduser()
    for parent in (path.parent, Path(data_path(str(path.parent)))):
        if text.count("/") and os.path.isdir(parent):
            names = sorted(p.name for p in parent.iterdir() if p.is_dir())
            listed = f"; {path.parent} has {', '.join(names[:NEAR])}" if names else ""
            return did_you_mean(path.name, names) or listed
    return ""


def gguf_files(reference: str) -> list[Path]:
    """GGUF files that a path or `package:NAME` names; no package is imported."""
    package = reference.removeprefix("package:")
    if package == reference:
        path = Path(data_path(reference))
        return [path] if path.is_file() else []
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    folders = spec.submodule_search_locations if spec else None
    return sorted(path for folder in folders or () for path in Path(folder).rglob("*.gguf"))


def recipe_file(path: Path) -> Path | None:
    """The file of that name, with or without its ending."""
    candidates = (path, *(path.with_name(path.name + suffix) for suffix in _SUFFIXES))
    return next((candidate for candidate in candidates if os.path.isfile(candidate)), None)
