"""In CI a skipped test fails the run, unless tests/allowed_skips.txt lists it with a reason.

A skip that nobody has to justify is how a check stops checking without anybody noticing.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ALLOWED_SKIPS = Path(__file__).with_name("allowed_skips.txt")


class SkipGuard:
    """Collects skipped (and expectedly failed) tests and modules, and fails the run for those not `allowed`.

    It is registered as a plugin rather than being hooks of this file, because those would not see
    tests collected from other folders (scenarios/).
    """

    def __init__(self, allowed: dict[str, str]) -> None:
        self._allowed = allowed
        self._refused: dict[str, str] = {}

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def _note(self, report: pytest.CollectReport | pytest.TestReport) -> None:
        if report.skipped and report.nodeid not in self._allowed:
            self._refused[report.nodeid] = _reason(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        quiet = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
        if self._refused and session.exitstatus in quiet:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._refused:
            terminalreporter.section("skips that CI does not allow", red=True)
            for nodeid, reason in self._refused.items():
                terminalreporter.line(f"{nodeid}: {reason}")
            terminalreporter.line(f"Failed: list them in {ALLOWED_SKIPS.name} with a reason, or make them run.")


def _reason(report: pytest.CollectReport | pytest.TestReport) -> str:
    if expected := getattr(report, "wasxfail", ""):
        return f"expected to fail: {expected}"
    return str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else "no reason"


def allowed_skips(text: str) -> dict[str, str]:
    """Lines `NODEID  # reason` as a mapping. Raises UsageError for a line without a reason."""
    allowed = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        nodeid, separator, reason = line.partition("  # ")
        if not separator or not reason.strip():
            raise pytest.UsageError(f"{ALLOWED_SKIPS}: no reason given (NODEID, two spaces, # reason): {line}")
        allowed[nodeid.strip()] = reason.strip()
    return allowed


def pytest_configure(config: pytest.Config) -> None:
    # xdist's workers send their reports to the one controller, which judges them.
    if os.environ.get("CI", "").lower() in ("1", "true") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(SkipGuard(allowed_skips(ALLOWED_SKIPS.read_text())), "labs-skip-guard")


@pytest.fixture(autouse=True, scope="session")
def _heeded_signals() -> Iterator[None]:
    """Tests that stop real processes must not depend on how they were started: nohup and `&` ignore signals."""
    heeding = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.getsignal(number) for number in heeding}
    for number, handler in heeding.items():
        if before[number] is signal.SIG_IGN:
            signal.signal(number, handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder of its own for sockets: pytest's are too deep for their names, below a worker of pytest-xdist."""
    with tempfile.TemporaryDirectory(prefix="ml-") as folder:
        yield Path(folder).resolve()
