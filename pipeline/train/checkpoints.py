"""Checkpoints of a trainer: sealed when all is on disk, checked before they are gone on with.

checkpoint-20/            weights, optimizer, random states, reference
checkpoint-20/complete    the last file to be written: the size and SHA-256 of every other
checkpoint-20.old-1       one that was damaged, set aside for whoever wants to look

Loads no ML library: the driver checks all checksums before a training starts, a rank only that
every file is there in its length.
"""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from pipeline.artifacts import file_sha256, set_aside, sync, write_atomic
from pipeline.errors import RunFailed

COMPLETE_FILE = "complete"
KEPT_CHECKPOINTS = 2
PREFIX = "checkpoint-"
MIB = 2**20


def seal(checkpoint: Path) -> None:
    """Have a checkpoint on disk, then mark it complete, with what is in it."""
    files = {}
    for path in sorted(checkpoint.rglob("*")):
        if path.is_file() and path != checkpoint / COMPLETE_FILE:
            sync(path)
            name = path.relative_to(checkpoint).as_posix()
            files[name] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        elif path.is_dir():
            sync(path)
    write_atomic(checkpoint / COMPLETE_FILE, json.dumps({"files": files}, indent=1))


def is_complete(checkpoint: Path) -> bool:
    """Whether its mark is there: a save was not cut short."""
    return (checkpoint / COMPLETE_FILE).exists()


def damage(checkpoint: Path, *, checksums: bool) -> str | None:
    """What is wrong with a checkpoint that has its mark; None where all is as it was sealed.

    Without `checksums` files are looked at for their length alone.
    """
    try:
        files = json.loads((checkpoint / COMPLETE_FILE).read_text())["files"]
        sealed = {name: (row["bytes"], row["sha256"]) for name, row in files.items()}
    except (AttributeError, KeyError, OSError, TypeError, ValueError):
        return f"{COMPLETE_FILE} is damaged"
    for name, (size, digest) in sealed.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes, not {size}"
        if checksums and file_sha256(path) != digest:
            return f"{name} differs from its checksum"
    return None if sealed else f"{COMPLETE_FILE} names no file"


def latest_whole(
    folder: Path, *, checksums: bool, tell: Callable[[str], None] = print
) -> Path | None:
    """The newest whole checkpoint in `folder`. Those whose save was cut short are removed; damaged
    ones are set aside, each told in a sentence.

    One process may call this, before any rank starts to train.
    """
    newest = None
    for checkpoint in reversed(in_order(folder)):
        if not is_complete(checkpoint):
            remove(checkpoint)
        elif newest is None:
            if (problem := damage(checkpoint, checksums=checksums)) is None:
                newest = checkpoint
                continue
            aside = set_aside(checkpoint)
            tell(
                f"{checkpoint} is damaged ({problem}) and set aside as {aside}: training goes on "
                "from before it, to the same end"
            )
    return newest


def check_room(folder: Path, *, least_bytes: int) -> None:
    """Raise RunFailed where the next checkpoint would not fit: as large as the newest, and
    `least_bytes` where there is none yet."""
    newest = in_order(folder)[-1:]
    needed = max([least_bytes, *map(_bytes_of, newest)])
    free = shutil.disk_usage(folder if folder.exists() else folder.parent).free
    if free < needed:
        raise RunFailed(
            f"{folder}: {os.strerror(errno.ENOSPC)}: a checkpoint takes {_shown(needed)}, and "
            f"{_shown(free)} are free; it was not begun"
        )


def _bytes_of(checkpoint: Path) -> int:
    return sum(path.stat().st_size for path in checkpoint.rglob("*") if path.is_file())


def _shown(size: int) -> str:
    return f"{size / MIB:,.1f} MiB"


def keep_newest(folder: Path) -> None:
    """Drop all but the newest checkpoints."""
    for old in in_order(folder)[:-KEPT_CHECKPOINTS]:
        remove(old)


def in_order(folder: Path) -> list[Path]:
    """Checkpoint folders by ascending step."""
    paths = [p for p in folder.glob(f"{PREFIX}*") if p.name.removeprefix(PREFIX).isdigit()]
    return sorted(paths, key=updates_of)


def updates_of(checkpoint: Path) -> int:
    """How many moves of the optimizer a checkpoint has behind it."""
    return int(checkpoint.name.removeprefix(PREFIX))


def remove(checkpoint: Path) -> None:
    """Remove a checkpoint; its marker goes first, so that half a one never looks complete."""
    if checkpoint.is_symlink() or not checkpoint.is_dir():  # a name that leads nowhere
        checkpoint.unlink()
        return
    (checkpoint / COMPLETE_FILE).unlink(missing_ok=True)
    shutil.rmtree(checkpoint)
