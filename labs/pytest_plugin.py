"""Scenario files as pytest tests: `pytest --lab headscale --lab netbird scenarios/`.

Each *.scenario.yaml becomes one test for each lab, on a fresh lab of its own. Nothing is collected
without `--lab` (or the ini key `mesh_labs`), and nothing heavy is imported.
"""

from __future__ import annotations

import io
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from labs.engine import Engine
    from labs.results import ScenarioResult

_SUFFIX = ".scenario.yaml"
_ENGINE = pytest.StashKey["Engine"]()
_NOT_APPLICABLE = pytest.StashKey[list[str]]()


class ScenarioFailed(Exception):
    """A scenario that did not pass; carries its result."""

    def __init__(self, result: ScenarioResult) -> None:
        super().__init__(f"{result.scenario} on {result.topology}: {result.outcome}")
        self.result = result


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("mesh-labs")
    group.addoption("--lab", action="append", metavar="TOPOLOGY", help="run scenario files on this topology")
    group.addoption("--keep-lab", action="store_true", help="keep the lab of a scenario that fails")
    parser.addini("mesh_labs", type="args", help="topologies that scenario files run on, as --lab")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_NOT_APPLICABLE] = []
    config.addinivalue_line("markers", "scenario: a scenario file on a lab")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if reasons := config.stash[_NOT_APPLICABLE]:
        terminalreporter.section("not applicable")
        for reason in reasons:
            terminalreporter.line(reason)


def pytest_unconfigure(config: pytest.Config) -> None:
    engine = config.stash.get(_ENGINE, None)
    if engine is not None:
        engine.close()


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> ScenarioFile | None:
    if not file_path.name.endswith(_SUFFIX) or not _topologies(parent.config):
        return None
    return ScenarioFile.from_parent(parent, path=file_path)


def _topologies(config: pytest.Config) -> list[str]:
    return config.getoption("--lab") or list(config.getini("mesh_labs"))


class ScenarioFile(pytest.File):
    """One file, as one test for each topology."""

    def collect(self) -> Iterable[ScenarioItem]:
        from labs.lab.plan import product_of  # noqa: PLC0415 - only a run needs the rest of the toolkit
        from labs.scenario import read  # noqa: PLC0415

        scenario = read(self.path)
        for topology in _topologies(self.config):
            if why := scenario.not_applicable(product_of(topology)):
                self.config.stash[_NOT_APPLICABLE].append(f"{scenario.name} on {topology}: {why}")
                continue
            name = f"{self.path.name.removesuffix(_SUFFIX)}[{topology}]"
            yield ScenarioItem.from_parent(self, name=name, topology=topology)


class ScenarioItem(pytest.Item):
    """One scenario on one topology."""

    def __init__(self, *, topology: str, **others: Any) -> None:
        super().__init__(**others)
        self._topology = topology
        self.add_marker("scenario")

    def runtest(self) -> None:
        from labs.results import Outcome  # noqa: PLC0415 - only a run needs the rest of the toolkit

        result = self._run()
        self.user_properties += [("took_s", result.took_s), ("burden", str(result.burden))]
        if result.outcome is not Outcome.PASSED:
            raise ScenarioFailed(result)

    def _run(self) -> ScenarioResult:
        from labs.commands.bringup import start  # noqa: PLC0415
        from labs.commands.common import Output  # noqa: PLC0415
        from labs.lab import labels  # noqa: PLC0415
        from labs.lab.removal import remove  # noqa: PLC0415
        from labs.results import Outcome  # noqa: PLC0415
        from labs.scenario import read, run  # noqa: PLC0415

        engine = self._engine()
        scenario = read(self.path)
        name = f"{scenario.name[:14]}-{self._topology[:8]}-{secrets.token_hex(2)}"
        lines = io.StringIO()
        keep = False
        try:
            lab = start(engine, self._topology, name, scenario.inventory, Output(lines))
            result = run(scenario, lab, lambda _: None)
            keep = self.config.getoption("--keep-lab") and result.outcome is not Outcome.PASSED
        finally:
            self.add_report_section("call", "lab", lines.getvalue())
            if not keep:
                remove(engine, {labels.LAB: name})
        return result

    def _engine(self) -> Engine:
        from labs.commands.common import open_engine  # noqa: PLC0415

        if _ENGINE not in self.config.stash:
            self.config.stash[_ENGINE] = open_engine()
        return self.config.stash[_ENGINE]

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        from labs.errors import LabsError  # noqa: PLC0415
        from labs.report.terminal import outcome_lines  # noqa: PLC0415

        if isinstance(excinfo.value, ScenarioFailed):
            return "\n".join([str(excinfo.value), *outcome_lines(excinfo.value.result)])
        if isinstance(excinfo.value, LabsError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, self.name
