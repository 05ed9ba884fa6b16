"""What an operator had to do, recorded as it is done.

One entry for each API call that changes something, command on a peer, configuration edit, or
restart. Reading is free and is not recorded. What only the lab needs is `lab_only` and is left out
of every count of burden.
"""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path


class Kind(StrEnum):
    """How the operator acted."""

    API = "api"
    COMMAND = "command"
    EDIT = "edit"
    RESTART = "restart"


class Scope(StrEnum):
    """What the action has to be repeated for: once a lab, or for each user, peer, route, consumer of a route,
    name, or rule of the policy."""

    LAB = "lab"
    USER = "user"
    PEER = "peer"
    ROUTE = "route"
    CONSUMER = "consumer"
    NAME = "name"
    POLICY = "policy"


@dataclass(frozen=True, slots=True)
class Entry:
    """One action: `at_s` seconds after the journal was opened, on `subject`, as `action` would be typed or called."""

    at_s: float
    kind: Kind
    scope: Scope
    subject: str
    action: str
    lab_only: bool = False


class Journal:
    """An append-only list of entries, kept in a file too when `path` is given (JSON lines, mode 0600)."""

    def __init__(self, now: Callable[[], float], path: Path | None = None) -> None:
        self._now = now
        self._start = now()
        self._path = path
        self._lock = threading.Lock()
        self._entries: list[Entry] = list(_read(path)) if path else []
        # A later process goes on where the last entry stood, so that times never run backwards.
        self._offset = self._entries[-1].at_s if self._entries else 0.0

    def record(self, kind: Kind, scope: Scope, subject: str, action: str, *, lab_only: bool = False) -> None:
        with self._lock:
            at_s = round(self._offset + self._now() - self._start, 3)
            entry = Entry(at_s, kind, scope, subject, action, lab_only)
            self._entries.append(entry)
            if self._path:
                _append(self._path, entry)

    @property
    def entries(self) -> tuple[Entry, ...]:
        with self._lock:
            return tuple(self._entries)


def burden(entries: Iterable[Entry]) -> dict[str, int]:
    """How many actions of each scope the operator had to take, the lab's own left out."""
    counts = Counter(str(entry.scope) for entry in entries if not entry.lab_only)
    return {scope: counts[scope] for scope in Scope if counts[scope]}


def _append(path: Path, entry: Entry) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "a") as file:
        file.write(json.dumps(asdict(entry)) + "\n")


def _read(path: Path) -> Iterable[Entry]:
    if not path.exists():
        return
    for line in path.read_text().splitlines():
        entry = json.loads(line)
        yield Entry(**{**entry, "kind": Kind(entry["kind"]), "scope": Scope(entry["scope"])})
