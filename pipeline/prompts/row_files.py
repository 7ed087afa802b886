"""The files that a prompts entry names, in a fixed order."""

import glob
from pathlib import Path

from pipeline.prompts.prompt_error import PromptError
from pipeline.recipe.recipe_errors import did_you_mean
from pipeline.recipe.section import listed


def row_files(named: str | list[str]) -> list[Path]:
    """Every file, in the order of the recipe; what matches a pattern is sorted by name.

    Raises PromptError for a name without a file, a pattern that matches none, a folder or device in
    place of a file, and a file that comes twice.
    """
    if not named:
        raise PromptError("file names no file; write one, or a list of them")
    files = [path for name in listed(named) for path in _files_of(name)]
    for path in files:
        if files.count(path) > 1:
            raise PromptError(f"file {path} is named twice; name it once")
    return files


def _files_of(name: str) -> list[Path]:
    path = Path(name)
    try:
        if path.is_file():
            return [path]
        if path.is_dir():
            raise PromptError(f"{path} is a folder; {_instead(path)}")
        if path.exists():
            raise PromptError(f"{path} is a device or a pipe; write its rows to a file")
    except OSError as error:
        raise PromptError(
            f"file {name[:80]!r} cannot be opened: {error.strerror}; write the path of a file"
        ) from error
    if glob.has_magic(name):
        matches = sorted(Path(match) for match in glob.glob(name, recursive=True))
        files = [match for match in matches if match.is_file()]
        if not files:
            count = f"matches {len(matches)} folders and no file" if matches else "matches no file"
            raise PromptError(f"file {name} {count}; correct the pattern, or write the files")
        return files
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    raise PromptError(
        f"there is no file {path}{did_you_mean(path.name, siblings)}; "
        "write a path relative to the recipe or to the current folder"
    )


def _instead(folder: Path) -> str:
    """What to write in place of a folder."""
    inside = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    if any(p.name in ("dataset_info.json", "dataset_dict.json") for p in inside):
        return f"it holds a saved data set: write hub: {folder} in place of file:"
    suffixes = [p.suffix for p in inside if p.is_file() and p.suffix]
    pattern = f"*{max(suffixes, key=suffixes.count)}" if suffixes else "*"
    return f"write its files, such as file: {folder}/{pattern}, or hub: {folder} for a data set"
