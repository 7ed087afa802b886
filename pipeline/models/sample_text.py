"""The text on which a dense model's layers are measured.

It is the text that is given, or else, half and half, module documentation of Python's standard
library and worked problems of our own tasks; a model without a tokenizer is measured on random
tokens, which says little.
"""

import decimal
import difflib
import inspect
import statistics
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from pipeline.models.model_folder import ModelError, load_tokenizer_of
from pipeline.prompts.tasks import generate
from pipeline.recurrent.convert.folder import dense_config

ROWS, ROW_TOKENS = 8, 128
"""Sequences that are measured, and tokens of each."""

DOCUMENTED = (difflib, statistics, decimal)
TASKS = ("hops", "sums", "chains", "nesting")
DEFAULT_TEXT = "documentation of Python's standard library and worked problems of our tasks"


def sample_tokens(folder: Path, text: Path | None) -> tuple[Tensor, str]:
    """Tokens [B, T] to measure on, and what they are: of `text`, or of our own choice.

    Raises ModelError for a text that is unreadable or too short, or a tokenizer of another model.
    """
    config = dense_config(folder)
    vocabulary, width = config.vocab_size, min(ROW_TOKENS, config.max_position_embeddings)
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        if text is not None:
            raise ModelError(f"--text needs a tokenizer, and {folder} has no tokenizer.json")
        generator = torch.Generator().manual_seed(0)
        shape = (ROWS, width)
        return torch.randint(vocabulary, shape, generator=generator), "random tokens: no tokenizer"
    tokenizer = load_tokenizer_of(folder)
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
