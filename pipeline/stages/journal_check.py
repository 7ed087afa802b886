"""A journal is looked at before its stage goes on: what is damaged is said by name and set aside.

What a damaged step means depends on where training goes on. A step after the checkpoint is made
again, by the weights that made it. One before it is in the checkpoint's weights, and nothing reads
it for training again; only its rollouts are lost. Where something does need it, training goes back
to a checkpoint from which it can be made again: with a curriculum, which draws by the steps before,
and with `ahead`, where a step is made by weights of before the checkpoint that it is next to.

Nothing reads a finished stage's journal for training. A launch reads each of its files once, and
again when the file is another than it was, or was written to; what a disk loses in silence is
noticed where the step is read, and by `verify`, which reads all.
"""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifacts import set_aside, write_atomic
from pipeline.generate.journal import Journal, journals
from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.train.checkpoints import latest_whole, updates_of

AGAIN = "it is made again"
BEFORE = (
    "it lies before {place}, so that nothing is trained on it again and the stage ends the same; "
    "only its rollouts are lost"
)
CHECKED = "checked.json"  # in a finished stage's journal: the files that were as they were written
FINISHED = "its stage is finished, and nothing reads it again; only its rollouts are lost"


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Which steps a training reads beside those that it trains on."""

    ahead: int
    history: bool  # a curriculum draws by all steps before
    updates_per_step: int

    @classmethod
    def of(cls, spec: GrpoStage) -> "Needs":
        """Those of a stage."""
        return cls(
            ahead=spec.ahead, history=spec.curriculum, updates_per_step=spec.updates_per_step
        )

    def lost(self, step: int, lost: Collection[int]) -> list[int]:
        """Steps that a training lacks which goes on with this one, and cannot make again.

        >>> Needs(ahead=0, history=False, updates_per_step=1).lost(4, {1, 4})
        []
        >>> Needs(ahead=1, history=True, updates_per_step=1).lost(4, {1, 4, 5})
        [1, 4]
        """
        first = 0 if self.history else step
        return sorted(one for one in lost if first <= one < step + self.ahead and step > 0)


def set_damaged_aside(
    journal: Journal, *, before: int | None, then: str, damaged: Mapping[int, str] | None = None
) -> None:
    """Set damaged steps aside; `then` is said of those before a step, or of all. `damaged`: what
    `Journal.damaged` gave."""
    for step, problem in (journal.damaged() if damaged is None else damaged).items():
        journal.put_aside(step, problem, then=then if before is None or step < before else AGAIN)


def check_finished(folder: Path, *, tell: Callable[[str], None]) -> None:
    """The same of all journals of a finished stage, below a folder; files that were looked at and
    have stayed as they were are not read again."""
    for path in journals(folder):
        journal = Journal(path, tell=tell)
        known = _known(path / CHECKED)
        files = {step: _file_state(journal.path(step)) for step in journal.steps()}
        damaged = journal.damaged([step for step in files if known.get(str(step)) != files[step]])
        set_damaged_aside(journal, before=None, then=FINISHED, damaged=damaged)
        whole = {str(step): state for step, state in files.items() if step not in damaged}
        if whole != known:
            write_atomic(path / CHECKED, json.dumps(whole))


def _file_state(path: Path) -> list[int]:
    """Of a file: equal to what it was, unless it was written to, copied or put in another's place.
    The kernel sets the last time, and nobody sets it back."""
    state = path.stat()
    return [state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns]


def _known(path: Path) -> Mapping[str, list[int]]:
    """What was looked at; nothing where the file cannot be read."""
    try:
        known = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def start_of(checkpoints: Path, journal: Journal, needs: Needs) -> Path | None:
    """The checkpoint that a training goes on from; None: from its beginning. What is damaged, or
    cannot be gone on with for a step that is lost, is set aside, and told."""
    whole = latest_whole(checkpoints, checksums=True, tell=journal.tell)
    damaged = journal.damaged()
    while whole is not None:
        step = updates_of(whole) // needs.updates_per_step
        gone = set(range(step + needs.ahead)) - set(journal.steps())
        lost = needs.lost(step, gone | damaged.keys())
        if not lost:
            break
        aside = set_aside(whole)
        journal.tell(
            f"{whole} is set aside as {aside}: to go on from it takes {_shown(lost)} of "
            f"{journal.folder}, damaged or gone, which training makes again from before it, to "
            "the same end"
        )
        whole = latest_whole(checkpoints, checksums=True, tell=journal.tell)
    if whole is None:
        set_damaged_aside(journal, before=0, then="", damaged=damaged)
    else:
        before, then = updates_of(whole) // needs.updates_per_step, BEFORE.format(place=whole.name)
        set_damaged_aside(journal, before=before, then=then, damaged=damaged)
    return whole


def _shown(steps: list[int]) -> str:
    return ", ".join(f"step-{step:06d}" for step in steps)
