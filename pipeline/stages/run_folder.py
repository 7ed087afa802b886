"""A run's folder: where everything of it is, what is finished, and what another recipe left.

run folder/
  recipe.yaml state.json results.json     what was asked, how far it is, what came out
  findings.json                           what is odd about the prompts
  launches.json                           when, with which code and where it was launched
  cores                                   the cores that threads were counted from
  stages/NAME/                            published artifacts
  inputs/NAME/                            the base model and the prompts
  work/NAME/  journal/NAME/  metrics/     what a resume goes on from
  logs/run.log  logs/PROCESS.log          what the run said; what each process wrote
  trackers/                               what `report_to` wrote
"""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline.artifacts import (
    Artifact,
    ArtifactDamaged,
    open_artifact,
    set_aside,
    write_atomic,
)
from pipeline.cluster.clean_up import leave, leave_behind
from pipeline.errors import FAILED, RunFailed, WrongInput
from pipeline.plan.stage_plan import Plan, PlanError, StagePlan
from pipeline.stages.run_lock import FolderTaken, run_lock

FINDINGS_FILE = "findings.json"
CORES_FILE = "cores"
RESERVE_FILE = ".reserve"
RESERVE_BYTES = 2**18  # for state.json and a few lines of log
DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
FINGERPRINT_FILE = "fingerprint"  # in a work folder: which plan of the stage it belongs to


class RunFolderError(WrongInput):
    """A folder in which no run can be made."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run. Nothing that a run made is deleted by another recipe's."""

    path: Path

    @property
    def logs(self) -> Path:
        """One file a process."""
        return self.path / "logs"

    @property
    def cores(self) -> int | None:
        """The cores that the run began with; None before its first launch."""
        try:
            text = (self.path / CORES_FILE).read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            return None
        return int(text) if text.isascii() and text.isdecimal() and int(text) else None

    def stage(self, name: str) -> Path:
        """The artifact of a finished stage."""
        return self.path / "stages" / name

    def input(self, name: str) -> Path:
        """The artifact of the base model or of a prompts entry."""
        return self.path / "inputs" / name

    def work(self, name: str) -> Path:
        """What a stage goes on from after an interruption."""
        return self.path / "work" / name

    def journal(self, name: str) -> Path:
        """The rollouts that a stage used."""
        return self.path / "journal" / name

    @contextmanager
    def reserve(self) -> Iterator[Callable[[], None]]:
        """Hold a little of the disk, which the call that this gives back frees: an end that a full
        disk causes can then still be written down."""
        place = self.path / RESERVE_FILE
        place.write_bytes(os.urandom(RESERVE_BYTES))  # a disk may store zeros as nothing
        try:
            yield partial(place.unlink, missing_ok=True)
        finally:
            place.unlink(missing_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Make the folder and hold it: one run in a folder at a time.

        Raises RunFolderError when it cannot be made or written, or another process runs in it,
        and RunFailed for a disk that is full or fails meanwhile.
        """
        with ExitStack() as stack:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                stack.enter_context(run_lock(self.path, lost=_end_at_once))
            except FolderTaken as error:
                raise RunFolderError(f"{self.path}: {error}; choose --run-dir") from error
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise _disk_failed(self.path, error) from error
                raise RunFolderError(
                    f"{self.path}: no run can be made here ({error.strerror}); choose --run-dir"
                ) from error
            try:
                yield
            except OSError as error:
                if error.errno not in DISK_FAULTS:
                    raise
                raise _disk_failed(self.path, error) from error

    def is_published(self, stage: StagePlan) -> bool:
        """Whether the stage's artifact is there, and made from this plan; a damaged one is not."""
        try:
            manifest = open_artifact(self.stage(stage.name), verify=False).manifest
        except ArtifactDamaged:
            return False
        return manifest.fingerprint == stage.fingerprint

    def finished(self, stage: StagePlan, *, tell: Callable[[str], None]) -> Artifact | None:
        """The stage's artifact where it is there; see `standing`."""
        return standing(self.stage(stage.name), stage.fingerprint, tell=tell)

    def redo(self, plan: Plan, name: str) -> None:
        """Set the stage and all later ones aside, so that they run again.

        Raises PlanError when an earlier one is not finished.
        """
        names = [stage.name for stage in plan.stages]
        first = names.index(name)
        missing = [s.name for s in plan.stages[:first] if not self.is_published(s)]
        if missing:
            raise PlanError(
                f"--from {name}: {', '.join(missing)} must be finished in {self.path} first; "
                "run without --from"
            )
        for later in names[first:]:
            for place in (self.stage, self.work, self.journal):
                set_aside(place(later))

    def begin(self, stage: StagePlan, *, tell: Callable[[str], None]) -> Path:
        """The stage's work folder; one that another recipe began is set aside, journal too, and
        `tell` is told."""
        work = self.work(stage.name)
        mark = work / FINGERPRINT_FILE
        if work.exists() and (not mark.exists() or mark.read_text() != stage.work_fingerprint):
            aside = set_aside(work)
            set_aside(self.journal(stage.name))
            tell(
                f"{stage.name} was begun from another recipe, data or code: what it had done is "
                f"kept as {aside}, and it begins again"
            )
        work.mkdir(parents=True, exist_ok=True)
        write_atomic(mark, stage.work_fingerprint)
        return work

    def last_step(self, name: str) -> int | None:
        """The last step that the stage's journal holds."""
        steps = sorted(self.journal(name).glob("step-*.parquet"))
        return int(steps[-1].stem[5:]) if steps else None


def standing(path: Path, fingerprint: str, *, tell: Callable[[str], None]) -> Artifact | None:
    """The artifact at a path, verified, where it has this fingerprint. Another recipe's is set
    aside, and so is a damaged one: `tell` is told."""
    if not path.exists():
        return None
    try:
        if open_artifact(path, verify=False).manifest.fingerprint == fingerprint:
            return open_artifact(path)
        aside = set_aside(path)
        tell(f"{path} was made from another recipe, data or code: kept as {aside}, and made again")
    except ArtifactDamaged as error:
        aside = set_aside(path)
        tell(f"warning: {path} is damaged: {error.problem}; set aside as {aside}, and made again")
    return None


def _end_at_once(sentence: str) -> None:
    """The folder is another's: nothing of this run may write there any more."""
    print(sentence, file=sys.stderr, flush=True)
    leave_behind()
    leave(FAILED)


def _disk_failed(path: Path, error: OSError) -> RunFailed:
    return RunFailed(
        f"{error.filename or path}: {error.strerror}; what is finished is kept: make room, or mend "
        "the disk, and run the same command again"
    )
