"""The rollouts of a run as what a page needs to show, filter and compare them.

An index has every rollout's numbers, column by column; blocks have texts, tokens and reasons, and
are opened when they are looked at. All of it is JSON, compressed, as base64: nothing that a model
wrote can end the element that holds it.
"""

import base64
import gzip
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.records import Prompt
from pipeline.watch.rollout_files import (
    Choice,
    RolloutFile,
    choose,
    chosen_rows,
    list_lengths,
    note_of,
)
from pipeline.watch.token_pieces import TokenPieces

MOST_ROLLOUTS = 20_000
MOST_TOKENS = 12_000_000
"""Of all rollouts of a page: about 40 MB of text."""
LONGEST = 24_000
"""Characters of a completion; of a longer one the begin and the end."""
BLOCK_ROWS = 256
NATS = 32
"""Parts of a nat that a page tells apart."""
REASON = 600
"""Characters of a reward's reason."""
_COLUMNS = (
    "prompt_id",
    "sample",
    "repeat",
    "tokens",
    "logprobs",
    "depths",
    "stop",
    "weight_version",
    "text",
    "reward",
    "components",
    "verdicts",
    "details",
)
_NUMBERS = (
    "source",
    "step",
    "prompt",
    "sample",
    "reward",
    "length",
    "cut",
    "depth",
    "set",
    "version",
    "surprise",
)


@dataclass(frozen=True, kw_only=True)
class ExplorerData:
    """What a page holds: packed as its script unpacks it."""

    index: str
    blocks: Sequence[str]
    rollouts: int
    note: str


@dataclass
class _Names:
    """Names by number, in the order of their first use."""

    numbers: dict[Any, int] = field(default_factory=dict)

    def number(self, name: Any) -> int:
        return self.numbers.setdefault(name, len(self.numbers))


def explorer_data(
    files: Sequence[RolloutFile],
    prompts: Mapping[str, Prompt],
    *,
    most: int = MOST_ROLLOUTS,
    most_tokens: int = MOST_TOKENS,
) -> ExplorerData:
    """Read and pack the rollouts of these files, at most so many. Raises RunReadError for a file
    that cannot be read."""
    choice = choose(files, most=most, most_tokens=most_tokens)
    packing = _Packing(prompts)
    for file in files:
        packing.add(file, chosen_rows(file, choice, _COLUMNS))
    return packing.packed(choice)


class _Packing:
    """Rollouts on their way into a page."""

    def __init__(self, prompts: Mapping[str, Prompt]) -> None:
        self._prompts = prompts
        self._sources, self._asked, self._rewards = _Names(), _Names(), _Names()
        self._verdicts, self._sets, self._pieces = _Names(), _Names(), _Names()
        self._tokenizers: dict[Path, TokenPieces | None] = {}
        self._columns: dict[str, list[Any]] = {name: [] for name in _NUMBERS}
        self._bodies: list[dict[str, Any]] = []
        self._depths: set[int] = set()

    def add(self, file: RolloutFile, table: pa.Table) -> None:
        """All rows of a file's table."""
        count, columns = table.num_rows, self._columns
        if not count:
            return
        source = self._sources.number(file.source)
        lengths = list_lengths(table["tokens"])
        nats = _by_row(table["logprobs"])
        depths = _by_row(table["depths"]) if "depths" in table.column_names else [None] * count
        plain = {
            name: table[name].to_pylist()
            for name in table.column_names
            if name not in ("logprobs", "depths")
        }
        plain.setdefault("details", ["{}"] * count)
        columns["source"] += [source] * count
        columns["step"] += [file.step] * count
        columns["prompt"] += [self._asked.number(name) for name in plain["prompt_id"]]
        columns["sample"] += plain["sample"]
        columns["reward"] += [_number(r) for r in plain["reward"]]
        columns["length"] += lengths.tolist()
        columns["cut"] += [int(stop == "length") for stop in plain["stop"]]
        columns["depth"] += [
            None if row is None or not len(row) else _number(row.mean()) for row in depths
        ]
        columns["version"] += plain["weight_version"]
        columns["surprise"] += [
            None if row is None or not len(row) else _number(-row.mean()) for row in nats
        ]
        pieces = self._tokenizer(file.tokenizer)
        for at in range(count):
            row = {name: values[at] for name, values in plain.items()}
            self._bodies.append(self._body(row, nats[at], depths[at], pieces))

    def packed(self, choice: Choice) -> ExplorerData:
        """All of it."""
        names = list(self._asked.numbers)
        index = {
            "sources": list(self._sources.numbers),
            "rewards": list(self._rewards.numbers),
            "verdicts": list(self._verdicts.numbers),
            "sets": list(self._sets.numbers),
            "pieces": list(self._pieces.numbers),
            "prompts": [_asked(name, self._prompts.get(name)) for name in names],
            "columns": self._columns,
            "deepest": max(self._depths) if len(self._depths) > 1 else 0,
            "nats": NATS,
            "blockRows": BLOCK_ROWS,
        }
        bodies, count = self._bodies, len(self._bodies)
        blocks = [bodies[start : start + BLOCK_ROWS] for start in range(0, count, BLOCK_ROWS)]
        return ExplorerData(
            index=pack(index),
            blocks=[pack(block) for block in blocks],
            rollouts=count,
            note=note_of(choice),
        )

    def _body(
        self,
        row: Mapping[str, Any],
        nats: np.ndarray | None,
        depths: np.ndarray | None,
        tokenizer: TokenPieces | None,
    ) -> dict[str, Any]:
        """One rollout's part of a block. Its verdicts become a set of the index."""
        components, verdicts = json.loads(row["components"]), json.loads(row["verdicts"])
        said = [
            self._verdicts.number(f"{name}: {verdicts.get(name, '')}".rstrip(": "))
            for name in components
        ]
        self._columns["set"].append(self._sets.number(tuple(said)))
        reasons = {
            name: {key: _shortened(reason) for key, reason in detail.items()}
            for name, detail in json.loads(row["details"] or "{}").items()
            if detail
        }
        body: dict[str, Any] = {
            "parts": [
                [self._rewards.number(name), _number(value)] for name, value in components.items()
            ],
            **({"why": reasons} if reasons else {}),
        }
        text, tokens = row["text"], row["tokens"]
        pieces = tokenizer.split(tokens, text) if tokenizer and len(text) <= LONGEST else None
        if pieces is None:
            return body | {"text": _cut(text)}
        for piece in dict.fromkeys(pieces):
            self._pieces.number(piece)
        known = self._pieces.numbers
        body["tokens"] = [known[piece] for piece in pieces]
        body["tail"] = _beyond(pieces, len(text))
        if nats is not None:
            body["nats"] = _octets(np.rint(-NATS * np.nan_to_num(nats, neginf=-NATS)))
        if depths is not None:
            body["depths"] = _octets(depths)
            self._depths.update(np.unique(depths).tolist())
        return body

    def _tokenizer(self, file: Path) -> TokenPieces | None:
        if file not in self._tokenizers:
            self._tokenizers[file] = TokenPieces(file) if file.is_file() else None
        return self._tokenizers[file]


def pack(content: Any) -> str:
    """Compressed JSON as base64; the same for the same content."""
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    data = text.encode("utf-8", errors="replace")
    return base64.b64encode(gzip.compress(data, compresslevel=6, mtime=0)).decode()


def _by_row(column: pa.ChunkedArray) -> list[np.ndarray | None]:
    """[N] arrays of a column of lists; None where there is none."""
    rows: list[np.ndarray | None] = []
    for chunk in column.chunks:
        values = chunk.values.to_numpy(zero_copy_only=False)
        ends = chunk.offsets.to_numpy()
        missing = chunk.is_null().to_numpy(zero_copy_only=False)
        rows += [
            None if gone else values[start:end]
            for start, end, gone in zip(ends[:-1], ends[1:], missing, strict=True)
        ]
    return rows


def _asked(name: str, prompt: Prompt | None) -> list[Any]:
    """[id, question, gold, turns before it]: the first alone where the run has lost it."""
    if prompt is None:
        return [name]
    turns = "\n".join(f"{turn['role']}: {turn['content']}" for turn in prompt.context)
    return [name, prompt.question, prompt.answer, turns]


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(float(value), 4)


def _beyond(pieces: Sequence[str], length: int) -> int:
    """How many of the last pieces are beyond a text of this length: special tokens."""
    over = sum(map(len, pieces)) - length
    count = 0
    while over > 0:
        count += 1
        over -= len(pieces[-count])
    return count


def _octets(values: np.ndarray) -> str:
    """Whole numbers from 0 to 255, a byte each, as base64."""
    return base64.b64encode(np.clip(values, 0, 255).astype(np.uint8).tobytes()).decode()


def _cut(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    half = LONGEST // 2
    return f"{text[:half]}\n… {len(text) - LONGEST:,} characters …\n{text[-half:]}"


def _shortened(reason: Any) -> str:
    text = reason if isinstance(reason, str) else json.dumps(reason, ensure_ascii=False)
    return text if len(text) <= REASON else f"{text[:REASON]} …"
