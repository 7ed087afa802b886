"""The files that a prompts entry names, in a fixed order."""

import glob
import os
from pathlib import Path

from pipeline.prompts.prompt_error import PromptError
from pipeline.recipe.recipe_errors import did_you_mean
from pipeline.recipe.section import listed


def row_files(named: str | list[str]) -> list[Path]:
    """Every file, in the order of the recipe; what matches a pattern is sorted by name.

    Raises PromptError for a name without a file, a pattern that matches none, a folder, a device or
    a link without its target in place of a file, a file that may not be read, and one that comes
    twice.
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
        if _is_rows(path):
            return [path]
        if path.is_dir():
            raise PromptError(f"{path} is a folder; {_instead(path)}")
        matches = glob.glob(name, recursive=True) if glob.has_magic(name) else None
        if matches is not None:
            return _matching(name, [Path(match) for match in sorted(matches)])
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    except OSError as error:
        raise PromptError(
            f"file {name[:200]!r} cannot be opened: {error.strerror}; "
            "write the path of a file that may be read"
        ) from error
    raise PromptError(
        f"there is no file {path}{did_you_mean(path.name, siblings)}; "
        "write a path relative to the recipe or to the current folder"
    )


def _matching(pattern: str, matches: list[Path]) -> list[Path]:
    """Those of a pattern's matches that are files; folders are passed over."""
    files = [match for match in matches if _is_rows(match)]
    if not files:
        count = f"matches {len(matches)} folders and no file" if matches else "matches no file"
        raise PromptError(f"file {pattern} {count}; correct the pattern, or write the files")
    return files


def _is_rows(path: Path) -> bool:
    """Whether a path is a file that may be read; neither a folder nor nothing is.

    Raises PromptError for a link without its target and for a device, OSError for what the system
    refuses.
    """
    if path.is_symlink() and not path.exists():
        raise PromptError(
            f"file {path} is a link to {os.readlink(path)}, which is not there; "
            "link it anew, or write another file"
        )
    if path.is_file():
        path.open("rb").close()
        return True
    if path.exists() and not path.is_dir():
        raise PromptError(f"{path} is a device or a pipe; write its rows to a file")
    return False


def _instead(folder: Path) -> str:
    """What to write in place of a folder."""
    inside = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    if any(p.name in ("dataset_info.json", "dataset_dict.json") for p in inside):
        return f"it holds a saved data set: write hub: {folder} in place of file:"
    suffixes = [p.suffix for p in inside if p.is_file() and p.suffix]
    pattern = f"*{max(suffixes, key=suffixes.count)}" if suffixes else "*"
    return f"write its files, such as file: {folder}/{pattern}, or hub: {folder} for a data set"
