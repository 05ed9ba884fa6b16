"""Being stopped, in a real process: cleanup runs, once and to its end."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

# A command that works until it is stopped, and whose cleanup ends when its stdin does.
PROGRAM = """
import sys, time
from invoke.collection import Collection
from invoke.tasks import task
from labs.commands.cli import Program

@task
def work(_):
    try:
        print("working", flush=True)
        time.sleep(60)
    finally:
        print("cleaning", flush=True)
        sys.stdin.read()
        print("clean", flush=True)

Program(Collection(work)).run(["inv", "work"])
"""


@contextmanager
def working() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert next_line(process) == "working"
        yield process


def next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_unwinds_and_exits_4(number: signal.Signals) -> None:
    with working() as process:
        process.send_signal(number)
        assert next_line(process) == "cleaning"
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out, err) == (4, "clean\n", "Interrupted\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_does_not_cut_cleanup_short(number: signal.Signals) -> None:
    with working() as process:
        process.send_signal(signal.SIGINT)
        assert next_line(process) == "cleaning"
        process.send_signal(number)
        assert process.stderr is not None
        assert process.stderr.readline() == "\n"
        assert process.stderr.readline().startswith("still removing what was made; one more Ctrl-C")
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out, err) == (4, "clean\n", "Interrupted\n")


def test_sigterm_never_cuts_cleanup_short() -> None:
    with working() as process:
        for _ in range(3):
            process.send_signal(signal.SIGTERM)
            if _ == 0:
                assert next_line(process) == "cleaning"
        assert process.communicate(timeout=20)[0] == "clean\n"


def test_a_third_ctrl_c_does_and_was_announced() -> None:
    with working() as process:
        process.send_signal(signal.SIGINT)
        assert next_line(process) == "cleaning"
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out) == (4, "")
        assert err.endswith("Interrupted\n")


def test_a_terminal_that_is_gone_does_not_break_cleanup() -> None:
    with working() as process:
        assert process.stderr is not None
        process.stderr.close()
        process.send_signal(signal.SIGHUP)
        assert next_line(process) == "cleaning"
        process.send_signal(signal.SIGHUP)
        assert process.stdin is not None
        process.stdin.close()
        assert next_line(process) == "clean"
        assert process.wait(timeout=20) == 4


def test_what_nohup_ignores_stays_ignored() -> None:
    # Inherited from here: code between fork and exec (preexec_fn) may hang where other threads run.
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with working() as process:
            process.send_signal(signal.SIGHUP)
            process.send_signal(signal.SIGINT)
            assert next_line(process) == "cleaning"
            assert process.communicate(timeout=20)[1] == "Interrupted\n"
    finally:
        signal.signal(signal.SIGHUP, before)
