"""A recipe as YAML with every default spelled out."""

import re
from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import BaseModel

from pipeline.recipe.model_source import ScratchModel
from pipeline.recipe.prompt_source import PromptSource
from pipeline.recipe.schema import Recipe


class _Dumper(yaml.SafeDumper):
    """Quotes texts that look like numbers: OmegaConf reads more of them as such than PyYAML."""


def _quoted(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "'" if text[:1] in "+-.0123456789" and text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _quoted)


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML with every default spelled out; `load_recipe` reads it back equal."""
    return dump_content(recipe_content(recipe))


def recipe_content(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain mappings, lists and values, with every default spelled out."""
    return _plain(recipe)


def dump_content(content: dict[str, Any]) -> str:
    """Such content as YAML, which `load_recipe` reads."""
    text = _escaped(content)
    return yaml.dump(text, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=100)


def _plain(value: Any) -> Any:
    """Containers of plain values, without a None that is the default.

    Of sections that refuse keys of their other kinds, only what was written.
    """
    if isinstance(value, PromptSource | ScratchModel):
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
