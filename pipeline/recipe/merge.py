"""A layer of a recipe over another: mappings merge, and only what the new one contradicts goes."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, get_args

from pipeline.recipe.prompt_source import GENERATED, ONLY_FOR, SOURCES
from pipeline.recipe.schema import Stage

_MODEL_SOURCES = ("path", "hub", "gguf", "scratch")
_OF_SPLIT = ("split", "max_iterations")  # a scratch model has a shape of its own
_WHOLE_SHAPE = {"hidden", "heads", "mlp"}  # a scratch model written anew, not one size of it
_RECURRENT_SIZES = {"core", "prelude", "coda", "iterations", "max_iterations"}
_JUDGES = ("use", "by_source")
_CHOICES = {"kind", *_MODEL_SOURCES, *SOURCES, *_JUDGES}
"""Keys of which a section has one, so that a new one is no loss of the old."""


def merged(
    old: Mapping[str, Any], new: Mapping[str, Any], path: tuple[str, ...] = ()
) -> dict[str, Any]:
    """`new` over `old`. Mappings merge; lists and values replace.

    A stage written with another `kind` is replaced; where `kind` alone is written, it keeps what
    the new kind knows. Another kind of source of a model or of prompts, or of judge of a reward,
    pushes out the old one and the keys that mean nothing beside the new one.
    """
    result = dict(old)
    for key, value in new.items():
        before: Any = result.get(key)
        here = (*path, key)
        if isinstance(before, dict) and isinstance(value, dict):
            gone = _displaced(here, before, value)
            kept = {name: entry for name, entry in before.items() if name not in gone}
            result[key] = merged(kept, value, here)
        else:
            result[key] = value
    return result


def lost(old: Mapping[str, Any], new: Mapping[str, Any], path: tuple[str, ...] = ()) -> list[str]:
    """Keys with a value in `old` that the merged `new` has no more, as dotted paths; those of which
    a section has one are not among them."""
    return list(_lost(old, new, path))


def _lost(old: Mapping[str, Any], new: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    for key, before in old.items():
        here = (*path, key)
        if key not in new and key not in _CHOICES:
            yield ".".join(here)
        elif isinstance(before, dict) and isinstance(after := new.get(key), dict):
            yield from _lost(before, after, here)


def _displaced(
    path: tuple[str, ...], old: Mapping[str, Any], new: Mapping[str, Any]
) -> Collection[str]:
    """Keys of the section `old` that cannot stand beside those of `new`."""
    match path:
        case ("stages", _):
            return _displaced_of_stage(old, new)
        case ("rewards", _):
            return _displaced_of_reward(new)
        case ("prompts", _):
            return _displaced_of_prompts(old, new)
        case ("model",) | (*_, "student"):
            return _displaced_of_model(new)
        case (*_, "scratch") if set(new) >= _WHOLE_SHAPE:
            return {"layers", *_RECURRENT_SIZES}
    return ()


def _displaced_of_stage(old: Mapping[str, Any], new: Mapping[str, Any]) -> Collection[str]:
    kind = new.get("kind", old.get("kind"))
    if kind == old.get("kind"):
        return ()
    fields = _STAGE_FIELDS.get(str(kind), old) if set(new) == {"kind"} else ()
    return [key for key in old if key not in fields]


def _displaced_of_reward(new: Mapping[str, Any]) -> Collection[str]:
    return {"use", "args"} if "by_source" in new else {"by_source"} if "use" in new else ()


def _displaced_of_model(new: Mapping[str, Any]) -> Collection[str]:
    if not any(key in new for key in _MODEL_SOURCES):
        return ()
    others = [key for key in _MODEL_SOURCES if key not in new]
    return [*others, *_OF_SPLIT] if "scratch" in new else others


def _displaced_of_prompts(old: Mapping[str, Any], new: Mapping[str, Any]) -> Collection[str]:
    kind = next((key for key in SOURCES if key in new), None)
    before = next((key for key in SOURCES if key in old), None)
    if kind is None or kind == before:
        return ()
    others = [key for key in SOURCES if key not in new]
    unknown = [key for key, kinds in ONLY_FOR.items() if kind not in kinds]
    other_rows = (kind in GENERATED) != (before in GENERATED)
    return [*others, *unknown, *(("size", "split") if other_rows else ())]


_STAGE_FIELDS: Mapping[str, Collection[str]] = {
    kind: section.model_fields
    for section in get_args(get_args(Stage)[0])
    for kind in get_args(section.model_fields["kind"].annotation)
}
