"""Files that a download left as something else than what they are called."""

from pathlib import Path

_LFS = b"version https://git-lfs.github.com/spec/"
_PAGES = (b"<!doctype html", b"<html")
_HEAD = 512


def not_the_file(path: Path) -> str | None:
    """What stands in a file's place, and the fix: Git LFS's pointer to it, or a web page; None for
    any other content. Raises OSError."""
    with path.open("rb") as stream:
        return in_its_place(stream.read(_HEAD))


def in_its_place(head: bytes) -> str | None:
    """The same, of a file's first bytes."""
    if head.startswith(_LFS):
        return "is Git LFS's pointer to the file, not the file; run git lfs pull where it is"
    if head.lstrip().lower().startswith(_PAGES):
        return "is a web page, not the file; download the file itself"
    return None
