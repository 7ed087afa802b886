"""Where recipes, and the files that they name, are looked up."""

import importlib.util
from pathlib import Path

from pipeline.recipe.recipe_errors import RecipeError, did_you_mean

_PACKAGE = Path(__file__).resolve().parents[1]
_SUFFIXES = (".yaml", ".yml")


def recipe_path(ref: str) -> Path:
    """The file that `ref` names: a path, or a shipped recipe by its name.

    Raises RecipeError with the nearest shipped name.
    """
    if (given := recipe_file(Path(ref).expanduser())) is not None:
        return given
    if (shipped := recipe_file(shipped_recipes() / ref.removeprefix("recipes/"))) is not None:
        return shipped
    names = [
        str(path.relative_to(shipped_recipes()).with_suffix(""))
        for path in sorted(shipped_recipes().rglob("*.yaml"))
    ]
    raise RecipeError(
        f"{ref}: no such recipe file{did_you_mean(Path(ref).with_suffix('').name, names)}; "
        f"shipped recipes: {', '.join(names)}"
    )


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
    candidates = (path, *(path.with_name(path.name + suffix) for suffix in _SUFFIXES))
    return next((candidate for candidate in candidates if candidate.is_file()), None)
