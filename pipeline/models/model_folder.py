"""Loading language models whose files somebody else wrote: every fault is a sentence with its fix.

Read `_loaded` first. What can be told from the files alone is told before anything is loaded
(`check_folder`); what transformers finds while loading passes through `reading`.
"""

import json
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import transformers
from huggingface_hub import is_offline_mode
from huggingface_hub.errors import HFValidationError, StrictDataclassError
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING
from transformers.utils.hub import cached_file

from pipeline.errors import WrongInput
from pipeline.models.own_code import code_fault, needs_own_code
from pipeline.recipe.model_source import PUBLISHED
from pipeline.recipe.places import near_folder
from pipeline.recurrent.convert.checkpoint import ConversionError
from pipeline.recurrent.register import register

NAMED, LONGEST = 3, 200
"""Tensors that an error names, and characters of another error that it repeats."""

FAULTS = (
    AttributeError,
    HFValidationError,
    KeyError,
    OSError,
    pickle.UnpicklingError,
    RuntimeError,
    SafetensorError,
    StrictDataclassError,
    TypeError,
    ValueError,
)
"""What transformers raises for files that are not what they should be."""


class ModelError(WrongInput):
    """A model source that is absent, incomplete, or cannot be converted as it is asked for."""


@contextmanager
def conversion_border() -> Iterator[None]:
    """Surroundings in which the converter's own error, which knows nothing of us, becomes ours."""
    try:
        yield
    except ConversionError as error:
        raise ModelError(str(error)) from error


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Surroundings in which transformers reads files that are not ours: their faults become a
    ModelError."""
    try:
        yield
    except FAULTS as error:
        raise ModelError(
            f"model {name} cannot be loaded ({_one_line(error)}): download it again, or give "
            "another model"
        ) from error


def load(name: str, *, own_code: bool = False) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model and the tokenizer of a checked folder or a hub id, in the stored dtype; with
    ``own_code`` the code that the folder brings along runs.

    Raises:
        ModelError: for anything that keeps them from loading whole: no tensor stays random.
    """
    model, _ = _loaded(name, trust_remote_code=own_code)
    # a configuration of own code is no tokenizer's business
    return model, load_tokenizer_of(name, config=PreTrainedConfig() if own_code else None)


def load_without_data(folder: Path) -> tuple[PreTrainedModel, set[str]]:
    """The model of a checked folder as it would load, in the stored dtype but on the device "meta",
    and the stored tensors that it has no use for. Raises ModelError as `load` does."""
    return _loaded(str(folder), device_map="meta")


def _loaded(name: str, **options: Any) -> tuple[PreTrainedModel, set[str]]:
    """A model, and the names of stored tensors that it has no use for."""
    register()
    with reading(name):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            name, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
    model, report = loaded
    misfits = dict.fromkeys(report["missing_keys"], "is missing")
    for key, stored, expected in report["mismatched_keys"]:
        misfits[key] = f"has the shape {list(stored)}, not {list(expected)}"
    if misfits:
        named = [f"{key} {fault}" for key, fault in sorted(misfits.items())]
        more = f"; and {len(named) - NAMED} more" if len(named) > NAMED else ""
        raise ModelError(
            f"model {name} does not hold the tensors that its config.json describes: "
            f"{'; '.join(named[:NAMED])}{more}: download both again"
        )
    return model, set(report["unexpected_keys"])


def load_tokenizer_of(
    name: str | Path, *, config: PreTrainedConfig | None = None
) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or a hub id, with another ``config`` than the model's where it is
    given. Raises ModelError."""
    try:
        return AutoTokenizer.from_pretrained(name, config=config, trust_remote_code=False)
    except FAULTS as error:
        raise ModelError(
            f"the tokenizer of model {name} cannot be read ({_one_line(error)}): put the "
            "model's own tokenizer.json and tokenizer_config.json there"
        ) from error


def hub_config(name: str) -> dict[str, Any]:
    """The `config.json` of a hub id, which is looked up or in the cache.

    Raises:
        ModelError: for an id that is none, that does not exist, or that cannot be reached.
    """
    try:
        file = cached_file(name, "config.json")
    except (OSError, HFValidationError) as error:  # the network's and the hub's own errors
        raise unreachable(name, error) from error
    with reading(name):
        return dict(json.loads(Path(str(file)).read_text()))


def unreachable(name: str, error: Exception) -> ModelError:
    """The error for a hub id that cannot be had."""
    if is_offline_mode():
        return ModelError(
            f"{name} is not in the Hugging Face cache, and the hub is not asked, as it does not "
            "answer or HF_HUB_OFFLINE is set: connect to the network, or download the model "
            f"elsewhere and give its folder{near_folder(name)}"
        )
    return ModelError(
        f"{name} cannot be had from the Hugging Face hub ({_one_line(error)}): check the id and "
        f"the network, or download it elsewhere and give its folder{near_folder(name)}"
    )


def check_folder(folder: Path, *, trusted: bool = False) -> None:
    """Refuse a model folder that cannot be loaded, and one that needs code of its own, unless that
    is ``trusted``. Reads the heads of its files alone.

    Raises:
        ModelError: naming the folder, the file, and what to do.
    """
    if not folder.is_dir():
        raise ModelError(f"model folder {folder} does not exist")
    config = _object_in(folder, "config.json")
    if needs_own_code(config):
        check_code(folder, config, trusted=trusted)
    else:
        _check_kind(folder, config)
    if any(folder.glob("model*.safetensors")):
        for shard in _shards(folder):
            _check_shard(folder, shard)
    elif not any(folder.glob("pytorch_model*.bin")):
        raise ModelError(f"model folder {folder} has no weights: model.safetensors is missing")
    if (folder / "tokenizer.json").is_file():
        _object_in(folder, "tokenizer.json")
    elif not (folder / "tokenizer.model").is_file():
        raise ModelError(f"model folder {folder} has no tokenizer: tokenizer.json is missing")


def check_code(name: str | Path, config: Mapping[str, Any], *, trusted: bool) -> None:
    """Refuse code of a folder's or a hub id's own that is not trusted or, of a folder, not whole.

    Raises:
        ModelError: naming the key that trusts it, or what is wrong with it.
    """
    if not trusted:
        raise ModelError(
            f"model {name} needs code of its own, which can do anything with this account: read "
            "it, then write trust_remote_code: true beside the model, or give one that "
            "transformers knows"
        )
    fault = code_fault(Path(name), config)
    if fault is not None:
        raise ModelError(f"model {name} {fault}")


def _check_kind(folder: Path, config: dict[str, Any]) -> None:
    register()
    kind = config.get("model_type")
    if kind in PUBLISHED:
        return
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        raise ModelError(
            f"model folder {folder}: config.json has the model_type {kind!r}, which transformers "
            f"{transformers.__version__} does not know: give a model of a known type, such as "
            "llama or qwen3"
        )
    if CONFIG_MAPPING[kind] not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ModelError(
            f"model folder {folder}: model_type {kind!r} is no causal language model: give one "
            "that generates text"
        )


def _check_shard(folder: Path, shard: str) -> None:
    """Opening a safetensors file compares its head with its size."""
    if not (folder / shard).is_file():
        raise ModelError(f"model folder {folder} has no {shard}, which its index names")
    try:
        with safe_open(folder / shard, "pt"):
            pass
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"model folder {folder}: {shard} is cut off or no safetensors file "
            f"({_one_line(error)}): download it again (git lfs pull, where git made the folder)"
        ) from error


def _shards(folder: Path) -> list[str]:
    """File names of the weights: those of the index, or the single file."""
    name = "model.safetensors.index.json"
    if not (folder / name).is_file():
        return ["model.safetensors"]
    places = _object_in(folder, name).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise ModelError(
            f"model folder {folder}: {name} has no weight_map: download it again, or remove it "
            "where model.safetensors holds everything"
        )
    return sorted(set(places.values()))


def _object_in(folder: Path, name: str) -> dict[str, Any]:
    """The JSON object in a file of the folder."""
    try:
        value = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"model folder {folder} has no {name}") from None
    except (OSError, ValueError) as error:
        raise ModelError(
            f"model folder {folder}: {name} is no JSON ({_one_line(error)}): download it again"
        ) from error
    if not isinstance(value, dict):
        raise ModelError(f"model folder {folder}: {name} must hold a JSON object")
    return value


def _one_line(error: Exception) -> str:
    """What an error of others says, in one line of at most `LONGEST` characters.

    A KeyError says its key alone, and a configuration's check its reason at the end.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1 if isinstance(error, StrictDataclassError) else 0] if lines else ""
    text = f"no {text}" if isinstance(error, KeyError) else text or type(error).__name__
    return (text if len(text) <= LONGEST else text[:LONGEST] + "...").rstrip(":").rstrip(".")
