"""The records that cross boundaries: frozen, plain, and with one parquet form each.

Shapes: `_T` completion tokens, `_P` prompt tokens. Log-probabilities are natural logarithms.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.recurrent.explore import Exploration
from pipeline.recurrent.request import DepthRequest

StopReason = Literal["eos", "length"]

Message = Mapping[str, str]
"""One turn of a conversation: `role` (system, user or assistant) and `content`."""


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One problem: what the model is asked, the gold answer, and whatever else its row carried."""

    id: str
    question: str
    answer: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    place: str = field(default="", compare=False)
    """Where its row stands, such as "rows.jsonl, line 3"; not stored, empty for generated ones."""
    context: tuple[Message, ...] = ()
    """What was said before the question, a system message of the row's own among it."""
    golds: tuple[str, ...] = ()
    """All answers that are right, where there are several; `answer` is the first."""


def group_name(prompt_id: str, repeat: int) -> str:
    """A prompt's id, with a counter where a step meets the prompt again.

    >>> group_name("a", 0), group_name("a", 1)
    ('a', 'a@2')
    """
    return f"{prompt_id}@{repeat + 1}" if repeat else prompt_id


def repeats(prompts: Sequence[Prompt]) -> list[int]:
    """How often each prompt of a step came before in it."""
    met: Counter[str] = Counter()
    counts = []
    for prompt in prompts:
        counts.append(met[prompt.id])
        met[prompt.id] += 1
    return counts


def group_names(prompts: Sequence[Prompt]) -> list[str]:
    """The names of a step's groups, one a prompt, no two alike."""
    return [group_name(p.id, n) for p, n in zip(prompts, repeats(prompts), strict=True)]


@dataclass(frozen=True, kw_only=True)
class Request:
    """One completion to generate. `seed` alone decides its random draws."""

    prompt_id: str
    prompt_tokens: tuple[int, ...]  # [_P]
    sample: int
    seed: int
    max_tokens: int
    temperature: float
    top_p: float = 1.0
    depth: DepthRequest | None = None  # None: the model's own number of iterations
    explore: Exploration | None = None  # None: one path a token
    repeat: int = 0  # times that the step had met the prompt before

    @property
    def group(self) -> str:
        """What tells the samples of one prompt from all others of the step."""
        return group_name(self.prompt_id, self.repeat)


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """One generated completion, with what the trainer needs to use it and to replay it."""

    prompt_id: str
    sample: int
    seed: int
    prompt_tokens: tuple[int, ...]  # [_P]
    tokens: tuple[int, ...]  # [_T], the end-of-sequence token included when there is one
    logprobs: tuple[float, ...]  # [_T], under the distribution that was sampled
    stop: StopReason
    weight_version: int
    depths: tuple[int, ...] | None = None  # [_T], None for a dense model; see DepthRequest
    prompt_depth: int | None = None  # of prompt positions but the last, None for a dense model
    depth_logprobs: tuple[float, ...] | None = None  # [_T], None when depth was not sampled
    flops: float = 0.0  # forward FLOPs, prompt and completion
    repeat: int = 0  # times that the step had met the prompt before

    @property
    def group(self) -> str:
        """As `Request.group`."""
        return group_name(self.prompt_id, self.repeat)

    @property
    def position_depths(self) -> tuple[int, ...] | None:
        """[_P + _T - 1] depth of every position that ran, which the last token did not; None for a
        dense model.

        Raises ValueError where the depth of the prompt is unknown.
        """
        if self.depths is None:
            return None
        before = len(self.prompt_tokens) - 1
        if self.prompt_depth is None and before:
            raise ValueError(
                f"the rollout {self.prompt_id}/{self.sample} has depths and no prompt_depth"
            )
        return (*[self.prompt_depth or 1] * before, *self.depths)


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A rollout with its text and its rewards. `reward` is None when nothing could score it."""

    rollout: Rollout
    text: str
    reward: float | None
    components: Mapping[str, float | None]  # unweighted, by reward name
    verdicts: Mapping[str, str]  # by reward name
    details: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Why the verdicts are what they are, by reward name; JSON values."""


def prompts_table(prompts: Iterable[Prompt]) -> pa.Table:
    """The parquet form of prompts; `columns`, `context` and `golds` travel as JSON."""
    rows = [
        {
            "id": p.id,
            "question": p.question,
            "answer": p.answer,
            "columns": json.dumps(p.columns),
            "context": json.dumps(p.context),
            "golds": json.dumps(p.golds),
        }
        for p in prompts
    ]
    names = ("id", "question", "answer", "columns", "context", "golds")
    return pa.Table.from_pylist(rows, schema=pa.schema([(name, pa.string()) for name in names]))


def read_prompts(path: Path) -> list[Prompt]:
    """Prompts from the parquet file that `prompts_table` made."""
    return [
        Prompt(
            id=row["id"],
            question=row["question"],
            answer=row["answer"],
            columns=json.loads(row["columns"]),
            context=tuple(json.loads(row.get("context", "[]"))),
            golds=tuple(json.loads(row.get("golds", "[]"))),
        )
        for row in pq.read_table(path).to_pylist()
    ]


def write_prompts(prompts: Iterable[Prompt], path: Path) -> None:
    """Write prompts as parquet."""
    pq.write_table(prompts_table(prompts), path)


_SCORED_SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("sample", pa.int32()),
        ("seed", pa.int64()),
        ("prompt_tokens", pa.list_(pa.int32())),
        ("tokens", pa.list_(pa.int32())),
        ("logprobs", pa.list_(pa.float64())),
        ("stop", pa.string()),
        ("weight_version", pa.int32()),
        ("depths", pa.list_(pa.int32())),
        ("prompt_depth", pa.int32()),
        ("depth_logprobs", pa.list_(pa.float64())),
        ("flops", pa.float64()),
        ("repeat", pa.int32()),
        ("text", pa.string()),
        ("reward", pa.float64()),
        ("components", pa.string()),
        ("verdicts", pa.string()),
        ("details", pa.string()),
    ]
)
_ROLLOUT_FIELDS = tuple(f.name for f in fields(Rollout))
_TUPLES = ("prompt_tokens", "tokens", "logprobs", "depths", "depth_logprobs")


def scored_table(scored: Sequence[Scored]) -> pa.Table:
    """The parquet form of scored rollouts. Round trip is exact: log-probabilities are float64."""
    rows = [
        {
            **asdict(s.rollout),
            "text": s.text,
            "reward": s.reward,
            "components": json.dumps(dict(s.components)),
            "verdicts": json.dumps(dict(s.verdicts)),
            "details": json.dumps(dict(s.details)),
        }
        for s in scored
    ]
    return pa.Table.from_pylist(rows, schema=_SCORED_SCHEMA)


def scored_from_table(table: pa.Table) -> list[Scored]:
    """The inverse of `scored_table`."""
    return [_scored(row) for row in table.to_pylist()]


def _scored(row: dict[str, Any]) -> Scored:
    row = {"repeat": 0, "details": "{}"} | row  # files of before the columns
    for name in _TUPLES:
        row[name] = None if row[name] is None else tuple(row[name])
    return Scored(
        rollout=Rollout(**{name: row[name] for name in _ROLLOUT_FIELDS}),
        text=row["text"],
        reward=row["reward"],
        components=json.loads(row["components"]),
        verdicts=json.loads(row["verdicts"]),
        details=json.loads(row["details"]),
    )


def write_scored(scored: Sequence[Scored], path: Path) -> None:
    """Write scored rollouts as parquet."""
    pq.write_table(scored_table(scored), path)


def read_scored(path: Path) -> list[Scored]:
    """Scored rollouts from the parquet file that `write_scored` made."""
    return scored_from_table(pq.read_table(path))
