"""`stepwell convert`: a model source becomes a folder of the recurrent model, with a report.

The report says where a dense model can be looped: what each layer does, and what looping each
candidate core costs. Read `convert_model` first.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.models.gguf_tokenizer import GGUF_PACKAGE, find_gguf
from pipeline.models.materialize import downloaded, materialize
from pipeline.models.model_folder import ModelError, conversion_border
from pipeline.models.sample_text import sample_tokens
from pipeline.recipe.model_source import ModelSource
from pipeline.recipe.places import named_path
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
from pipeline.recurrent.convert.huginn import StateInit
from pipeline.recurrent.convert.influence import (
    Core,
    Influence,
    candidate_cores,
    leaving_early,
    measure,
    suggested_core,
)
from pipeline.recurrent.convert.passes import load_for_passes

AUTO = "auto"


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """What the command line asks for; None where it leaves the choice to us."""

    split: str | None = None
    drop: tuple[int, ...] = ()
    gate: float
    tie_iterations: bool = True
    copy_core: bool = False
    num_iterations: int | None = None
    max_iterations: int | None = None
    state_init: StateInit | None = None
    text: Path | None = None


def convert_model(
    source: str, destination: Path | None, *, options: ConvertOptions
) -> dict[str, Any]:
    """Convert a folder, a GGUF file, `package:NAME` or a hub id; without a destination, report on a
    dense model and suggest its split.

    Candidate cores take many passes, for which the model is in memory whole, in float32; a split
    that is given is measured by a few (`passes.load_for_passes`).

    Returns the document that the command prints.

    Raises:
        ModelError: for whatever cannot be conversion, in one line that names the fix.
    """
    with conversion_border():
        if destination is not None:
            check_destination(destination)
        with _folder(source) as folder:
            kind = model_type(folder)
            make = _dense if kind in DENSE else _published
            document = make(folder, destination, options)
    shown = str(destination) if destination is not None else None
    return {"source": source, "destination": shown, "model_type": kind, **document}


def _published(folder: Path, destination: Path | None, options: ConvertOptions) -> dict[str, Any]:
    if destination is None:
        raise ModelError("name a folder to write to: only dense models have a report")
    if options.split is not None or options.drop or options.text is not None:
        raise ModelError(
            "--split, --drop and --text are for dense models: this one has its split already"
        )
    if not options.tie_iterations:
        raise ModelError("--no-tie-iterations is for dense models: this one's core is iterated")
    if options.copy_core:
        raise ModelError("--copy-core is for dense models: this one's core is iterated")
    conversion = convert_published(
        folder,
        destination,
        state_init=options.state_init,
        num_iterations=options.num_iterations,
        max_iterations=options.max_iterations,
    )
    return {**_conversion(conversion), "influence": None, "damage": None}


def _dense(folder: Path, destination: Path | None, options: ConvertOptions) -> dict[str, Any]:
    if options.state_init is not None:
        raise ModelError("--state-init is for Huginn: a dense model's state is its input")
    if destination is None:
        if options.split not in (None, AUTO):
            raise ModelError("--split without a folder to write to: name one after the source")
        report = _grid(folder, options)
        return {"split": None, "max_logit_diff": None, **report}
    if options.split is None:
        raise ModelError(
            f"say --split PRELUDE/CORE/CODA, such as 10/8/12, or --split {AUTO}; without a folder "
            "to write to, convert measures the candidates and suggests one"
        )
    if options.split == AUTO and not options.tie_iterations:
        raise ModelError(f"--split {AUTO} measures what is iterated: give the split of untied ones")
    if options.split == AUTO and options.drop:
        raise ModelError(f"--split {AUTO} keeps all layers: give the split of those kept")
    if options.split == AUTO:
        report = _grid(folder, options)
        conversion = _convert(
            folder, destination, options, split=parse_split(report["suggested_split"])
        )
        return {**report, **_conversion(conversion)}
    split = parse_split(options.split)
    map_dense(
        dense_config(folder),
        split=split,
        drop=options.drop,
        gate=options.gate,
        tie_iterations=options.tie_iterations,
        copy_core=options.copy_core,
        max_iterations=options.max_iterations,
    )
    tokens, text = sample_tokens(folder, options.text)
    conversion = _convert(folder, destination, options, split=split)
    model = load_for_passes(destination, dtype=torch.float32)
    if not options.tie_iterations:
        rises = leaving_early(model, tokens)
        measured = {"influence": None, "damage": None, "measured_on": text}
        return {**measured, "leaving": rises, **_conversion(conversion)}
    core = (split[0], split[0] + split[1])
    influence = measure(model, tokens, cores=[core], gate=options.gate)
    return {
        **_report(influence, sum(split), text=text, gate=options.gate),
        **_conversion(conversion),
    }


def _convert(
    folder: Path, destination: Path, options: ConvertOptions, *, split: Split
) -> Conversion:
    return convert_dense(
        folder,
        destination,
        split=split,
        drop=options.drop,
        gate=options.gate,
        tie_iterations=options.tie_iterations,
        copy_core=options.copy_core,
        num_iterations=options.num_iterations,
        max_iterations=options.max_iterations,
    )


def _grid(folder: Path, options: ConvertOptions) -> dict[str, Any]:
    """Every candidate core measured, and the suggestion."""
    tokens, text = sample_tokens(folder, options.text)
    layers = dense_config(folder).num_hidden_layers
    model = load_dense(folder)
    influence = measure(model, tokens, cores=candidate_cores(layers), gate=options.gate)
    suggested = _split_of(suggested_core(layers, influence.damage), layers)
    report = _report(influence, layers, text=text, gate=options.gate)
    return {**report, "suggested_split": show_split(suggested)}


def _report(influence: Influence, layers: int, *, text: str, gate: float) -> dict[str, Any]:
    return {
        "influence": [round(value, 5) for value in influence.layers],
        "loss": round(influence.loss, 5),
        "damage": [
            {"split": show_split(_split_of(core, layers)), "nats": round(nats, 5)}
            for core, nats in influence.damage.items()
        ],
        "measured_on": text,
        "gate": gate,
    }


def _conversion(conversion: Conversion) -> dict[str, Any]:
    config = conversion.config
    return {
        "split": show_split(conversion.split),
        "max_logit_diff": conversion.max_logit_diff,
        "num_iterations": config.num_iterations,
        "max_iterations": config.max_iterations,
        "state_init": config.state_init,
        "left_out": list(conversion.left_out),
    }


def _split_of(core: Core, layers: int) -> Split:
    first, end = core
    return first, end - first, layers - end


@contextmanager
def _folder(source: str) -> Iterator[Path]:
    """The source as a model folder, which may be gone afterwards."""
    path = named_path(source)
    if path.is_dir():
        yield path
    elif source.startswith(GGUF_PACKAGE) or path.suffix == ".gguf":
        find_gguf(source)
        with tempfile.TemporaryDirectory(prefix="stepwell-convert-") as place:
            yield materialize(ModelSource(gguf=source), Path(place))
    elif path.exists() or path.is_absolute() or source.count("/") != 1 or source[0] in ".~":
        raise ModelError(
            f"{source} is no model folder, .gguf file, package:NAME or hub id such as org/name"
        )
    else:
        yield downloaded(source)


def report_lines(document: Mapping[str, Any]) -> list[str]:
    """The document for people."""
    lines = []
    if document["influence"] is not None:
        lines.append(f"measured on {document['measured_on']}")
        lines.append("layer  influence (1 - cosine of input and output)")
        lines += [f"{layer:5}  {value:.3f}" for layer, value in enumerate(document["influence"])]
        lines.append(f"split      damage in nats, core run twice with gate {document['gate']}")
        lines += [f"{row['split']:9}  {row['nats']:+.4f}" for row in document["damage"]]
    if "leaving" in document:
        lines.append(f"measured on {document['measured_on']}")
        lines.append("depth  nats that it costs if every token leaves there")
        lines += [f"{depth:5}  {nats:+.4f}" for depth, nats in enumerate(document["leaving"], 1)]
    if "suggested_split" in document:
        lines.append(f"suggested: --split {document['suggested_split']}")
    if document["destination"] is not None:
        diff = document["max_logit_diff"]
        equal = "" if diff is None else f", logits within {diff:.1e} of the dense model's"
        lines.append(f"{document['destination']}: split {document['split']}{equal}")
    if document.get("left_out"):
        lines.append(f"left out: {', '.join(document['left_out'])}")
    return lines
