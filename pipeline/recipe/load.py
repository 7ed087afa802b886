"""YAML -> defaults -> `a.b=c` overrides -> paths -> Recipe.

Every mistake is one line that says the fix.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from pipeline.recipe.locate import locate, locate_beside
from pipeline.recipe.merge import lost, merged
from pipeline.recipe.places import recipe_file, recipe_path, shipped_recipes
from pipeline.recipe.recipe_errors import RecipeError, did_you_mean, dotted, mistakes
from pipeline.recipe.reward_spec import spelled_out
from pipeline.recipe.schema import Recipe

MAPPING = "the mapping"  # names a recipe that is in no file
_NAMED = ("stages", "prompts", "rewards")  # sections whose keys are the user's own names


@dataclass(frozen=True)
class _Layer:
    """One text that contributed to a recipe: a file or one override."""

    origin: str
    content: dict[str, Any]


def load_recipe(
    ref: str | PathLike[str] | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    tell: Callable[[str], None] = lambda _: None,
) -> Recipe:
    """The recipe in the file `ref`, the shipped recipe of that name, or what a mapping says as a
    file in the current folder would, with `a.b=c` overrides.

    `tell` gets a sentence where an override leaves no place for other keys of its entry.

    Raises RecipeError naming file, key and fix.
    """
    if isinstance(ref, Mapping):
        layers = _layers(_content(_plain(ref), MAPPING), Path(MAPPING), seen=())
    else:
        layers = _file_layers(recipe_path(fspath(ref)), seen=())
    main = layers[-1].origin
    data: dict[str, Any] = {}
    for layer in layers:
        data = merged(data, layer.content)
    for text in overrides:
        layer = _override(text, data)
        layers.append(layer)
        before, data = data, merged(data, layer.content)
        if gone := lost(before, data):
            tell(f"{layer.origin}: without {', '.join(gone)}, which mean nothing beside it")
    data = _resolved(_without_removed(data), origin=main)
    locate(data)
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        lines = [
            f"{_origin(layers, m.path) or main}: {dotted(m.path)}: {m.text}"
            for m in mistakes(error, data)
        ]
        raise RecipeError("\n".join(lines)) from None


def name_of(ref: str | PathLike[str] | Mapping[str, Any]) -> str:
    """How sentences name a recipe: as it was named, or by the word for one without a file."""
    return MAPPING if isinstance(ref, Mapping) else fspath(ref)


def _plain(value: Any) -> Any:
    """A mapping's values as a file would hold them: paths as texts, tuples as lists."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return fspath(value) if isinstance(value, PathLike) else value


def _file_layers(path: Path, *, seen: tuple[Path, ...]) -> list[_Layer]:
    """A file's `defaults` in order, then the file itself."""
    if path.resolve() in seen:
        chain = " -> ".join(p.name for p in (*seen, path.resolve()))
        raise RecipeError(f"{path}: defaults: the files name each other in a circle: {chain}")
    return _layers(_read(path), path, seen=(*seen, path.resolve()))


def _layers(content: dict[str, Any], path: Path, *, seen: tuple[Path, ...]) -> list[_Layer]:
    """The `defaults` of what stands at a path, in order, then itself."""
    parents = content.pop("defaults", None) or []
    if isinstance(parents, str):
        parents = [parents]
    if not isinstance(parents, list) or not all(isinstance(name, str) for name in parents):
        raise RecipeError(
            f"{path}: defaults: expected a name or a list of names, found {parents!r}"
        )
    layers: list[_Layer] = []
    for name in parents:
        parent = recipe_file(path.parent / name) or recipe_file(shipped_recipes() / name)
        if parent is None:
            raise RecipeError(
                f"{path}: defaults: no file {name} beside it ({path.parent}) or among the "
                "shipped recipes; write a path relative to this file"
            )
        layers += _file_layers(parent, seen=seen)
    content = _rewards_spelled_out(content)
    locate_beside(content, path.parent)
    return [*layers, _Layer(str(path), content)]


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"{path}: is no UTF-8 text (byte {error.start} is 0x{error.object[error.start]:02x}); "
            "save the recipe as UTF-8"
        ) from None
    return _content(text, path)


def _content(given: str | dict[str, Any], path: Path | str) -> dict[str, Any]:
    """A recipe's text or mapping as plain data, without the sections that are empty."""
    try:
        config = OmegaConf.create(given)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "the text"
        raise RecipeError(f"{path}: {where}: {error.problem}; correct the YAML") from None
    except (OmegaConfBaseException, yaml.YAMLError, AssertionError) as error:
        # AssertionError: OmegaConf's answer to a text that is neither mapping nor list
        reason = str(error).partition("\n")[0] or "the text is no mapping"
        raise RecipeError(f"{path}: {reason}; a recipe is a YAML mapping") from None
    content = OmegaConf.to_container(config, resolve=False)
    if not isinstance(content, dict):
        raise RecipeError(f"{path}: the text is a list; a recipe is a YAML mapping")
    for name in _NAMED:
        if content.get(name) is None:
            content.pop(name, None)
    return {str(key): value for key, value in content.items()}


def _rewards_spelled_out(content: dict[str, Any]) -> dict[str, Any]:
    """The content with rewards in their long form, so that layers merge alike."""
    rewards = content.get("rewards")
    if not isinstance(rewards, dict):
        return content
    return {**content, "rewards": {name: spelled_out(entry) for name, entry in rewards.items()}}


def _override(text: str, data: Mapping[str, Any]) -> _Layer:
    """The layer that one `a.b=c` adds to `data`."""
    origin = f"override {text}"
    key, equals, _ = text.partition("=")
    parts = key.split(".")
    if not equals or not all(parts):
        raise RecipeError(f"{origin}: write key.path=value, for example stages.reason.lr=1e-6")
    try:
        content = OmegaConf.to_container(OmegaConf.from_dotlist([text]), resolve=False)
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        reason = str(error).partition("\n")[0]
        raise RecipeError(f"{origin}: {key}: the value is no YAML ({reason}); quote it") from None
    _check_path(data, parts, origin=origin)
    if not isinstance(content, dict):
        raise RecipeError(f"{origin}: write key.path=value")
    return _Layer(origin, _rewards_spelled_out({str(k): v for k, v in content.items()}))


def _check_path(data: Mapping[str, Any], parts: Sequence[str], *, origin: str) -> None:
    """Refuse a path through an entry that is not there, a list or a value."""
    here: Any = data
    for depth, part in enumerate(parts[:-1]):
        above, here = here, here.get(part)
        if depth == 1 and parts[0] in _NAMED and here is None:
            raise RecipeError(
                f"{origin}: {parts[0]}.{part}: there is no such entry{did_you_mean(part, above)} "
                f"({parts[0]} has {', '.join(above) or 'none'})"
            )
        if here is None:
            return
        if not isinstance(here, dict):
            place = ".".join(parts[: depth + 1])
            kind = "a list" if isinstance(here, list) else f"the value {here!r}"
            raise RecipeError(f"{origin}: {place} is {kind}; set it whole: {place}=...")


def _without_removed(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data without entries set to null, which is how a recipe removes a stage."""
    result = dict(data)
    for name in _NAMED:
        section = result.get(name)
        if isinstance(section, dict):
            result[name] = {key: value for key, value in section.items() if value is not None}
    return result


def _resolved(data: dict[str, Any], *, origin: str) -> dict[str, Any]:
    """The data with `${...}` references filled in."""
    try:
        filled = OmegaConf.to_container(OmegaConf.create(data), resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = error.full_key or "the recipe"
        reason = str(error).partition("\n")[0]
        raise RecipeError(f"{origin}: {key}: {reason}; set it") from None
    return {str(key): value for key, value in dict(filled).items()}  # type: ignore[arg-type]


def _origin(layers: Sequence[_Layer], path: Sequence[str | int]) -> str | None:
    """The text that last wrote `path`, or the longest part of it; None when none wrote any."""
    reached = [_reached(layer.content, path) for layer in layers]
    last = max(range(len(layers)), key=lambda index: (reached[index], index))
    return layers[last].origin if reached[last] else None


def _reached(content: Any, path: Sequence[str | int]) -> int:
    for depth, part in enumerate(path):
        if not isinstance(content, dict) or part not in content:
            return depth
        content = content[part]
    return len(path)
