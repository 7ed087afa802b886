"""One run in a folder at a time, on this machine and on others that share the folder.

.lock         locked by the kernel while its owner lives: flock(2), which many shares pass on
.owner.json   who that is; its time of change is moved on every few seconds

On one machine the kernel's lock decides: it ends with its owner, however that ends. Of an owner on
another machine its beat decides, since a share may not pass locks on, or may hold that of a machine
that is gone: one that is silent for `SILENT_S` is dead. Both times are the file server's, so that
clocks that differ do no harm.
"""

import errno
import fcntl
import json
import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from io import TextIOWrapper
from pathlib import Path

import psutil

from pipeline.artifacts import write_atomic
from pipeline.errors import WrongInput

LOCK_FILE, OWNER_FILE = ".lock", ".owner.json"
BEAT_S = 10.0
SILENT_S = 120.0
BOOT_FILE = Path("/proc/sys/kernel/random/boot_id")
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)  # of file systems without flock


class FolderTaken(WrongInput):
    """Another run is in the folder; the message says which."""


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Who runs in a folder."""

    host: str
    boot: str  # of the machine's kernel, a new one each time it starts
    pid: int
    started: float  # of the process, seconds since 1970
    token: str  # of this launch alone

    @classmethod
    def here(cls) -> "Owner":
        """This process."""
        return cls(
            host=socket.gethostname(),
            boot=_boot(),
            pid=os.getpid(),
            started=psutil.Process().create_time(),
            token=uuid.uuid4().hex,
        )

    @property
    def is_alive_here(self) -> bool:
        """Whether its process is one of this machine, and not a later one of the same number."""
        with suppress(psutil.Error):
            process = psutil.Process(self.pid)
            return process.is_running() and abs(process.create_time() - self.started) < 1
        return False


@contextmanager
def run_lock(
    folder: Path, *, lost: Callable[[str], None], beat_s: float = BEAT_S, silent_s: float = SILENT_S
) -> Iterator[None]:
    """Hold a folder. `lost` is called, from a thread, once another has taken it.

    Raises FolderTaken where another run holds it, OSError where the folder cannot be written.
    """
    owner = Owner.here()
    with _locked(folder, owner, silent_s=silent_s):
        write_atomic(folder / OWNER_FILE, json.dumps(asdict(owner)))
        ended = threading.Event()
        beat = threading.Thread(
            target=_beat, args=(folder, owner, ended, lost, beat_s), daemon=True
        )
        beat.start()
        try:
            yield
        finally:
            ended.set()
            beat.join()
            if (holder := read_owner(folder)) is not None and holder.token == owner.token:
                (folder / OWNER_FILE).unlink(missing_ok=True)


def read_owner(folder: Path) -> Owner | None:
    """Who holds a folder, or held it when its process was killed."""
    try:
        return Owner(**json.loads((folder / OWNER_FILE).read_text()))
    except (OSError, TypeError, ValueError):
        return None


def is_held(folder: Path) -> bool:
    """Whether a run is in a folder now, by its owner's record; takes no lock."""
    owner = read_owner(folder)
    if owner is None:
        return False
    return owner.is_alive_here if owner.boot == _boot() else _silence_s(folder) < SILENT_S


@contextmanager
def _locked(folder: Path, owner: Owner, *, silent_s: float) -> Iterator[None]:
    for _ in range(3):  # a lock that is taken over has a new file
        lock = (folder / LOCK_FILE).open("a+")
        with lock:
            locks = _flock(lock)
            holder = read_owner(folder)
            _check_holder(folder, holder, owner, locks, silent_s=silent_s)
            if locks is False:
                (folder / LOCK_FILE).unlink(missing_ok=True)
                continue
            if not _is_file(lock, folder / LOCK_FILE):
                continue  # another took the folder over meanwhile
            yield
            return
    raise FolderTaken("another stepwell takes this folder at the same time")


def _check_holder(
    folder: Path, holder: Owner | None, owner: Owner, locks: bool | None, *, silent_s: float
) -> None:
    """Raise FolderTaken unless the holder is gone. `locks`: whether the kernel gave us its lock;
    None where it has none."""
    if holder is None or holder.boot == owner.boot:
        listed = holder is not None and holder.is_alive_here
        if not locks if locks is not None else listed:
            where = "" if holder is None else f" (process {holder.pid} on {holder.host})"
            raise FolderTaken(f"another stepwell runs here{where}")
        return
    if (silent := _silence_s(folder)) < silent_s:
        raise FolderTaken(
            f"another stepwell runs here (process {holder.pid} on {holder.host}, heard of "
            f"{silent:.0f} s ago); if that machine is gone, this command works in "
            f"{silent_s - silent:.0f} s"
        )


def _flock(lock: TextIOWrapper) -> bool | None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return None
    return True


def _silence_s(folder: Path) -> float:
    """Seconds since the owner's last beat, by the clock of whoever keeps the files."""
    probe = folder / f".probe.{os.getpid()}"
    try:
        probe.touch()
        return probe.stat().st_mtime - (folder / OWNER_FILE).stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _beat(
    folder: Path,
    owner: Owner,
    ended: threading.Event,
    lost: Callable[[str], None],
    beat_s: float,
) -> None:
    while not ended.wait(beat_s):
        holder = read_owner(folder)
        if holder is not None and holder.token != owner.token:
            lost(
                f"process {holder.pid} on {holder.host} took {folder} over, since this one was "
                "silent for minutes: it ends here, and writes nothing more"
            )
            return
        with suppress(OSError):  # a share that is away for a moment, a full disk
            os.utime(folder / OWNER_FILE)


def _is_file(lock: TextIOWrapper, path: Path) -> bool:
    """Whether an open file is the one at a path."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(lock.fileno()), path.stat())
    return False


def _boot() -> str:
    return BOOT_FILE.read_text().strip() if BOOT_FILE.exists() else socket.gethostname()
