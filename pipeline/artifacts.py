"""Artifacts: a folder with a manifest, complete or absent, never half there.

A folder is published by writing it under a temporary name, syncing it and renaming it. The
manifest says what made it (stage, kind, fingerprint, seed), from what, and each file's SHA-256.
"""

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pipeline.errors import WrongInput

ArtifactKind = Literal["checkpoint", "prompts", "rollouts", "report", "export", "part"]
MANIFEST = "manifest.json"
_SET_ASIDE = re.compile(r"\.old-\d+$")


class ArtifactError(WrongInput):
    """An artifact is missing, incomplete or differs from its manifest."""


class ArtifactDamaged(ArtifactError):
    """An artifact differs from its manifest; `problem` says where and how."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}; run its recipe again, which makes it anew")
        self.problem = problem


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What an artifact is, what made it and what it holds."""

    kind: ArtifactKind
    stage: str
    fingerprint: str
    inputs: Mapping[str, str] = field(default_factory=dict)  # role -> fingerprint of the input
    files: Mapping[str, str] = field(default_factory=dict)  # relative path -> SHA-256
    info: Mapping[str, Any] = field(default_factory=dict)  # what the stage wants to say
    surroundings: Mapping[str, Any] = field(default_factory=dict)  # packages, machine, changes
    seconds: float = 0.0
    created: str = ""


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A published artifact."""

    path: Path
    manifest: Manifest


def fingerprint(*parts: Any) -> str:
    """SHA-256 (hex) of the parts' canonical JSON."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def publish(
    source: Path,
    target: Path,
    *,
    kind: ArtifactKind,
    stage: str,
    fingerprint: str,
    inputs: Mapping[str, str] | None = None,
    info: Mapping[str, Any] | None = None,
    surroundings: Mapping[str, Any] | None = None,
    seconds: float = 0.0,
) -> Artifact:
    """Turn the folder `source` into the artifact `target` (same file system) in one rename.

    Raises ArtifactError when `target` exists already.
    """
    if target.exists():
        raise ArtifactError(f"{target} exists already; an artifact is never overwritten")
    files = {
        str(p.relative_to(source)): file_sha256(p)
        for p in sorted(source.rglob("*"))
        if p.is_file() and p.name != MANIFEST
    }
    manifest = Manifest(
        kind=kind,
        stage=stage,
        fingerprint=fingerprint,
        inputs=dict(inputs or {}),
        files=files,
        info=dict(info or {}),
        surroundings=dict(surroundings or {}),
        seconds=seconds,
        created=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    )
    write_atomic(source / MANIFEST, json.dumps(asdict(manifest), indent=1))
    place(source, target)
    return Artifact(path=target, manifest=manifest)


def place(source: Path, target: Path) -> None:
    """Give a finished folder its name (same file system), its files on disk before.

    So it is whole or absent at `target` also after a power cut.
    """
    for path in sorted(source.rglob("*")):
        sync(path)
    sync(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    os.rename(source, target)
    sync(target.parent)


def open_artifact(path: Path, *, verify: bool = True) -> Artifact:
    """Open a published artifact; with `verify`, check every file against its checksum.

    Raises ArtifactError naming the folder and the file that is missing or differs.
    """
    manifest_path = path / MANIFEST
    if not manifest_path.is_file():
        raise ArtifactDamaged(path, f"it is no artifact: it has no {MANIFEST}")
    try:
        manifest = Manifest(**json.loads(manifest_path.read_text()))
        _check_names(manifest)
    except (TypeError, ValueError) as error:
        raise ArtifactDamaged(path, f"{MANIFEST} is damaged") from error
    for name, problem in damages(path, manifest) if verify else ():
        raise ArtifactDamaged(path, f"{name} {problem}")
    return Artifact(path=path, manifest=manifest)


def damages(path: Path, manifest: Manifest) -> Iterator[tuple[str, str]]:
    """(file, what is wrong) of each file of a folder that is not as its manifest says."""
    for name, digest in manifest.files.items():
        if not (path / name).is_file():
            yield name, "is missing"
        elif file_sha256(path / name) != digest:
            yield name, "differs from its checksum"


def _check_names(manifest: Manifest) -> None:
    """Raises ValueError where a manifest names files that cannot be the folder's own."""
    for name, digest in dict(manifest.files).items():
        parts = PurePosixPath(name).parts
        if not isinstance(digest, str) or not parts or ".." in parts or parts[0] == "/":
            raise ValueError(f"{name!r} is no file of an artifact")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path to write to; at the block's end it becomes `path`, synced to disk.

    A reader sees the old content or the new, never a part, also after a power cut. Where the block
    raises, `path` stays as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text)


def set_aside(path: Path) -> Path | None:
    """Rename to NAME.old-1, -2, ...: its new path; None where nothing was there."""
    if not path.exists():
        return None
    number = 1
    while (target := path.with_name(f"{path.name}.old-{number}")).exists():
        number += 1
    os.rename(path, target)
    return target


def is_set_aside(path: Path) -> bool:
    """Whether a file or folder has a name that `set_aside` gives.

    >>> is_set_aside(Path("stages/reason.old-2")), is_set_aside(Path("stages/reason"))
    (True, False)
    """
    return _SET_ASIDE.search(path.name) is not None


def entries(folder: Path) -> list[Path]:
    """The folders in a folder, by name, but those that were set aside; none where it is missing."""
    return [path for path in sorted(folder.glob("*/")) if not is_set_aside(path)]


def published(folder: Path) -> list[Path]:
    """Those of `entries` that are artifacts: they have a manifest."""
    return [path for path in entries(folder) if (path / MANIFEST).is_file()]


def fresh_folder(path: Path) -> Path:
    """An empty folder at `path`; what was there is removed."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def sync(path: Path) -> None:
    """Force a file, or a folder's entries, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
