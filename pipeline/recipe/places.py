"""Where recipes, and the files that they name, are looked up."""

from pathlib import Path

from pipeline.recipe.errors import RecipeError, did_you_mean

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


def resolve_data(path: str) -> Path:
    """A file or folder named in a recipe; `data/...` falls back to what ships with the package.

    The result need not exist.
    """
    given = Path(path).expanduser()
    parts = given.parts
    if given.exists() or given.is_absolute() or parts[:1] != ("data",):
        return given
    for shipped in (_PACKAGE / "_data" / Path(*parts[1:]), _PACKAGE.parent / given):
        if shipped.exists():
            return shipped
    return given


def recipe_file(path: Path) -> Path | None:
    candidates = (path, *(path.with_name(path.name + suffix) for suffix in _SUFFIXES))
    return next((candidate for candidate in candidates if candidate.is_file()), None)
