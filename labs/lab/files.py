"""A lab's own files on this machine: credentials, secrets and journal, readable by their owner only."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_LAB = "lab.json"
_CREDENTIALS = "credentials.json"
_JOURNAL = "journal.jsonl"


def state_folder(environment: Mapping[str, str]) -> Path:
    """Where labs keep their files: MESH_LABS_STATE, else mesh-labs in the user's XDG state folder."""
    if chosen := environment.get("MESH_LABS_STATE"):
        return Path(chosen)
    base = environment.get("XDG_STATE_HOME") or Path(environment.get("HOME", "/")) / ".local" / "state"
    return Path(base) / "mesh-labs"


@contextmanager
def name_taken(name: str, environment: Mapping[str, str] | None = None) -> Iterator[None]:
    """One `up` of a name at a time on this machine; a second one waits, and then finds the first one's lab."""
    folder = state_folder(os.environ if environment is None else environment) / "names"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{name}.lock"
    while True:
        with path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Whoever had it before has removed the file; then this lock is on nothing, and another has the name.
            if not (path.exists() and os.path.samestat(path.stat(), os.fstat(lock.fileno()))):
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


@dataclass(frozen=True, slots=True)
class Record:
    """Whose files a run's are: the lab's name, and the endpoint of the engine where it was started."""

    run_id: str
    name: str
    engine: str


def records(environment: Mapping[str, str] | None = None) -> tuple[Record, ...]:
    """Every run that has files on this machine, by name; without those that do not say whose they are."""
    folder = state_folder(os.environ if environment is None else environment) / "labs"
    found = [Record(file.parent.name, **json.loads(file.read_text())) for file in folder.glob(f"*/{_LAB}")]
    return tuple(sorted(found, key=lambda record: (record.name, record.run_id)))


@dataclass(frozen=True, slots=True)
class LabFiles:
    """The folder of one run."""

    folder: Path

    @classmethod
    def of(cls, run_id: str, environment: Mapping[str, str] | None = None) -> LabFiles:
        """The folder of a run. The id may come from anybody's label, so it must not lead elsewhere: ValueError."""
        if not run_id.isalnum():
            raise ValueError(f"{run_id!r} is no run id")
        return cls(state_folder(os.environ if environment is None else environment) / "labs" / run_id)

    def create(self, name: str, engine: str) -> None:
        """Make the folder of lab `name` on the engine at this endpoint."""
        self.folder.mkdir(mode=0o700, parents=True)
        self._write(_LAB, {"name": name, "engine": engine})

    @property
    def journal(self) -> Path | None:
        """The journal's file; None when this machine has no files of that lab."""
        return self.folder / _JOURNAL if self.folder.is_dir() else None

    def write_credentials(self, credentials: Mapping[str, str]) -> None:
        """Keep administrator credentials."""
        self._write(_CREDENTIALS, credentials)

    def _write(self, name: str, values: Mapping[str, str]) -> None:
        """Written beside and renamed, so never half there."""
        beside = self.folder / f"{name}.new"
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(dict(values), file)
        beside.rename(self.folder / name)

    def credentials(self) -> Mapping[str, str] | None:
        """What write_credentials kept, or None when this machine has none."""
        path = self.folder / _CREDENTIALS
        if not path.is_file():
            return None
        found: dict[str, str] = json.loads(path.read_text())
        return found

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
