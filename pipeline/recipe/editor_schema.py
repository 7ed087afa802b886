"""The JSON schema of recipe files, by which an editor completes, explains and underlines.

A file is not yet a recipe: `defaults:` may give what it leaves out, null removes an entry, and
`${...}` stands for a value. So below the top nothing is required, and these forms are allowed;
all else that `stepwell plan` would refuse as unknown stays underlined.
"""

from collections.abc import Iterator
from typing import Any

from pipeline.recipe.schema import Recipe

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REMOVABLE = ("stages", "prompts", "rewards")
_SCALARS = ("integer", "number", "boolean")
_REFERENCE = r"^\$\{.+\}$"
_JUDGE = {"anyOf": [{"$ref": "#/$defs/Judge"}, {"type": "string"}]}


def editor_schema() -> dict[str, Any]:
    """The schema of a recipe file, every key with its description."""
    document = Recipe.model_json_schema()
    required = document["required"]
    for node in list(_nodes(document)):
        _loosened(node)
    for name in _REMOVABLE:
        section = document["properties"][name]
        section["additionalProperties"] = _or_null(section["additionalProperties"])
    _short_rewards(document["$defs"])
    document["properties"] = {
        "defaults": {
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
            "description": "Recipes that this one starts from, by path or by name, later ones over "
            "earlier ones; it then states only what differs. Default: none.",
        },
        **document["properties"],
    }
    complete = {"if": {"not": {"required": ["defaults"]}}, "then": {"required": required}}
    return {"$schema": DIALECT, **document, **complete}


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping of a document, outermost first."""
    if isinstance(value, dict):
        yield value
        for part in value.values():
            yield from _nodes(part)
    elif isinstance(value, list):
        for part in value:
            yield from _nodes(part)


def _loosened(node: dict[str, Any]) -> None:
    """Allow an incomplete section, a stage without its kind, and references to other values."""
    if isinstance(node.get("required"), list):
        del node["required"]
    if isinstance(node.get("discriminator"), dict):
        del node["discriminator"]
        node["anyOf"] = node.pop("oneOf")
    if node.get("type") in _SCALARS and "enum" not in node and "const" not in node:
        node["type"] = [node["type"], "string"]
        node["pattern"] = _REFERENCE


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    options = schema["anyOf"] if set(schema) == {"anyOf"} else [schema]
    return {"anyOf": [*options, {"type": "null"}]}


def _short_rewards(sections: dict[str, Any]) -> None:
    """A bare text for a judge, and sources beside a reward's weight."""
    reward = sections["RewardSpec"]
    reward["additionalProperties"] = _JUDGE
    for option in reward["properties"]["by_source"]["anyOf"]:
        if option.get("type") == "object":
            option["additionalProperties"] = _JUDGE
