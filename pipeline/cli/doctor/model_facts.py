"""What models' files say, as a program: it loads what it takes, reads a list of questions on
standard input, as JSON, and prints the list of answers. The libraries that it loads, and what they
may do to it, stay in its process. Weights are not read, their heads are.

in:  {"source": a ModelSource, "entries": {NAME: {"preface": [...], "rows": [{"question": ...,
     "context": [...], "system": [...], "completion": text or null}]}}}
out: {"error": sentence}, or `facts`' document
"""

import contextlib
import importlib
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pipeline.errors import StepwellError, WrongInput
from pipeline.models.stored_files import json_object
from pipeline.models.turn_end import turn_end_in
from pipeline.recipe.model_source import ModelSource

_LAYER = re.compile(r"\b(?:layers|h|blocks)\.(\d+)\.")
_EMBEDDING = re.compile(r"(embed_tokens|wte|embed_in|word_embeddings)\.weight$")
FOLDERS_ALONE = "--folders-alone"  # no question will be of another source
THINK = "<think>"
FAULTS = (AttributeError, ImportError, KeyError, OSError, RuntimeError, TypeError, ValueError)
"""What transformers raises for files that are not what they should be."""


def facts(question: Mapping[str, Any]) -> dict[str, Any]:
    """Vocabulary, positions, end tokens, and how each entry's prompts are rendered.

    Raises StepwellError for a model that cannot be had or loaded.
    """
    from pipeline.generate.chat import Chat

    source = ModelSource.model_validate(question["source"])
    tokenizer, config, named = _loaded(source)
    if source.chat_template is not None:
        tokenizer.chat_template = source.chat_template
    ends = _ends(tokenizer, named, source)
    chat = Chat(tokenizer=tokenizer, ends=tuple(ends))
    return {
        "tokens": len(tokenizer),
        "highest_token": max(tokenizer.get_vocab().values()),
        "vocab_size": config.get("vocab_size"),
        "layers": config.get("num_hidden_layers"),
        "stored": _stored(source),
        "ends": ends,
        "named_ends": named,
        "has_template": tokenizer.chat_template is not None,
        "entries": {name: _entry(chat, entry) for name, entry in question["entries"].items()},
    }


def _loaded(source: ModelSource) -> tuple[Any, dict[str, Any], list[int]]:
    """The tokenizer, the configuration, and the end tokens that its files name."""
    if source.path is not None:
        folder = Path(source.path)
        config = json_object(folder / "config.json")
        named = [*_listed(json_object(folder / "generation_config.json")), *_listed(config)]
        return _tokenizer(folder), config, named
    if source.hub is not None:
        from pipeline.models.model_folder import hub_config, load_tokenizer_of

        config = hub_config(source.hub)
        return load_tokenizer_of(source.hub), config, _listed(config)
    if source.gguf is not None:
        from pipeline.models.gguf_tokenizer import find_gguf, gguf_tokenizer

        return gguf_tokenizer(find_gguf(source.gguf)), {}, []
    from pipeline.models.scratch_model import character_tokenizer

    return character_tokenizer(), {}, []


def _tokenizer(folder: Path) -> Any:
    from pipeline.generate.chat import load_tokenizer

    try:
        return load_tokenizer(folder)
    except FAULTS as error:  # files that are not ours
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        raise WrongInput(
            f"the tokenizer of {folder} cannot be read ({type(error).__name__}: {reason}); put the "
            "model's own tokenizer.json and tokenizer_config.json there"
        ) from error


def _ends(tokenizer: Any, named: Sequence[int], source: ModelSource) -> list[int]:
    """Tokens that end a completion, as a run has them.

    Raises WrongInput for a text of `stop` that is no token.
    """
    vocabulary = tokenizer.get_vocab()
    for text in source.stop:
        if text not in vocabulary:
            raise WrongInput(
                f"stop: {text!r} is no single token of the tokenizer, and generation stops at "
                "tokens; name one of its tokens, or leave it out"
            )
    own = tokenizer.eos_token_id
    ends = [*(vocabulary[text] for text in source.stop), *([] if own is None else [own]), *named]
    turn_end = turn_end_in(tokenizer, ends=ends)
    if turn_end.is_token:
        ends.append(vocabulary[turn_end.text])
    return list(dict.fromkeys(ends))


def _listed(config: Mapping[str, Any]) -> list[int]:
    named = config.get("eos_token_id")
    return named if isinstance(named, list) else [] if named is None else [named]


def _stored(source: ModelSource) -> dict[str, Any]:
    """Of a folder's tensors, by their names alone: layers, and rows of the embedding."""
    from safetensors import safe_open

    layers, rows, count = set(), None, 0
    for file in sorted(Path(source.path).glob("*.safetensors")) if source.path else ():
        with safe_open(file, "np") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                count += 1
                if (layer := _LAYER.search(name)) is not None:
                    layers.add(int(layer[1]))
                if _EMBEDDING.search(name):
                    rows = tensors.get_slice(name).get_shape()[0]
    return {"tensors": count, "layers": len(layers), "embedding_rows": rows}


def _entry(chat: Any, entry: Mapping[str, Any]) -> dict[str, Any]:
    """How prompts of one entry come out: their lengths, and what is odd about them."""
    from pipeline.generate.chat import TurnsRefused, shown

    tokens: list[int] = []
    completions: list[int] = []
    odd: dict[str, int] = {"think": 0, "twice": 0, "no_system": 0, "no_question": 0}
    start = chat.prompt_ids("")[:1]
    for row in entry["rows"]:
        try:
            text = chat.render(row["question"], entry["preface"], row["context"])
        except TurnsRefused as refusal:
            return {"refused": str(refusal)}
        ids = chat.prompt_ids(text)
        tokens.append(len(ids))
        if row["completion"] is not None:
            completions.append(len(chat.completions_ids([row["completion"]])[0]) + 1)
        plain = shown(text)
        odd["think"] += plain.rstrip().endswith(THINK)
        odd["twice"] += bool(start) and ids[1:2] == start
        odd["no_system"] += any(_bare(system) not in _bare(plain) for system in row["system"])
        odd["no_question"] += _bare(row["question"]) not in _bare(plain)
    return {"prompt_tokens": tokens, "completion_tokens": completions, **odd}


def _bare(text: str) -> str:
    return "".join(text.split())


def answered(question: Mapping[str, Any]) -> Mapping[str, Any]:
    """`facts`, or `error`: the sentence of a model that cannot be had."""
    try:
        return facts(question)
    except StepwellError as error:
        return {"error": str(error)}


def main() -> None:
    """Answer on standard output all that was asked on standard input."""
    answer = os.dup(1)
    os.dup2(2, 1)  # what libraries print
    if FOLDERS_ALONE in sys.argv:
        sys.modules["torch"] = None  # pyright: ignore[reportArgumentType]
        # tokenizers do without it, and it takes two thirds of the time to load
    with ThreadPoolExecutor() as reader:
        asked = reader.submit(json.load, sys.stdin)
        with contextlib.suppress(Exception):  # raised again where it is used, and told there
            importlib.import_module("transformers.models.auto.tokenization_auto")
        questions = asked.result()
    document = [answered(question) for question in questions]
    with os.fdopen(answer, "w") as out:
        json.dump(document, out)


if __name__ == "__main__":
    main()
