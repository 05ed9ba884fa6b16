"""Waiting: until it holds, until it is too late, until somebody stops it."""

from __future__ import annotations

import threading

import pytest

from labs.errors import Interrupted, NotReady
from labs.timing import FakeClock, SystemClock, until


def test_it_returns_what_was_read() -> None:
    clock = FakeClock()
    assert until(clock, clock.now, lambda now: now >= 1, what="One", timeout_s=5, poll_s=0.25) == 1.0


def test_it_reads_once_more_than_it_waits() -> None:
    """A condition that holds already costs no wait."""
    clock = FakeClock()
    until(clock, lambda: True, bool, what="It", timeout_s=5)
    assert clock.time == 0.0


def test_too_late_says_what_was_last_seen() -> None:
    clock = FakeClock()
    with pytest.raises(NotReady, match="The peer did not come about within 2 s") as refused:
        until(clock, lambda: 7, lambda _: False, what="The peer", timeout_s=2, where="laptop", hint="inv logs laptop")
    assert (refused.value.where, refused.value.why, refused.value.hint) == ("laptop", "last seen: 7", "inv logs laptop")


def test_a_stopped_clock_ends_waits_under_way_and_to_come() -> None:
    clock = SystemClock()
    ended = threading.Event()

    def wait() -> None:
        with pytest.raises(Interrupted):
            clock.wait(60)
        ended.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    clock.stop()
    waiter.join(5)
    assert ended.is_set()
    with pytest.raises(Interrupted):
        clock.wait(0)
