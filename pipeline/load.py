"""YAML -> defaults -> `a.b=c` overrides -> Recipe. Every mistake is one line that says the fix.

Relative file paths written in a recipe are looked up beside the recipe first, then in the current
folder; `data/...` falls back to the data that ships with the package.
"""

import difflib
import re
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError

from pipeline.recipe import PromptSource, RandomDepths, Recipe, ScratchModel, spelled_out

_PACKAGE = Path(__file__).resolve().parent
_SUFFIXES = (".yaml", ".yml")
_NAMED = ("stages", "prompts", "rewards")  # sections whose keys are the user's own names
_MODEL_SOURCES = ("path", "hub", "gguf", "scratch")
_WHOLE_SHAPE = {"hidden", "heads", "mlp"}  # a scratch model written anew, not one size of it
_RECURRENT_SIZES = {"core", "prelude", "coda", "iterations", "max_iterations"}
_PROMPT_SOURCES = ("task", "gym", "hub", "file")
_SOURCE_DETAILS = (
    "size", "split", "difficulty", "distractors", "care", "columns", "options", "answer_after",
    "source_column",
)  # fmt: skip
"""Keys of prompts that only some sources know."""

_FOREIGN_KEYS = {
    "num_samples": "samples_per_prompt",
    "num_generations": "samples_per_prompt",
    "group_size": "samples_per_prompt",
    "n_samples_per_prompt": "samples_per_prompt",
    "learning_rate": "lr",
    "beta": "kl",
    "kl_coef": "kl",
    "epsilon": "clip",
    "loss_type": "variant",
    "num_train_epochs": "epochs",
    "max_steps": "steps",
    "max_length": "max_tokens",
    "max_new_tokens": "max_tokens",
    "max_completion_length": "max_tokens",
    "per_device_train_batch_size": "micro_batch_rows",
    "batch_size": "batch_rows",
    "base": "init",
}
"""What other frameworks call our keys (TRL, verl, OpenRLHF), for suggestions."""

_EXPECTED = {
    "string": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping",
    "model": "a mapping",
}


class RecipeError(ValueError):
    """A recipe cannot be loaded. One line per mistake: `file: key.path: what; fix`."""


@dataclass(frozen=True)
class _Layer:
    """One text that contributed to a recipe: a file or one override."""

    origin: str
    content: dict[str, Any]


@dataclass(frozen=True)
class _Mistake:
    """One schema error. `branch` marks a type that one option of a union wanted."""

    path: tuple[str | int, ...]
    text: str
    branch: bool


def load_recipe(ref: str, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in the file `ref`, or the shipped recipe of that name, with `a.b=c` overrides.

    Raises RecipeError naming file, key and fix.
    """
    layers = _file_layers(recipe_path(ref), seen=())
    main = layers[-1].origin
    data: dict[str, Any] = {}
    for layer in layers:
        data = _merged(data, layer.content)
    for text in overrides:
        layer = _override(text, data)
        layers.append(layer)
        data = _merged(data, layer.content)
    data = _resolved(_without_removed(data), origin=main)
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        lines = [
            f"{_origin(layers, m.path) or main}: {_dotted(m.path)}: {m.text}"
            for m in _mistakes(error, data)
        ]
        raise RecipeError("\n".join(lines)) from None


class _Dumper(yaml.SafeDumper):
    """Quotes texts that look like numbers: OmegaConf reads more of them as such than PyYAML."""


def _quoted(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "'" if text[:1] in "+-.0123456789" and text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _quoted)


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML with every default spelled out; `load_recipe` reads it back equal."""
    content = _escaped(_plain(recipe))
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=100)


def recipe_path(ref: str) -> Path:
    """The file that `ref` names: a path, or a shipped recipe by its name.

    Raises RecipeError with the nearest shipped name.
    """
    if (given := _recipe_file(Path(ref).expanduser())) is not None:
        return given
    if (shipped := _recipe_file(shipped_recipes() / ref.removeprefix("recipes/"))) is not None:
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


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the nearest known name, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _recipe_file(path: Path) -> Path | None:
    candidates = (path, *(path.with_name(path.name + suffix) for suffix in _SUFFIXES))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _file_layers(path: Path, *, seen: tuple[Path, ...]) -> list[_Layer]:
    """A file's `defaults` in order, then the file itself."""
    if path.resolve() in seen:
        chain = " -> ".join(p.name for p in (*seen, path.resolve()))
        raise RecipeError(f"{path}: defaults: the files name each other in a circle: {chain}")
    content = _read(path)
    parents = content.pop("defaults", None) or []
    if isinstance(parents, str):
        parents = [parents]
    if not isinstance(parents, list) or not all(isinstance(name, str) for name in parents):
        raise RecipeError(
            f"{path}: defaults: expected a name or a list of names, found {parents!r}"
        )
    layers: list[_Layer] = []
    for name in parents:
        parent = _recipe_file(path.parent / name) or _recipe_file(shipped_recipes() / name)
        if parent is None:
            raise RecipeError(
                f"{path}: defaults: no file {name} beside it ({path.parent}) or among the "
                "shipped recipes; write a path relative to this file"
            )
        layers += _file_layers(parent, seen=(*seen, path.resolve()))
    return [*layers, _Layer(str(path), _localized(content, path.parent))]


def _read(path: Path) -> dict[str, Any]:
    try:
        config = OmegaConf.create(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "the text"
        raise RecipeError(f"{path}: {where}: {error.problem}; correct the YAML") from None
    except (OmegaConfBaseException, UnicodeDecodeError, AssertionError) as error:
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


def _localized(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The content with file names that exist beside the recipe made absolute."""
    content = _rewards_spelled_out(content)
    sections: list[tuple[Any, Sequence[str]]] = [(content.get("model"), ("path", "gguf"))]
    sections += [(entry, ("file",)) for entry in _entries(content, "prompts")]
    for entry in _entries(content, "stages"):
        sections.append((entry.get("student"), ("path", "gguf")))
    functions: list[tuple[Any, Sequence[str]]] = []
    for entry in _entries(content, "rewards"):
        functions.append((entry, ("use",)))
        if isinstance(routes := entry.get("by_source"), dict):
            functions.append((routes, tuple(routes)))
            functions += [(judge, ("use",)) for judge in _entries(entry, "by_source")]
    for found, is_function in ((sections, False), (functions, True)):
        for section, keys in found:
            for key in keys if isinstance(section, dict) else ():
                if isinstance(section.get(key), str):
                    section[key] = _beside(section[key], folder, function=is_function)
    return content


def _rewards_spelled_out(content: dict[str, Any]) -> dict[str, Any]:
    """The content with rewards in their long form, so that layers merge alike."""
    rewards = content.get("rewards")
    if not isinstance(rewards, dict):
        return content
    return {**content, "rewards": {name: spelled_out(entry) for name, entry in rewards.items()}}


def _entries(content: Mapping[str, Any], section: str) -> list[dict[str, Any]]:
    entries = content.get(section)
    found = entries.values() if isinstance(entries, dict) else ()
    return [entry for entry in found if isinstance(entry, dict)]


def _beside(text: str, folder: Path, *, function: bool) -> str:
    name, colon, suffix = text.rpartition(":") if function else (text, "", "")
    path = folder / name
    found = path.is_file() if function else path.exists()
    return f"{path.resolve()}{colon}{suffix}" if name and found else text


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


def _merged(
    old: Mapping[str, Any], new: Mapping[str, Any], path: tuple[str, ...] = ()
) -> dict[str, Any]:
    """`new` over `old`. Mappings merge; lists and values replace.

    A stage whose `kind` changes is replaced, and a new source of a model, of prompts or of a reward
    replaces the old source.
    """
    result = dict(old)
    for key, value in new.items():
        before: Any = result.get(key)
        here = (*path, key)
        both = isinstance(before, dict) and isinstance(value, dict)
        if both and not _replaces(here, before, value):
            kept = {k: v for k, v in before.items() if k not in _displaced(here, value)}
            result[key] = _merged(kept, value, here)
        else:
            result[key] = value
    return result


def _replaces(path: tuple[str, ...], old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    is_stage = path[0] == "stages" and len(path) == 2
    return is_stage and new.get("kind", old.get("kind")) != old.get("kind")


def _displaced(path: tuple[str, ...], new: Mapping[str, Any]) -> set[str]:
    """Keys that a new source in `new` pushes out: other sources and what belonged to them."""
    if path[0] == "rewards" and len(path) == 2:
        return {"use", "args"} if "by_source" in new else {"by_source"} if "use" in new else set()
    if path[-1] == "scratch" and set(new) >= _WHOLE_SHAPE:
        return {"layers", *_RECURRENT_SIZES}
    is_model = path == ("model",) or path[-1] == "student"
    is_prompts = path[0] == "prompts" and len(path) == 2
    sources: tuple[str, ...] = _MODEL_SOURCES if is_model else _PROMPT_SOURCES if is_prompts else ()
    if not set(new).intersection(sources):
        return set()
    if is_prompts:
        return {*sources, *_SOURCE_DETAILS}
    return {key for key in (*sources, "split", "max_iterations") if key not in new}


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


def _dotted(path: Sequence[str | int]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".") or "recipe"


def _mistakes(error: ValidationError, data: Mapping[str, Any]) -> Iterator[_Mistake]:
    """The errors in recipe terms; a union's several complaints about one value become one."""
    found = [_mistake(item, data) for item in error.errors(include_url=False)]
    for mistake in found:
        if not mistake.branch:
            yield mistake
    for path in dict.fromkeys(m.path for m in found if m.branch):
        if any(not m.branch and m.path[: len(path)] == path for m in found):
            continue
        branches = [m.text for m in found if m.branch and m.path == path]
        tail = branches[0].partition(", found ")[2]
        wanted = dict.fromkeys(
            b.partition(", found ")[0].removeprefix("expected ") for b in branches
        )
        yield _Mistake(path, f"expected {' or '.join(wanted)}, found {tail}", branch=False)


def _mistake(item: Mapping[str, Any], data: Mapping[str, Any]) -> _Mistake:
    path: list[str | int] = []
    annotation: Any = Recipe
    tagged = False
    section: Any = None
    for token in item["loc"]:
        section = annotation
        annotation, is_tag = _descend(annotation, token)
        if not is_tag:
            path.append(token)
        tagged = is_tag
    text = _text(item, section, tuple(path), data)
    return _Mistake(tuple(path), text, branch=tagged and item["type"].endswith("_type"))


def _descend(annotation: Any, token: str | int) -> tuple[Any, bool]:
    """The annotation under `token`, and whether the token only names an option of a union."""
    options = list(_options(annotation))
    for option in options:
        if isinstance(option, type) and issubclass(option, BaseModel):
            if len(options) > 1 and token in (option.__name__, *_kinds(option)):
                return option, True
            if token in option.model_fields:
                return option.model_fields[str(token)].annotation, False
        elif get_origin(option) is dict and isinstance(token, str):
            return get_args(option)[1], False
        elif get_origin(option) in (list, tuple) and isinstance(token, int):
            return get_args(option)[0], False
    return None, len(options) > 1


def _options(annotation: Any) -> Iterator[Any]:
    """The members of a union, through Annotated; None left out."""
    if get_origin(annotation) is Annotated:
        yield from _options(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _options(member)
    elif annotation is not type(None):
        yield annotation


def _kinds(option: type[BaseModel]) -> tuple[str, ...]:
    kind = option.model_fields.get("kind")
    return get_args(kind.annotation) if kind else ()


def _text(
    item: Mapping[str, Any], section: Any, path: tuple[str | int, ...], data: Mapping[str, Any]
) -> str:
    """One schema error in plain words, with the fix."""
    kind, given = item["type"], item["input"]
    context = item.get("ctx", {})
    match kind:
        case "extra_forbidden":
            return _unknown_key(str(path[-1]), section)
        case "missing":
            return "is missing; add it"
        case "union_tag_not_found":
            others = [name for name in data.get("stages", {}) if name != path[-1]]
            kinds = ", ".join(_stage_kinds())
            return f"kind is missing{did_you_mean(str(path[-1]), others)}; kinds are {kinds}"
        case "union_tag_invalid":
            tag = str(context["tag"])
            guess = did_you_mean(tag, _stage_kinds())
            return f"there is no kind {tag!r}{guess}; kinds are {', '.join(_stage_kinds())}"
        case "literal_error":
            wanted = str(context["expected"]).replace("'", "")
            guess = did_you_mean(str(given), wanted.replace(" or ", ", ").split(", "))
            return f"{given!r} is none of {wanted}{guess}"
        case "value_error":
            return item["msg"].removeprefix("Value error, ")
    expected = _EXPECTED.get(kind.partition("_")[0])
    if expected and kind.rpartition("_")[2] in ("type", "parsing", "float"):
        return f"expected {expected}, found {_short(given)}"
    return f"{item['msg'].replace('Input should', 'should')}, found {_short(given)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _unknown_key(key: str, section: Any) -> str:
    options = [o for o in _options(section) if isinstance(o, type) and issubclass(o, BaseModel)]
    known = list(options[0].model_fields) if options else []
    translated = _FOREIGN_KEYS.get(key)
    if translated in known:
        return f"unknown key; did you mean {translated}?"
    return "unknown key" + (did_you_mean(key, known) or f"; known keys: {', '.join(known)}")


def _stage_kinds() -> list[str]:
    stage = get_args(Recipe.model_fields["stages"].annotation)[1]
    return [kind for option in _options(stage) for kind in _kinds(option)]


def _plain(value: Any) -> Any:
    """Containers of plain values, without a None that is the default.

    Of sections that refuse keys of their other kinds, only what was written.
    """
    if isinstance(value, PromptSource | ScratchModel | RandomDepths):
        fields = type(value).model_fields
        written = [name for name in fields if name in value.model_fields_set]
        return {name: _plain(getattr(value, name)) for name in written}
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        names = sorted(fields, key=lambda name: name != "kind")
        return {
            name: _plain(getattr(value, name))
            for name in names
            if getattr(value, name) is not None or fields[name].default is not None
        }
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _escaped(value: Any) -> Any:
    """Text in which OmegaConf would see a reference, escaped."""
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    return value
