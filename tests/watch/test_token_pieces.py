"""Pieces of tokens are the text, whatever the tokenizer's way with bytes and spaces."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from pipeline.watch.token_pieces import TokenPieces

TEXT = "naïve 日本語 🙂 <think>x</think>"


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level tokenizer that has no whole character beyond ASCII."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=260,
        special_tokens=["<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the then"], trainer)
    file = tmp_path_factory.mktemp("bpe") / "tokenizer.json"
    tokenizer.save(str(file))
    return file


def test_characters_of_several_tokens_are_the_last_ones(byte_level: Path) -> None:
    tokens = Tokenizer.from_file(str(byte_level)).encode(TEXT).ids
    pieces = TokenPieces(byte_level).split(tokens, TEXT)
    assert pieces is not None
    assert len(pieces) == len(tokens) > len(TEXT)
    assert "".join(pieces) == TEXT
    assert "日" in pieces
    assert "�" not in "".join(pieces)


def test_special_tokens_at_the_end_are_no_text(byte_level: Path) -> None:
    tokenizer = Tokenizer.from_file(str(byte_level))
    eos = tokenizer.token_to_id("<eos>")
    assert eos is not None
    pieces = TokenPieces(byte_level).split([*tokenizer.encode("then").ids, eos], "then")
    assert pieces is not None
    assert pieces[-1] == "<eos>"


def test_another_text_has_no_pieces(byte_level: Path) -> None:
    tokens = Tokenizer.from_file(str(byte_level)).encode("then").ids
    assert TokenPieces(byte_level).split(tokens, "them") is None
    assert TokenPieces(byte_level).split(tokens, "the") is None


def test_sentencepiece_spaces_and_bytes(tmp_path: Path) -> None:
    words = ["<unk>", "▁one", "▁two", "<0xE6>", "<0x97>", "<0xA5>"]
    content = {
        "version": "1.0",
        "added_tokens": [],
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}]},
        "model": {"type": "Unigram", "unk_id": 0, "vocab": [[word, -1.0] for word in words]},
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    pieces = TokenPieces(tmp_path / "tokenizer.json")
    assert pieces.split([1, 2, 3, 4, 5], "one two日") == ["one", " two", "", "", "日"]
    assert pieces.split([1, 2], " one two") == [" one", " two"]
