"""Code that a model folder brings along for transformers to run. Here it is read, never run.

It runs where a recipe says `trust_remote_code: true` of the model's source: the plan names its
files, each process is told, and a folder's own files decide nothing.
"""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.models.known_models import causal_models
from pipeline.recipe.model_source import PUBLISHED
from pipeline.recurrent.shape import MODEL_TYPE

NEEDED = ("AutoConfig", "AutoModelForCausalLM")
"""What a folder's `auto_map` must name for its model to be trained."""

_CLASS = re.compile(r"(\w+)\.\w+")
_IMPORTS = (r"^\s*import\s+\.(\S+)\s*$", r"^\s*from\s+\.(\S+)\s+import")
"""Relative imports as transformers 5.17 finds them (dynamic_module_utils)."""


def needs_own_code(config: Mapping[str, Any]) -> bool:
    """Whether transformers knows no model of this `config.json`, which names code instead."""
    kind, known = config.get("model_type"), causal_models()
    return (
        bool(known and config.get("auto_map"))
        and kind not in (None, MODEL_TYPE, *PUBLISHED)
        and kind not in known
    )


def code_files(folder: Path, config: Mapping[str, Any]) -> list[str]:
    """Names of the files that the `auto_map` of a folder's `config.json` names, and of those that
    they import from the folder, sorted; files that are not there, too."""
    classes = [_CLASS.fullmatch(name) for name in _classes(config).values()]
    waiting = [f"{name[1]}.py" for name in classes if name]
    names: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in names:
            continue
        names.add(name)
        file = folder / name
        text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
        imported = [module for form in _IMPORTS for module in re.findall(form, text, re.MULTILINE)]
        waiting += [f"{module}.py" for module in imported]
    return sorted(names)


def code_fault(folder: Path, config: Mapping[str, Any]) -> str | None:
    """Why the code that a folder names cannot run; None where it can."""
    classes = _classes(config)
    lacking = [name for name in NEEDED if name not in classes]
    if lacking:
        return f"names no {lacking[0]} in the auto_map of its config.json"
    for name in classes.values():
        if not _CLASS.fullmatch(name):
            return (
                f"names {name} in the auto_map of its config.json, which is no MODULE.CLASS of its "
                "own files; download the whole model"
            )
    absent = [name for name in code_files(folder, config) if not (folder / name).is_file()]
    return f"needs {absent[0]}, which is not there; download it again" if absent else None


def tokenizer_code(folder: Path) -> str | None:
    """The tokenizer class of a folder that is code of its own; None where transformers' own will
    do."""
    try:
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        named = config.get("auto_map")
        kind = str(config.get("tokenizer_class"))
    except (OSError, ValueError, AttributeError):  # absent or broken: told elsewhere
        return None
    usual = kind in ("PreTrainedTokenizerFast", "TokenizersBackend", "None")
    return None if not named or (usual and (folder / "tokenizer.json").is_file()) else kind


def carry_code(source: Path, out: Path) -> None:
    """Give a saved model the code of the folder that it was loaded from, under the same names."""
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    saved = json.loads((out / "config.json").read_text(encoding="utf-8"))
    for name in code_files(source, config):
        shutil.copyfile(source / name, out / name)
    saved["auto_map"] = config["auto_map"]
    (out / "config.json").write_text(json.dumps(saved, indent=2) + "\n", encoding="utf-8")


def _classes(config: Mapping[str, Any]) -> dict[str, str]:
    """`auto_map` without what it says of tokenizers."""
    named = config.get("auto_map")
    pairs = named.items() if isinstance(named, Mapping) else ()
    return {str(key): str(name) for key, name in pairs if key != "AutoTokenizer"}
