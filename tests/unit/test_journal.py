"""The journal: what is counted, what is kept, and that a later process goes on with it."""

from __future__ import annotations

import json
from pathlib import Path

from labs.journal import Journal, Kind, Scope, burden
from labs.timing import FakeClock


def test_entries_carry_the_time_since_the_start() -> None:
    clock = FakeClock()
    clock.wait(100)
    journal = Journal(clock.now)
    clock.wait(1.5)
    journal.record(Kind.API, Scope.ROUTE, "office", "POST /x")
    (entry,) = journal.entries
    assert (entry.at_s, entry.kind, entry.scope, entry.subject) == (1.5, "api", "route", "office")


def test_what_only_the_lab_needs_is_no_burden() -> None:
    journal = Journal(FakeClock().now)
    journal.record(Kind.API, Scope.LAB, "owner", "POST /setup")
    journal.record(Kind.API, Scope.LAB, "account", "PUT /settings", lab_only=True)
    journal.record(Kind.COMMAND, Scope.CONSUMER, "laptop", "accept")
    journal.record(Kind.COMMAND, Scope.CONSUMER, "tablet", "accept")
    assert burden(journal.entries) == {"lab": 1, "consumer": 2}


def test_the_file_is_for_its_owner_and_a_later_process_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    clock = FakeClock()
    first = Journal(clock.now, path)
    clock.wait(2)
    first.record(Kind.EDIT, Scope.LAB, "policy", "set")
    assert path.stat().st_mode & 0o777 == 0o600

    later = FakeClock()
    second = Journal(later.now, path)
    later.wait(3)
    second.record(Kind.RESTART, Scope.LAB, "headscale", "restart")
    assert [entry.at_s for entry in second.entries] == [2.0, 5.0]
    assert [json.loads(line)["kind"] for line in path.read_text().splitlines()] == ["edit", "restart"]
