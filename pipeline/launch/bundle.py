"""What a run needs from this machine: its recipe as it stands now, and the files that it names.

Rewards' code and rows are copied, so that an edit here does not change a job that waits or comes
back. What ships with the package is named by its place there. A model stays where it is when the
nodes see this machine's folders, and is copied otherwise.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.prompts.row_files import row_files
from pipeline.recipe.dump import dump_content, recipe_content
from pipeline.recipe.locate import Kind, places_in, split_place
from pipeline.recipe.places import shipped_place
from pipeline.recipe.reward_spec import Judge
from pipeline.recipe.schema import Recipe
from rewards.registry import is_file
from rewards.source_files import source_files

RECIPE = "recipe.yaml"
FILES = "files"  # the folder beside it


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A recipe whose paths lie beside it, and the copies that it needs there."""

    recipe: str  # YAML
    copies: Mapping[str, Path]  # relative place -> a file here
    packages: tuple[str, ...]  # rewards of installed packages, which every node must have

    @property
    def total_bytes(self) -> int:
        """Of recipe and copies."""
        return len(self.recipe.encode()) + sum(p.stat().st_size for p in self.copies.values())


def bundle_of(recipe: Recipe, *, device: str, shared_folders: bool) -> Bundle:
    """The recipe for other machines: on `device`, and with what it names.

    `shared_folders`: whether the nodes see models where they lie here.
    """
    content = recipe_content(recipe)
    content["hardware"]["device"] = device
    copies = _Copies()
    for section, key, kind in reversed(list(places_in(content))):  # lists grow behind what waits
        text = section[key]
        if (shipped := shipped_place(text)) is not None:
            section[key] = shipped
        elif kind == "function":
            section[key] = copies.code(text)
        elif kind == "rows":
            _spread(section, key, copies.rows(text))
        elif not shared_folders:
            section[key] = copies.model(text, kind)
    packages = [judge.use for judge in _judges(recipe) if _is_packaged(judge.use)]
    return Bundle(
        recipe=dump_content(content),
        copies=copies.sources,
        packages=tuple(dict.fromkeys(packages)),
    )


class _Copies:
    """Files to copy, by their places beside the recipe; folders of one name are kept apart."""

    def __init__(self) -> None:
        self.sources: dict[str, Path] = {}
        self._folders: dict[str, Path] = {}

    def code(self, reference: str) -> str:
        """A reward's reference to copies of its code, which lie to each other as they do here."""
        code = source_files(reference)
        where, function = split_place(reference, "function")
        if not code:
            return reference
        if not is_file(where):  # a module is looked up in the folder that the run starts in
            if not _is_packaged(reference):
                self.sources |= code
            return reference
        first = Path(where)
        base = self._folder(f"{FILES}/rewards", first.parent)
        self.sources |= {f"{base}/{name}": path for name, path in code.items()}
        return f"{base}/{first.name}{function}"

    def rows(self, named: str) -> list[str]:
        """The copies of the files that a name or a pattern means."""
        return [self._file(f"{FILES}/rows", path) for path in row_files(named)]

    def model(self, text: str, kind: Kind) -> str:
        """A copy of a model's file or folder, or of a data set's; what is not here stays."""
        path = Path(text)
        kind_folder = f"{FILES}/{'rows' if kind == 'hub' else 'models'}"
        if path.is_file():
            return self._file(kind_folder, path)
        if not path.is_dir():
            return text
        base = self._folder(f"{kind_folder}/{path.name}", path)
        files = [inside for inside in sorted(path.rglob("*")) if inside.is_file()]
        self.sources |= {f"{base}/{inside.relative_to(path)}": inside for inside in files}
        return base

    def _file(self, base: str, path: Path) -> str:
        place = f"{self._folder(base, path.parent)}/{path.name}"
        self.sources[place] = path
        return place

    def _folder(self, name: str, source: Path) -> str:
        """`name`, or with a number where another folder has it."""
        candidates = (name, *(f"{name}-{number}" for number in range(2, len(self._folders) + 3)))
        place = next(one for one in candidates if self._folders.get(one, source) == source)
        self._folders[place] = source
        return place


def _spread(section: Any, key: Any, files: list[str]) -> None:
    """Put files where a name stood; a pattern's own key becomes a list of them."""
    if isinstance(section, list):
        section[key : key + 1] = files
    else:
        section[key] = files[0] if len(files) == 1 else files


def _judges(recipe: Recipe) -> Iterator[Judge]:
    for spec in recipe.rewards.values():
        yield from (judge for _, judge in spec.routes())


def _is_packaged(reference: str) -> bool:
    """Whether a reward comes from an installed package: an entry point, or a module elsewhere."""
    if reference.startswith("builtin:"):
        return False
    if ":" not in reference:
        return True
    where, _ = split_place(reference, "function")
    if is_file(where):
        return False
    files = source_files(reference)
    here = Path.cwd()
    return not files or any(path != here / name for name, path in files.items())
