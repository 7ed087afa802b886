"""What each token of a completion wrote, so that a page can colour them one by one."""

import codecs
import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tokenizers import Tokenizer

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_SPACE = "▁"  # of sentencepiece


class TokenPieces:
    """The tokens of one tokenizer as bytes.

    A character may be of several tokens: it is the last one's then, and theirs are empty.
    """

    def __init__(self, file: Path) -> None:
        """`file` is a `tokenizer.json`."""
        text = file.read_text(encoding="utf-8")
        self._tokenizer = Tokenizer.from_str(text)
        self._is_byte_level = '"ByteLevel"' in json.dumps(json.loads(text).get("decoder"))
        self._special = {
            number: token.content
            for number, token in self._tokenizer.get_added_tokens_decoder().items()
        }
        self._bytes: dict[int, bytes] = {}
        self._whole: dict[int, str | None] = {}  # None: a part of a character

    def split(self, tokens: Sequence[int], text: str) -> list[str] | None:
        """The pieces of a completion, as many as it has tokens, that together are its text, with
        the special tokens after it; None where they are not."""
        pieces = self._pieces(tokens)
        whole = "".join(pieces)
        if whole.startswith(" ") and not text.startswith(" ") and pieces:  # sentencepiece's own
            whole, first = whole[1:], next(i for i, piece in enumerate(pieces) if piece)
            pieces[first] = pieces[first][1:]
        if whole == text:
            return pieces
        tail = whole[len(text) :]
        is_special = tail in _endings(tuple(self._special[t] for t in tokens if t in self._special))
        return pieces if whole.startswith(text) and is_special else None

    def _pieces(self, tokens: Sequence[int]) -> list[str]:
        whole = self._whole
        for token in set(tokens) - whole.keys():
            try:
                whole[token] = self._piece(token).decode()
            except UnicodeDecodeError:
                whole[token] = None
        pieces = [whole[token] for token in tokens]
        if None not in pieces:
            return pieces  # type: ignore[return-value]
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        return [decoder.decode(self._piece(token)) for token in tokens]

    def _piece(self, token: int) -> bytes:
        if token not in self._bytes:
            self._bytes[token] = self._read(token)
        return self._bytes[token]

    def _read(self, token: int) -> bytes:
        if token in self._special:
            return self._special[token].encode()
        written = self._tokenizer.id_to_token(token) or ""
        if self._is_byte_level:
            table = _byte_table()
            return b"".join(table.get(character, character.encode()) for character in written)
        if match := _BYTE.fullmatch(written):
            return bytes([int(match[1], 16)])
        return written.replace(_SPACE, " ").encode()


@cache
def _endings(specials: tuple[str, ...]) -> frozenset[str]:
    """What completions may end with beyond their text: their last special tokens."""
    return frozenset("".join(specials[start:]) for start in range(len(specials)))


@cache
def _byte_table() -> dict[str, bytes]:
    """The printable characters that stand for bytes in byte-level tokenizers: those that print
    stand for themselves, the others for the numbers from 256 on, in their order."""
    kept = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in kept]
    table = {chr(byte): bytes([byte]) for byte in kept}
    return table | {chr(256 + place): bytes([byte]) for place, byte in enumerate(others)}
