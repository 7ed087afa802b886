"""What a run folder holds is what its manifests say: checked from outside, without the recipe."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artifacts import (
    MANIFEST,
    ArtifactError,
    damages,
    entries,
    is_set_aside,
    open_artifact,
)
from pipeline.generate.journal import Journal, journals
from pipeline.models.weights_digest import weights_sha256
from pipeline.stages.run_folder import RunFolderError

PLACES = ("inputs", "stages")  # of published artifacts; every folder below is one
RUN_MARKS = ("recipe.yaml", "state.json", *PLACES)


@dataclass(frozen=True, kw_only=True)
class Damage:
    """A file or folder that is not what a manifest says."""

    path: str  # relative to the run folder
    problem: str


@dataclass(frozen=True, kw_only=True)
class CheckedArtifact:
    """One artifact after its check."""

    name: str  # of its stage or input; of what lies elsewhere its path
    path: str  # relative to the run folder
    kind: str | None  # None: its manifest cannot be read
    files: int
    damaged: tuple[Damage, ...]
    weights_sha256: str | None  # see `pipeline.models.weights_digest`; None: no weights, or damaged


@dataclass(frozen=True, kw_only=True)
class Verification:
    """All artifacts of a run folder."""

    run_dir: Path
    artifacts: tuple[CheckedArtifact, ...]
    journals: tuple[Damage, ...] = ()

    @property
    def damaged(self) -> list[Damage]:
        """What is wrong, in the artifacts' order, then of journaled steps."""
        of_artifacts = [damage for artifact in self.artifacts for damage in artifact.damaged]
        return [*of_artifacts, *self.journals]

    def document(self) -> dict[str, Any]:
        """What `stepwell verify --json` prints."""
        return {
            "run_dir": str(self.run_dir),
            "ok": not self.damaged,
            "artifacts": [
                {
                    "name": artifact.name,
                    "path": artifact.path,
                    "kind": artifact.kind,
                    "files": artifact.files,
                    "ok": not artifact.damaged,
                    "weights_sha256": artifact.weights_sha256,
                }
                for artifact in self.artifacts
            ],
            "damaged": [vars(damage) for damage in self.damaged],
            "weights_sha256": {
                artifact.name: artifact.weights_sha256
                for artifact in self.artifacts
                if artifact.weights_sha256 is not None
            },
        }


def verify_run(run_dir: Path) -> Verification:
    """Check every artifact in a run folder against its manifest, and every journaled step against
    its checksum, but what was set aside; changes nothing.

    Raises RunFolderError where the folder is no run's.
    """
    if not any((run_dir / mark).exists() for mark in RUN_MARKS):
        there = "it has no recipe.yaml" if run_dir.is_dir() else "there is no such folder"
        raise RunFolderError(
            f"{run_dir} is no run folder: {there}; name one such as runs/quickstart"
        )
    folders = [path for place in PLACES for path in entries(run_dir / place)]
    work = run_dir / "work"
    folders += [
        path.parent
        for path in sorted(work.glob(f"[!.]*/**/{MANIFEST}"))
        if not any(is_set_aside(Path(part)) for part in path.relative_to(work).parts)
    ]
    return Verification(
        run_dir=run_dir,
        artifacts=tuple(_checked(folder, run_dir) for folder in folders),
        journals=tuple(_damaged_steps(run_dir)),
    )


def _damaged_steps(run_dir: Path) -> Iterator[Damage]:
    for folder in journals(run_dir / "journal"):
        journal = Journal(folder)
        for step, problem in journal.damaged().items():
            yield Damage(path=str(journal.path(step).relative_to(run_dir)), problem=problem)


def show_verification(verification: Verification) -> Iterator[str]:
    """Lines for people."""
    for artifact in verification.artifacts:
        state = "damaged" if artifact.damaged else "ok"
        weights = "" if artifact.weights_sha256 is None else f"  weights {artifact.weights_sha256}"
        yield f"{state:8} {artifact.path} ({artifact.kind}, {artifact.files} files){weights}"
    for damage in verification.damaged:
        yield f"{damage.path}: {damage.problem}"
    if verification.damaged:
        yield "damaged; the run's own command sets damaged artifacts aside and makes them again"
    else:
        yield f"{len(verification.artifacts)} artifacts, all as they were published"


def _checked(folder: Path, run_dir: Path) -> CheckedArtifact:
    place = folder.relative_to(run_dir)
    name = folder.name if place.parts[0] in PLACES else str(place)
    try:
        manifest = open_artifact(folder, verify=False).manifest
    except ArtifactError as error:
        damage = Damage(path=str(place / MANIFEST), problem=str(error).removeprefix(f"{folder}: "))
        return CheckedArtifact(
            name=name, path=str(place), kind=None, files=0, damaged=(damage,), weights_sha256=None
        )
    damaged = tuple(
        Damage(path=str(place / name), problem=problem)
        for name, problem in damages(folder, manifest)
    )
    return CheckedArtifact(
        name=name,
        path=str(place),
        kind=manifest.kind,
        files=len(manifest.files),
        damaged=damaged,
        weights_sha256=None if damaged else weights_sha256(folder),
    )
