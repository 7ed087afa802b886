"""What a run's evaluations found of every prompt: read from its folder, without a model."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipeline.artifacts import ArtifactError, open_artifact, published
from pipeline.errors import WrongInput
from pipeline.measure.paired import Counts
from pipeline.records import Prompt, Scored, group_name, read_prompts, read_scored
from pipeline.stages.support import PROMPTS_FILE
from pipeline.watch.run_reading import recipe_of

SETTINGS = (
    "reward",
    "samples_per_prompt",
    "temperature",
    "top_p",
    "max_tokens",
    "effort",
    "budget",
    "depth",
)
"""Keys of an evaluate stage that decide what its accuracies mean."""


class EvaluationError(WrongInput):
    """An evaluation of a run cannot be read; the message says where."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One model's answers to one set of prompts."""

    stage: str  # that evaluated
    model: str
    prompts: str  # the entry's name
    settings: Mapping[str, Any]  # the `SETTINGS` that the recipe has
    file: Path  # of the answers
    prompts_file: Path

    @cached_property
    def counts(self) -> dict[str, Counts]:
        """(right, scored) samples of every prompt with a scored one, by its group's name.

        Raises EvaluationError where the answers are not there, or not judged by the reward.
        """
        if not self.file.is_file():
            raise EvaluationError(
                f"{self.file} is missing: the answers of {self.model} are needed, prompt by prompt"
            )
        counts: dict[str, Counts] = {}
        for row in _rows(self.file):
            value = self._value(json.loads(row["components"]))
            if value is None:
                continue
            name = group_name(row["prompt_id"], row.get("repeat") or 0)
            right, scored = counts.get(name, (0, 0))
            counts[name] = (right + (value >= 1.0), scored + 1)
        return counts

    @cached_property
    def questions(self) -> dict[str, Prompt]:
        """The prompts by id; none where the run folder has lost them."""
        if not self.prompts_file.is_file():
            return {}
        return {prompt.id: prompt for prompt in read_prompts(self.prompts_file)}

    def answers(self) -> dict[str, list[Scored]]:
        """The samples of every prompt, by its group's name."""
        found: dict[str, list[Scored]] = {}
        for scored in read_scored(self.file):
            found.setdefault(scored.rollout.group, []).append(scored)
        return found

    def value_of(self, scored: Scored) -> float | None:
        """What the evaluation's reward gave a sample."""
        return self._value(scored.components)

    def _value(self, components: Mapping[str, float | None]) -> float | None:
        reward = str(self.settings.get("reward"))
        if reward in components:
            return components[reward]
        if len(components) == 1:
            return next(iter(components.values()))
        raise EvaluationError(
            f"{self.file}: the reward {reward} judged nothing there, but {', '.join(components)}"
        )


def evaluations_of(run_dir: Path) -> list[Evaluation]:
    """Every model of every finished evaluate stage, in the order of the recipe's models.

    Raises EvaluationError for a damaged manifest, RunReadError where the folder is no run's.
    """
    stages: Mapping[str, Any] = recipe_of(run_dir).get("stages") or {}
    found = []
    folders = {path.name: path for path in published(run_dir / "stages")}
    names = [name for name in stages if name in folders]
    for name in [*names, *(folder for folder in folders if folder not in names)]:
        try:
            manifest = open_artifact(folders[name], verify=False).manifest
        except ArtifactError as error:
            raise EvaluationError(f"{error}; `stepwell verify {run_dir}` says more") from None
        spec = stages.get(name) or {}
        for row in manifest.info.get("results", ()) if manifest.kind == "report" else ():
            found.append(
                Evaluation(
                    stage=name,
                    model=row["model"],
                    prompts=row["prompts"],
                    settings={key: spec[key] for key in SETTINGS if key in spec},
                    file=folders[name] / f"{row['model']}.parquet",
                    prompts_file=run_dir / "inputs" / row["prompts"] / PROMPTS_FILE,
                )
            )
    return found


def common_prompts(first: Evaluation, second: Evaluation) -> list[str]:
    """Names of the groups whose prompts both have scored, the first one's order: the same question,
    and the same gold answers where both runs still have them."""
    return [
        name
        for name in first.counts
        if name in second.counts and _same_gold(name.partition("@")[0], first, second)
    ]


def _same_gold(prompt_id: str, first: Evaluation, second: Evaluation) -> bool:
    one, other = first.questions.get(prompt_id), second.questions.get(prompt_id)
    if one is None or other is None:
        return True
    return (one.answer, one.golds) == (other.answer, other.golds)


def _rows(file: Path) -> Sequence[dict[str, Any]]:
    try:
        table = pq.ParquetFile(file)
        columns = [
            n for n in ("prompt_id", "repeat", "components") if n in table.schema_arrow.names
        ]
        return table.read(columns=columns).to_pylist()
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise EvaluationError(f"{file} cannot be read: {error}") from None
