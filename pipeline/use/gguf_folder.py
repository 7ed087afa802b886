"""A folder for llama.cpp and Ollama: the GGUF file and a Modelfile, whole or not at all."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifacts import fresh_folder, place
from pipeline.generate.chat import load_chat
from pipeline.use.gguf_export import FloatType, export_gguf
from pipeline.use.ollama import modelfile

CARDS = ("README.md", "LICENSE", "recipe.yaml", "results.json")
"""What goes along, where the model's folder has it."""


@dataclass(frozen=True, kw_only=True)
class GgufFolder:
    """What was written; `gap` is `export_gguf`'s."""

    file: Path
    modelfile: Path
    gap: float


def write_gguf_folder(model: Path, to: Path, *, dtype: FloatType) -> GgufFolder:
    """Write a dense model's folder as the new folder `to`. Raises ModelError."""
    draft = fresh_folder(to.with_name(f".{to.name}.draft"))
    name = f"model-{dtype}.gguf"
    try:
        gap = export_gguf(model, draft / name, dtype=dtype)
        config = json.loads((model / "config.json").read_text())
        text = modelfile(load_chat(model), file=name, positions=config["max_position_embeddings"])
        (draft / "Modelfile").write_text(text)
        for card in CARDS:
            if (model / card).is_file():
                shutil.copyfile(model / card, draft / card)
        place(draft, to)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return GgufFolder(file=to / name, modelfile=to / "Modelfile", gap=gap)
