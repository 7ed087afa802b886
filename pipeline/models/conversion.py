"""`stepwell convert`: a model source becomes a folder of the recurrent model, with a report.

The report says where a dense model can be looped. It is measured on the text that is given, or
else, half and half, on module documentation of Python's standard library and on worked problems of
our own tasks; a model without a tokenizer is measured on random tokens, which says little.
"""

import decimal
import difflib
import inspect
import statistics
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from pipeline.models.materialize import (
    GGUF_PACKAGE,
    ModelError,
    conversion_border,
    find_gguf,
    materialize,
)
from pipeline.prompts.tasks import generate
from pipeline.recipe.model_source import ModelSource
from pipeline.recurrent.convert.dense import DENSE, Split, map_dense, parse_split, show_split
from pipeline.recurrent.convert.folder import (
    Conversion,
    check_destination,
    convert_dense,
    convert_published,
    dense_config,
    load_dense,
    model_type,
)
from pipeline.recurrent.convert.influence import (
    Core,
    Influence,
    candidate_cores,
    measure,
    suggested_core,
)
from pipeline.recurrent.convert.published import StateInit
from pipeline.recurrent.model import RecurrentForCausalLM

AUTO = "auto"
ROWS, ROW_TOKENS = 8, 128
"""Sequences that are measured, and tokens of each."""

DOCUMENTED = (difflib, statistics, decimal)
TASKS = ("hops", "sums", "chains", "nesting")
DEFAULT_TEXT = "documentation of Python's standard library and worked problems of our tasks"

HUB_FILES = ("*.json", "*.safetensors", "*.jinja", "tokenizer*", "LICENSE*")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the command line asks for; None where it leaves the choice to us."""

    split: str | None = None
    drop: tuple[int, ...] = ()
    gate: float
    num_iterations: int | None = None
    max_iterations: int | None = None
    state_init: StateInit | None = None
    text: Path | None = None


def convert_model(source: str, destination: Path | None, *, wanted: Wanted) -> dict[str, Any]:
    """Convert a folder, a GGUF file, `package:NAME` or a hub id; without a destination, report on a
    dense model and suggest its split.

    Returns the document that the command prints.

    Raises:
        ModelError: for whatever cannot be done, in one line that names the fix.
    """
    with conversion_border():
        if destination is not None:
            check_destination(destination)
        with _folder(source) as folder:
            kind = model_type(folder)
            make = _dense if kind in DENSE else _published
            document = make(folder, destination, wanted)
    shown = str(destination) if destination is not None else None
    return {"source": source, "destination": shown, "model_type": kind, **document}


def _published(folder: Path, destination: Path | None, wanted: Wanted) -> dict[str, Any]:
    if destination is None:
        raise ModelError("name a folder to write to: only dense models have a report")
    if wanted.split is not None or wanted.drop or wanted.text is not None:
        raise ModelError(
            "--split, --drop and --text are for dense models: this one has its split already"
        )
    done = convert_published(
        folder,
        destination,
        state_init=wanted.state_init,
        num_iterations=wanted.num_iterations,
        max_iterations=wanted.max_iterations,
    )
    return {**_conversion(done), "influence": None, "damage": None}


def _dense(folder: Path, destination: Path | None, wanted: Wanted) -> dict[str, Any]:
    if wanted.state_init is not None:
        raise ModelError("--state-init is for Huginn: a dense model's state is its input")
    if destination is None:
        if wanted.split not in (None, AUTO):
            raise ModelError("--split without a folder to write to: name one after the source")
        report = _grid(folder, wanted)
        return {"split": None, "max_logit_diff": None, **report}
    if wanted.split is None:
        raise ModelError(
            f"say --split PRELUDE/CORE/CODA, such as 10/8/12, or --split {AUTO}; without a folder "
            "to write to, convert measures the candidates and suggests one"
        )
    if wanted.split == AUTO and wanted.drop:
        raise ModelError(f"--split {AUTO} keeps all layers: give the split of those kept")
    if wanted.split == AUTO:
        report = _grid(folder, wanted)
        done = _convert(folder, destination, wanted, split=parse_split(report["suggested_split"]))
        return {**report, **_conversion(done)}
    split = parse_split(wanted.split)
    map_dense(dense_config(folder), split=split, drop=wanted.drop, gate=wanted.gate)
    tokens, text = _tokens(folder, wanted.text, dense_config(folder).max_position_embeddings)
    done = _convert(folder, destination, wanted, split=split)
    model = RecurrentForCausalLM.from_pretrained(destination, dtype=torch.float32).eval()
    core = (split[0], split[0] + split[1])
    found = measure(model, tokens, cores=[core], gate=wanted.gate)
    return {**_report(found, sum(split), text=text, gate=wanted.gate), **_conversion(done)}


def _convert(folder: Path, destination: Path, wanted: Wanted, *, split: Split) -> Conversion:
    return convert_dense(
        folder,
        destination,
        split=split,
        drop=wanted.drop,
        gate=wanted.gate,
        num_iterations=wanted.num_iterations or 1,
        max_iterations=wanted.max_iterations or max(8, wanted.num_iterations or 1),
    )


def _grid(folder: Path, wanted: Wanted) -> dict[str, Any]:
    """Every candidate core measured, and the suggestion."""
    config = dense_config(folder)
    tokens, text = _tokens(folder, wanted.text, config.max_position_embeddings)
    layers = config.num_hidden_layers
    model = load_dense(folder)
    found = measure(model, tokens, cores=candidate_cores(layers), gate=wanted.gate)
    suggested = _split_of(suggested_core(layers, found.damage), layers)
    report = _report(found, layers, text=text, gate=wanted.gate)
    return {**report, "suggested_split": show_split(suggested)}


def _report(found: Influence, layers: int, *, text: str, gate: float) -> dict[str, Any]:
    return {
        "influence": [round(value, 5) for value in found.layers],
        "loss": round(found.loss, 5),
        "damage": [
            {"split": show_split(_split_of(core, layers)), "nats": round(nats, 5)}
            for core, nats in found.damage.items()
        ],
        "measured_on": text,
        "gate": gate,
    }


def _conversion(done: Conversion) -> dict[str, Any]:
    config = done.config
    return {
        "split": show_split(done.split),
        "max_logit_diff": done.max_logit_diff,
        "num_iterations": config.num_iterations,
        "max_iterations": config.max_iterations,
        "state_init": config.state_init,
        "left_out": list(done.left_out),
    }


def _split_of(core: Core, layers: int) -> Split:
    first, end = core
    return first, end - first, layers - end


@contextmanager
def _folder(source: str) -> Iterator[Path]:
    """The source as a model folder, which may be gone afterwards."""
    path = Path(source)
    if path.is_dir():
        yield path
    elif source.startswith(GGUF_PACKAGE) or path.suffix == ".gguf":
        find_gguf(source)
        with tempfile.TemporaryDirectory(prefix="stepwell-convert-") as made:
            yield materialize(ModelSource(gguf=source), Path(made))
    elif path.exists() or path.is_absolute() or source.count("/") != 1 or source[0] in ".~":
        raise ModelError(
            f"{source} is no model folder, .gguf file, package:NAME or hub id such as org/name"
        )
    else:
        yield _downloaded(source)


def _downloaded(name: str) -> Path:
    try:
        return Path(snapshot_download(name, allow_patterns=list(HUB_FILES)))
    except (OSError, HFValidationError) as error:  # the network's and the hub's own errors
        raise ModelError(
            f"{name} is no folder here and cannot be had from the hub: {str(error).splitlines()[0]}"
        ) from error


def _tokens(folder: Path, text: Path | None, longest: int) -> tuple[Tensor, str]:
    """Tokens [B, T] to measure on, and what they are."""
    vocabulary = dense_config(folder).vocab_size
    width = min(ROW_TOKENS, longest)
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        if text is not None:
            raise ModelError(f"--text needs a tokenizer, and {folder} has no tokenizer.json")
        generator = torch.Generator().manual_seed(0)
        shape = (ROWS, width)
        return torch.randint(vocabulary, shape, generator=generator), "random tokens: no tokenizer"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if text is not None:
        tokens, name = _rows(tokenizer, _read(text), rows=ROWS, width=width), str(text)
    else:
        name = DEFAULT_TEXT
        parts = [
            _rows(tokenizer, part, rows=ROWS // 2, width=width)
            for part in (_documentation(), _problems())
        ]
        shortest = min(part.shape[1] for part in parts)
        tokens = torch.cat([part[:, :shortest] for part in parts])
    if int(tokens.max()) >= vocabulary:
        raise ModelError(
            f"the tokenizer of {folder} gives token {int(tokens.max())}, and the model has only "
            f"{vocabulary}: put the model's own tokenizer there"
        )
    return tokens, name


def _rows(tokenizer: PreTrainedTokenizerBase, text: str, *, rows: int, width: int) -> Tensor:
    """The first tokens of a text as at most `rows` rows of at most `width` tokens."""
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    width = min(width, len(tokens))
    if width < 2:
        raise ModelError("the text to measure on has under two tokens: give a longer --text")
    rows = min(rows, len(tokens) // width)
    return torch.tensor(tokens[: rows * width]).view(rows, width)


def _read(text: Path) -> str:
    try:
        return text.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"--text {text} cannot be read: {error}") from error


def _documentation() -> str:
    """Empty only where Python runs without documentation strings."""
    return "\n\n".join(inspect.getdoc(module) or "" for module in DOCUMENTED)


def _problems() -> str:
    """Worked problems of several tasks, one a line; deterministic."""
    drawn = [
        generate(task, size=24, split="train", seed=0, difficulty=(2, 4), care=(1.0, 1.0))
        for task in TASKS
    ]
    lines = [
        f"{p.question} {p.worked} {p.answer}" for same in zip(*drawn, strict=True) for p in same
    ]
    return "\n".join(lines)


def report_lines(document: Mapping[str, Any]) -> list[str]:
    """The document for people."""
    lines = []
    if document["influence"] is not None:
        lines.append(f"measured on {document['measured_on']}")
        lines.append("layer  influence (1 - cosine of input and output)")
        lines += [f"{layer:5}  {value:.3f}" for layer, value in enumerate(document["influence"])]
        lines.append(f"split      damage in nats, core run twice with gate {document['gate']}")
        lines += [f"{row['split']:9}  {row['nats']:+.4f}" for row in document["damage"]]
    if "suggested_split" in document:
        lines.append(f"suggested: --split {document['suggested_split']}")
    if document["destination"] is not None:
        diff = document["max_logit_diff"]
        equal = "" if diff is None else f", logits within {diff:.1e} of the dense model's"
        lines.append(f"{document['destination']}: split {document['split']}{equal}")
    if document.get("left_out"):
        lines.append(f"left out: {', '.join(document['left_out'])}")
    return lines
