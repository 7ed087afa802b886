"""Which models the installed libraries know by name. Their lists are read as text: importing them
takes seconds."""

import re
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path


@cache
def causal_models() -> Mapping[str, set[str]]:
    """The classes that write a text on by `model_type`, as the installed transformers lists them;
    empty where its list is not found."""
    text = _text("transformers", "models/auto/modeling_auto.py")
    listed = text.partition("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES = ")[2].partition("\n)\n")[0]
    models: dict[str, set[str]] = {}
    for kind, name in re.findall(r'\(\s*"([\w-]+)",\s*"(\w+)"', listed):
        models.setdefault(kind, set()).add(name)
    return models


@cache
def sampled_architectures() -> frozenset[str]:
    """The `architectures` that write a text on and that the installed vLLM has code of its own for;
    empty where its list is not found."""
    text = _text("vllm", "model_executor/models/registry.py")
    listed = text.partition("_TEXT_GENERATION_MODELS = {")[2].partition("\n}\n")[0]
    return frozenset(re.findall(r'^ +"(\w+)": ', listed, re.MULTILINE))


def _text(package: str, name: str) -> str:
    spec = find_spec(package)
    places = [] if spec is None else spec.submodule_search_locations or []
    files = [Path(place) / name for place in places]
    return next((file.read_text(encoding="utf-8") for file in files if file.is_file()), "")
