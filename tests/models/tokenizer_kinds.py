"""Small tokenizers of the kinds that language models have, trained on real text."""

import json
from functools import cache
from pathlib import Path

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    processors,
    trainers,
)
from tokenizers import pre_tokenizers as pre
from transformers import PreTrainedTokenizerFast

SPECIALS = ["<|end|>", "<|im_start|>", "<|im_end|>"]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SIZE = 1500
TIKTOKEN = Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+(?!\S)|\s+")
KINDS = ("gpt2", "llama3", "sentencepiece", "unigram", "unigram_bytes")
ODD = "zażółć 日本語 🧑‍🔬 \t floccinaucinihilipilification\n\n  ==> 12,345.67"
"""What none of them was trained on."""


def texts() -> list[str]:
    """Lines of the project's own pages."""
    pages = ("README.md", "recipes/README.md", "rewards/README.md", "tests/bench/README.md")
    lines = [line for page in pages for line in Path(page).read_text().splitlines()]
    return [line for line in lines if line.strip()]


@cache
def content(kind: str) -> str:
    """The `tokenizer.json` of one kind."""
    if kind in ("gpt2", "llama3"):
        return _byte_level(kind).to_str()
    if kind == "sentencepiece":
        return _sentencepiece()
    return _unigram(bytes_too=kind == "unigram_bytes")


def tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """The same, as transformers loads it."""
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(content(kind)),
        eos_token="<|im_end|>",
        pad_token="<|end|>",
        chat_template=CHATML,
    )


def _byte_level(kind: str) -> Tokenizer:
    """GPT-2's, special tokens first; Llama 3's, special tokens last and whole words looked up."""
    inner = Tokenizer(models.BPE(ignore_merges=kind == "llama3"))
    if kind == "gpt2":
        inner.pre_tokenizer = pre.ByteLevel(add_prefix_space=False)
    else:
        split = pre.Split(TIKTOKEN, "isolated")
        inner.pre_tokenizer = pre.Sequence(
            [split, pre.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
        inner.normalizer = normalizers.NFC()
    inner.decoder = decoders.ByteLevel()
    first = SPECIALS if kind == "gpt2" else []
    alphabet = pre.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE, special_tokens=first, initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(texts(), trainer)
    inner.add_special_tokens([AddedToken(text, special=True) for text in SPECIALS])
    if kind == "llama3":
        start = ("<|end|>", inner.token_to_id("<|end|>"))
        inner.post_processor = processors.Sequence(
            [
                processors.ByteLevel(trim_offsets=False),
                processors.TemplateProcessing(single="<|end|> $A", special_tokens=[start]),
            ]
        )
    return inner


def _sentencepiece() -> str:
    """As transformers converts Llama's: bytes first, and every pair that gives a token a merge."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre.Metaspace(prepend_scheme="first", split=False)
    inner.train_from_iterator(
        [word for text in texts() for word in text.split()],
        trainers.BpeTrainer(vocab_size=SIZE, show_progress=False),
    )
    letters = sorted(inner.get_vocab(), key=inner.get_vocab().__getitem__)
    first = ["<unk>", *SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary = {text: i for i, text in enumerate([*first, *reversed(letters[:9]), *letters[9:]])}
    merges = [
        [text[:cut], text[cut:]]
        for text in letters
        for cut in range(1, len(text))
        if text[:cut] in vocabulary and text[cut:] in vocabulary
    ]
    decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    inner = Tokenizer(
        models.BPE(
            vocabulary,
            [tuple(pair) for pair in merges],  # pyright: ignore[reportArgumentType]
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    inner.pre_tokenizer = pre.Metaspace(prepend_scheme="first", split=False)
    inner.decoder = decoder
    inner.add_special_tokens([AddedToken(text, special=True) for text in ["<unk>", *SPECIALS]])
    return inner.to_str()


def _unigram(*, bytes_too: bool) -> str:
    inner = Tokenizer(models.Unigram())
    inner.pre_tokenizer = pre.Metaspace()
    inner.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace()] if bytes_too else [decoders.Metaspace()]
    )
    trainer = trainers.UnigramTrainer(
        vocab_size=SIZE,
        special_tokens=["<unk>", *SPECIALS],
        unk_token="<unk>",
        show_progress=False,
    )
    inner.train_from_iterator(texts(), trainer)
    spec = json.loads(inner.to_str())
    if bytes_too:
        spec["model"]["byte_fallback"] = True
        spec["model"]["vocab"] += [[f"<0x{byte:02X}>", 0.0] for byte in range(256)]
    return json.dumps(spec)
