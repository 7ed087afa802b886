"""A tokenizer as a GGUF file describes it: pieces, their kinds, and how texts are cut into them.

llama.cpp knows two families that models of ours have. `gpt2` cuts words by a named rule and merges
bytes; `llama` merges characters by their pieces' scores, the highest first. One token a character,
as in our tiny models, is a `llama` vocabulary in which nothing merges.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import TokenType

from pipeline.models.model_folder import ModelError

BLANK = "▁"
"""What stands for a space in a `llama` vocabulary."""

_GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_NUMBERS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
)
_SPACES = r"|\s*[\r\n]+|\s+(?!\S)|\s+"

RULES: Mapping[tuple[str, ...], str] = {
    ("bytes",): "gpt-2",
    (_GPT2, "bytes"): "gpt-2",
    ("digits", "bytes"): "smollm",
    (_NUMBERS % "{1,3}" + _SPACES,): "llama-bpe",
    (_NUMBERS % "" + _SPACES,): "qwen2",
}
"""llama.cpp's name of each way to cut words (`llama-vocab.cpp`), by the tokenizer's own steps."""


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """What the file says of tokens, one entry a row of the embedding."""

    model: str  # gpt2 or llama
    rule: str  # how words are cut
    tokens: Sequence[str]
    kinds: Sequence[int]  # TokenType
    scores: Sequence[float] | None  # of a llama vocabulary
    merges: Sequence[str]  # of a gpt2 one
    adds_blank: bool = False  # a text begins with a blank


def vocabulary_of(folder: Path, *, size: int) -> Vocabulary:
    """The vocabulary in a folder's `tokenizer.json`, for an embedding of `size` rows.

    Raises ModelError for a tokenizer that llama.cpp has no name for.
    """
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    model = content["model"]
    added = {token["id"]: token for token in content.get("added_tokens", ())}
    tokens = {id_: text for text, id_ in _entries(model)}
    merges = [_pair(merge) for merge in model.get("merges", ())]
    if model["type"] == "BPE" and not _has_blanks(content):
        rule = RULES.get(_steps(content.get("pre_tokenizer")))
        if rule is None:
            raise ModelError(
                f"{file}: llama.cpp has no name for the way that this tokenizer cuts words "
                f"({', '.join(_steps(content.get('pre_tokenizer'))) or 'not at all'}): export "
                "without --gguf"
            )
        names, kinds = _listed(tokens, added, size)
        joined = [f"{left} {right}" for left, right in merges]
        return Vocabulary(
            model="gpt2", rule=rule, tokens=names, kinds=kinds, scores=None, merges=joined
        )
    if model["type"] == "BPE" or _is_by_character(content):
        if model["type"] != "BPE":
            tokens = {id_: text.replace(" ", BLANK) for id_, text in tokens.items()}
        names, kinds = _listed(tokens, added, size)
        ranks = {"".join(pair): rank for rank, pair in reversed(list(enumerate(merges)))}
        return Vocabulary(
            model="llama",
            rule="default",
            tokens=names,
            kinds=kinds,
            scores=[-float(ranks.get(name, len(merges))) for name in names],
            merges=(),
            adds_blank=_adds_blank(content),
        )
    raise ModelError(
        f"{file}: a tokenizer of the type {model['type']} has no place in a GGUF file: export "
        "without --gguf"
    )


def _entries(model: Mapping[str, Any]) -> list[tuple[str, int]]:
    vocabulary = model["vocab"]
    if isinstance(vocabulary, list):  # of a unigram model: pieces with their scores
        return [(text, id_) for id_, (text, _) in enumerate(vocabulary)]
    return list(vocabulary.items())


def _listed(
    tokens: Mapping[int, str], added: Mapping[int, Mapping[str, Any]], size: int
) -> tuple[list[str], list[int]]:
    """Texts and kinds of all rows; a row without a token gets a name that no text has."""
    names, kinds = [], []
    for id_ in range(size):
        if id_ in added:
            names.append(added[id_]["content"])
            special = added[id_]["special"]
            kinds.append(int(TokenType.CONTROL if special else TokenType.USER_DEFINED))
        elif id_ in tokens:
            names.append(tokens[id_])
            kinds.append(int(_kind(tokens[id_])))
        else:
            names.append(f"[unused {id_}]")
            kinds.append(int(TokenType.UNUSED))
    return names, kinds


def _kind(text: str) -> TokenType:
    is_byte = len(text) == 6 and text.startswith("<0x") and text.endswith(">")
    return TokenType.BYTE if is_byte else TokenType.NORMAL


def _pair(merge: Any) -> tuple[str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _flat(part: Mapping[str, Any] | None, inner: str) -> list[Mapping[str, Any]]:
    """The steps of a tokenizer's part, a sequence taken apart."""
    if part is None:
        return []
    return list(part[inner]) if part["type"] == "Sequence" else [part]


def _steps(part: Mapping[str, Any] | None) -> tuple[str, ...]:
    """How words are cut, in words that RULES has."""
    steps: list[str] = []
    for step in _flat(part, "pretokenizers"):
        if step["type"] == "Split":
            steps.append(step["pattern"].get("Regex", step["pattern"].get("String", "")))
        elif step["type"] == "Digits" and step["individual_digits"]:
            steps.append("digits")
        elif step["type"] == "ByteLevel":
            if step.get("use_regex", True):
                steps.append("bytes")
        else:
            steps.append(step["type"])
    return tuple(steps)


def _has_blanks(content: Mapping[str, Any]) -> bool:
    """Whether spaces are pieces of their own kind, as SentencePiece has them."""
    steps = _flat(content.get("pre_tokenizer"), "pretokenizers")
    normal = _flat(content.get("normalizer"), "normalizers")
    return any(step["type"] == "Metaspace" for step in steps) or any(
        step.get("content") == BLANK for step in normal
    )


def _adds_blank(content: Mapping[str, Any]) -> bool:
    steps = _flat(content.get("pre_tokenizer"), "pretokenizers")
    normal = _flat(content.get("normalizer"), "normalizers")
    return any(
        step["type"] == "Metaspace" and step.get("prepend_scheme", "always") != "never"
        for step in steps
    ) or any(step["type"] == "Prepend" for step in normal)


def _is_by_character(content: Mapping[str, Any]) -> bool:
    """Whether every text is cut into single characters."""
    steps = _flat(content.get("pre_tokenizer"), "pretokenizers")
    return content["model"]["type"] == "WordLevel" and any(
        step["type"] == "Split" and step["pattern"].get("Regex") == r"[\s\S]" for step in steps
    )
