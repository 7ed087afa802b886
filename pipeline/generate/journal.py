"""The journal: everything random of a GRPO step, on disk before the optimizer uses it.

One parquet file a step, renamed into place, its checksum beside it; its metadata holds the step's
metrics. A resumed run reads it and generates nothing that was already used.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import astuple, dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from pipeline.artifacts import (
    file_sha256,
    is_set_aside,
    set_aside,
    whole_file,
    write_atomic,
)
from pipeline.generate.curriculum import Counts
from pipeline.generate.groups import Group
from pipeline.records import scored_from_table, scored_table

_META = b"stepwell"
_STEP_FILE = re.compile(r"step-(\d{6,})\.parquet")


def _say(sentence: str) -> None:
    print(sentence, flush=True)


@dataclass(frozen=True, kw_only=True)
class StepRollouts:
    """One step's groups and what was measured while making them."""

    groups: Sequence[Group]
    metrics: Mapping[str, float]
    passes: Mapping[str, Counts] = field(default_factory=dict)
    """By prompt, over all groups that were sampled, where a curriculum draws by them."""


@dataclass(frozen=True)
class Journal:
    """The steps of one stage under `folder`. `tell` is told of what is set aside."""

    folder: Path
    tell: Callable[[str], None] = field(default=_say, compare=False)

    def path(self, step: int) -> Path:
        """The file of one step."""
        return self.folder / f"step-{step:06d}.parquet"

    def read(self, step: int) -> StepRollouts | None:
        """A step's rollouts, or None when the step was never journaled in whole groups.

        A damaged file is set aside: the step is made again, with the same seeds.
        """
        if not self.path(step).exists():
            return None
        if (problem := self._damage(step)) is not None:
            self.put_aside(step, problem, then="it is made again")
            return None
        table = pq.read_table(self.path(step))
        meta = json.loads(table.schema.metadata[_META])
        scored = scored_from_table(table)
        size = meta["group_size"]
        if max(Counter(s.rollout.group for s in scored).values()) > size:
            return None  # two groups in one, as older files have it: no trainer took them
        groups = [
            Group(prompt_id=scored[i].rollout.prompt_id, samples=tuple(scored[i : i + size]))
            for i in range(0, len(scored), size)
        ]
        passes = {name: Counts(*counts) for name, counts in meta.get("passes", {}).items()}
        return StepRollouts(groups=groups, metrics=meta["metrics"], passes=passes)

    def write(self, step: int, rollouts: StepRollouts) -> None:
        """Journal a step. The file is complete or absent, also after a power cut."""
        self.folder.mkdir(parents=True, exist_ok=True)
        scored = [s for group in rollouts.groups for s in group.samples]
        meta = {
            "group_size": len(rollouts.groups[0].samples),
            "metrics": dict(rollouts.metrics),
            "passes": {name: astuple(counts) for name, counts in rollouts.passes.items()},
        }
        table = scored_table(scored).replace_schema_metadata({_META: json.dumps(meta)})
        with whole_file(self.path(step)) as temporary:
            pq.write_table(table, temporary)
            write_atomic(self._digest(step), file_sha256(temporary))  # there before its file is

    def passes(self, step: int) -> Mapping[str, Counts] | None:
        """What a step says of its prompts' pass rates, its rollouts unread; None where it is not
        there."""
        if not self.path(step).exists():
            return None
        metadata = pq.read_schema(self.path(step)).metadata
        passes = json.loads(metadata[_META]).get("passes", {})
        return {name: Counts(*counts) for name, counts in passes.items()}

    def steps(self) -> list[int]:
        """The steps that are there, in order."""
        with os.scandir(self.folder) if self.folder.is_dir() else nullcontext(()) as files:
            matches = [_STEP_FILE.fullmatch(file.name) for file in files]
        return sorted(int(match[1]) for match in matches if match is not None)

    def damaged(self, steps: Sequence[int] | None = None) -> dict[int, str]:
        """What is wrong with steps that are not as they were written; `steps`: of these alone.
        Reads every file once, on all cores."""
        steps = self.steps() if steps is None else steps
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
            problems = zip(steps, threads.map(self._damage, steps), strict=True)
            return {step: problem for step, problem in problems if problem is not None}

    def put_aside(self, step: int, problem: str, *, then: str) -> None:
        """Rename a step's file out of the way, and tell of it; `then`: what that means."""
        aside = set_aside(self.path(step))
        name = "nowhere" if aside is None else aside.name
        self.tell(f"{self.path(step)} {problem}; it is set aside as {name}: {then}")

    def _digest(self, step: int) -> Path:
        return self.path(step).with_suffix(".sha256")

    def _damage(self, step: int) -> str | None:
        """What is wrong with a step's file; None also where older versions wrote no checksum."""
        digest = self._digest(step)
        if digest.is_file() and digest.read_text() != file_sha256(self.path(step)):
            return "differs from its checksum"
        return None


def journals(folder: Path) -> list[Path]:
    """The folders of journaled steps in a folder and below it, but what was set aside."""
    folders = {file.parent for file in folder.rglob("step-*.parquet")}
    return sorted(
        path
        for path in folders
        if not any(is_set_aside(Path(part)) for part in path.relative_to(folder).parts)
    )
