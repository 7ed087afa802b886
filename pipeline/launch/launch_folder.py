"""The folder of a launch: its files, which of them a person has edited, and the job's ticket."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from pipeline.artifacts import write_atomic
from pipeline.launch.job import LaunchError
from pipeline.launch.scheduler import Ticket

RECORD = "launch.json"
LAUNCHES = "launch"  # the folder of all of them, in the current one


@dataclass(frozen=True, kw_only=True)
class LaunchFolder:
    """A folder of files that one `launch` wrote."""

    path: Path

    def write(self, texts: Mapping[str, str], copies: Mapping[str, Path]) -> list[str]:
        """Write texts and copies; the names of texts that were edited since, and are kept."""
        record = self._record()
        written = dict(record.get("written", {}))
        edited = []
        for name, text in texts.items():
            place = self.path / name
            there = place.read_text(encoding="utf-8") if place.is_file() else None
            if there is not None and written.get(name) not in (None, _digest(there)):
                edited.append(name)
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(place, text)
            written[name] = _digest(text)
        for name, source in copies.items():
            place = self.path / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, place)
        self._save(record | {"written": written})
        return edited

    def remember(self, ticket: Ticket) -> None:
        """Keep a job's ticket, in place of the one before."""
        self._save(self._record() | {"ticket": ticket.document()})

    @property
    def ticket(self) -> Ticket | None:
        """Of the job that was last submitted from here."""
        ticket = self._record().get("ticket")
        if ticket is None:
            return None
        return Ticket(**{**ticket, "folder": Path(ticket["folder"])})

    def _record(self) -> dict[str, Any]:
        place = self.path / RECORD
        if not place.is_file():
            return {}
        try:
            return json.loads(place.read_text(encoding="utf-8"))
        except json.JSONDecodeError:
            raise LaunchError(f"{place} is no JSON; remove it, and the job is forgotten") from None

    def _save(self, record: Mapping[str, Any]) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path / RECORD, json.dumps(record, indent=1) + "\n")


def tickets(root: Path = Path(LAUNCHES)) -> list[Ticket]:
    """Of every launch below a folder, by the folders' names."""
    folders = [LaunchFolder(path=place.parent) for place in sorted(root.glob(f"*/{RECORD}"))]
    return [ticket for folder in folders if (ticket := folder.ticket) is not None]


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()
