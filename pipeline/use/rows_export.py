"""A harvest as a data set folder that others train on, cleaned of what the recipe evaluates on.

folder/
  data/train.parquet     a row a completion: `messages`, and where each came from
  README.md              the card, which tells `datasets` where the rows are
  dataset_info.json      the same for LLaMA-Factory
  dropped.json           rows that an evaluation set has too, each with what it shares
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.artifacts import Artifact, ArtifactDamaged, open_artifact, place, published
from pipeline.errors import WrongInput
from pipeline.prompts.overlap import Match, find_matches
from pipeline.recipe.load import load_recipe
from pipeline.recipe.schema import Recipe
from pipeline.records import Prompt, read_prompts, read_scored
from pipeline.stages.reject import ROLLOUTS_FILE
from pipeline.stages.support import PROMPTS_FILE
from pipeline.stages.training_rows import HARVEST_FILE
from pipeline.use.rows_card import rows_card

DATA_FILE = Path("data") / "train.parquet"
SHOWN_CHARS = 200  # of a question in dropped.json


class NoRows(WrongInput):
    """A run without the harvest that was asked for."""


@dataclass(frozen=True, kw_only=True)
class ExportedRows:
    """What was written, and what was left out by evaluation set."""

    folder: Path
    rows: int
    harvested: int
    dropped: Mapping[str, int]

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "folder": str(self.folder),
            "rows": self.rows,
            "harvested": self.harvested,
            "dropped": dict(self.dropped),
        }


def export_rows(run_dir: Path, stage: str, to: Path) -> ExportedRows:
    """Write the rows that a reject stage of a run kept to the new folder `to`, whole or not at all.

    Left out are rows whose question is one of the recipe's evaluation prompts, or has 13 words in
    a row in common with one.

    Raises NoRows.
    """
    recipe = load_recipe(str(run_dir / "recipe.yaml"))
    harvest = _harvest(run_dir, stage, recipe)
    rows = pq.read_table(harvest.path / HARVEST_FILE).to_pylist()
    held_out = _held_out(run_dir, recipe)
    matches = find_matches([_prompt(i, row) for i, row in enumerate(rows)], held_out)
    lost = {match.row.id for found in matches.values() for match in found}
    kept = [row for i, row in enumerate(rows) if str(i) not in lost]
    if not kept:
        raise NoRows(
            f"{stage} of {run_dir} has no row that no evaluation set has: "
            f"{len(rows):,} harvested, {len(lost):,} of them evaluated on"
        )
    rewards = _rewards(harvest)
    draft = to.with_name(f".{to.name}.draft")
    (draft / "data").mkdir(parents=True)
    pq.write_table(_table(kept, rewards, recipe, run_dir), draft / DATA_FILE)
    dropped = {name: len(found) for name, found in matches.items()}
    (draft / "dropped.json").write_text(json.dumps(_report(matches, rows), indent=1))
    (draft / "dataset_info.json").write_text(json.dumps(_llama_factory(recipe.name), indent=1))
    card = rows_card(
        recipe,
        harvest,
        rows=len(kept),
        harvested=len(rows),
        dropped=dropped,
        sources=Counter(row["source"] for row in kept),
        mean_reward=_mean([rewards[key] for key in map(_key, kept) if key in rewards]),
    )
    (draft / "README.md").write_text(card)
    place(draft, to)
    return ExportedRows(folder=to, rows=len(kept), harvested=len(rows), dropped=dropped)


def _harvest(run_dir: Path, stage: str, recipe: Recipe) -> Artifact:
    """The artifact of a reject stage."""
    kinds = {name: spec.kind for name, spec in recipe.stages.items()}
    harvests = [name for name, kind in kinds.items() if kind == "reject"]
    if stage not in harvests:
        there = f"it has {', '.join(harvests)}" if harvests else "it has none"
        raise NoRows(f"--rows {stage}: {run_dir} has no reject stage of that name; {there}")
    path = run_dir / "stages" / stage
    if path not in published(run_dir / "stages"):
        raise NoRows(
            f"--rows {stage}: the stage is not finished in {run_dir}; run its recipe again"
        )
    return open_artifact(path)


def _held_out(run_dir: Path, recipe: Recipe) -> dict[str, list[Prompt]]:
    """The prompts that the recipe evaluates on, by entry.

    Raises NoRows where one's file is gone: what cannot be read cannot be left out.
    """
    names = dict.fromkeys(
        content["prompts"]
        for spec in recipe.stages.values()
        if (content := spec.as_evaluation()) is not None
    )
    prompts = {}
    for name in names:
        try:
            entry = open_artifact(run_dir / "inputs" / name)
        except ArtifactDamaged as error:
            raise NoRows(
                f"{run_dir}: the evaluation prompts {name} cannot be read ({error.problem}), so no "
                "row can be told from them; run the recipe to its end first"
            ) from error
        prompts[name] = read_prompts(entry.path / PROMPTS_FILE)
    return prompts


def _prompt(number: int, row: Mapping[str, Any]) -> Prompt:
    context = tuple(json.loads(row.get("context") or "[]"))
    return Prompt(id=str(number), question=row["question"], context=context)


def _key(row: Mapping[str, Any]) -> tuple[str, int]:
    return row["prompt_id"], row["sample"]


def _rewards(harvest: Artifact) -> dict[tuple[str, int], float]:
    """Each rollout's reward, by prompt and sample."""
    path = harvest.path / ROLLOUTS_FILE
    scored = read_scored(path) if path.is_file() else []
    return {
        (s.rollout.prompt_id, s.rollout.sample): s.reward for s in scored if s.reward is not None
    }


def _table(
    rows: Sequence[Mapping[str, Any]],
    rewards: Mapping[tuple[str, int], float],
    recipe: Recipe,
    run_dir: Path,
) -> pa.Table:
    turn = pa.struct([("role", pa.string()), ("content", pa.string())])
    text = ("source", "prompt_id", "prompt_hash", "answer", "policy")
    schema = pa.schema(
        [
            ("messages", pa.list_(turn)),
            *((name, pa.string()) for name in text),
            ("reward", pa.float64()),
            ("verdicts", pa.string()),
            ("seed", pa.int64()),
            ("sample", pa.int32()),
        ]
    )
    golds = _golds(run_dir, {row["source"] for row in rows})
    entries = [
        {
            **{name: row[name] for name in (*text, "verdicts", "seed", "sample") if name in row},
            "messages": _messages(row, recipe),
            "answer": golds.get((row["source"], row["prompt_id"])),
            "reward": rewards.get(_key(row)),
        }
        for row in rows
    ]
    return pa.Table.from_pylist(entries, schema=schema)


def _messages(row: Mapping[str, Any], recipe: Recipe) -> list[dict[str, str]]:
    """The turns of a row, as the policy read and wrote them."""
    own = [dict(turn) for turn in json.loads(row.get("context") or "[]")]
    first = own[:1] if own[:1] and own[0]["role"] == "system" else []
    preface = [dict(turn) for turn in recipe.prompts[row["source"]].preface]
    return [
        *first,
        *preface,
        *own[len(first) :],
        {"role": "user", "content": row["question"]},
        {"role": "assistant", "content": row["completion"]},
    ]


def _golds(run_dir: Path, sources: set[str]) -> dict[tuple[str, str], str | None]:
    golds: dict[tuple[str, str], str | None] = {}
    for source in sources:
        path = run_dir / "inputs" / source / PROMPTS_FILE
        if path.is_file():
            golds |= {(source, prompt.id): prompt.answer for prompt in read_prompts(path)}
    return golds


def _report(
    matches: Mapping[str, Sequence[Match]], rows: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Each row that was left out, and the evaluation prompt that it shares words with."""
    return [
        {
            "evaluated_on": name,
            "why": "equal question" if match.kind == "equal" else "13 words in a row in common",
            "prompt_id": rows[int(match.row.id)]["prompt_id"],
            "sample": rows[int(match.row.id)]["sample"],
            "question": match.row.question[:SHOWN_CHARS],
            "other": match.other.question[:SHOWN_CHARS],
        }
        for name, found in matches.items()
        for match in found
    ]


def _llama_factory(name: str) -> dict[str, Any]:
    tags = {
        "role_tag": "role",
        "content_tag": "content",
        "user_tag": "user",
        "assistant_tag": "assistant",
        "system_tag": "system",
    }
    return {
        name: {
            "file_name": str(DATA_FILE),
            "formatting": "sharegpt",
            "columns": {"messages": "messages"},
            "tags": tags,
        }
    }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
