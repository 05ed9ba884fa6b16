"""Scenario files as pytest tests, and labs as fixtures: `pytest --lab headscale --lab netbird scenarios/`.

Each *.scenario.yaml becomes one test for each lab, on a fresh lab of its own; a scenario that does not
apply to a product is no test, and the summary says why. Nothing is collected without `--lab` (or the
ini key `mesh_labs`), and nothing heavy is imported.

Tests in Python take `headscale_lab`, `netbird_lab`, or `lab`, which is both in turn (docs/scenarios.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from labs.engine import Engine
    from labs.results import ScenarioResult
    from labs.scenario import Trial
    from labs.scripted import ScriptedLab

_SUFFIX = ".scenario.yaml"
_ENGINE = pytest.StashKey["Engine"]()
_TRIAL = pytest.StashKey["Trial"]()
_NOT_APPLICABLE = pytest.StashKey[list[str]]()
_WORKER_KEY = "mesh_labs_not_applicable"
_UNTRIED = "untried"  # the property of a scenario that the machine did not let run to its end


class ScenarioFailed(Exception):
    """A scenario that did not pass; carries its result."""

    def __init__(self, result: ScenarioResult) -> None:
        super().__init__(f"{result.scenario} on {result.topology}: {result.outcome}")
        self.result = result


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("mesh-labs")
    group.addoption("--lab", action="append", metavar="TOPOLOGY", help="run scenario files on this topology")
    group.addoption("--lab-engine", metavar="NAME", help="an endpoint, a Docker context's name, or private")
    group.addoption("--repeat", type=int, default=1, metavar="N", help="run each scenario N times, each on a fresh lab")
    group.addoption("--keep-on-failure", action="store_true", help="keep the lab of a scenario that fails")
    group.addoption("--artefacts", metavar="DIR", help="keep logs, statuses and routes of failed scenarios there")
    group.addoption("--scenario-results", metavar="DIR", help="store each scenario's result there, as JSON")
    parser.addini("mesh_labs", type="args", help="topologies that scenario files run on, as --lab")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "scenario: a scenario file on a lab")
    config.stash[_NOT_APPLICABLE] = []
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Untried())
    if config.pluginmanager.hasplugin("dsession"):
        config.pluginmanager.register(_FromWorkers(config))


class _FromWorkers:
    """With pytest-xdist the workers collect: each of them tells what did not apply."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_testnodedown(self, node: Any) -> None:
        known = self._config.stash[_NOT_APPLICABLE]
        known += [reason for reason in node.workeroutput.get(_WORKER_KEY, ()) if reason not in known]


class _Untried:
    """A run whose every failure is the machine's says nothing about a product, and ends as pytest's own errors do."""

    def __init__(self) -> None:
        self._machine = self._others = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        machine = any(key == _UNTRIED for key, _ in report.user_properties)
        self._machine += report.failed and machine
        self._others += report.failed and not machine

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if session.exitstatus == pytest.ExitCode.TESTS_FAILED and self._machine and not self._others:
            session.exitstatus = pytest.ExitCode.INTERNAL_ERROR


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[_WORKER_KEY] = session.config.stash[_NOT_APPLICABLE]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if reasons := config.stash[_NOT_APPLICABLE]:
        terminalreporter.section("not applicable")
        for reason in sorted(reasons):
            terminalreporter.line(reason)


def pytest_unconfigure(config: pytest.Config) -> None:
    trial, engine = config.stash.get(_TRIAL, None), config.stash.get(_ENGINE, None)
    if trial is not None:
        trial.close()
    if engine is not None:
        engine.close()


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> ScenarioFile | None:
    if not file_path.name.endswith(_SUFFIX) or not _topologies(parent.config):
        return None
    return ScenarioFile.from_parent(parent, path=file_path)


def _topologies(config: pytest.Config) -> list[str]:
    return config.getoption("--lab") or list(config.getini("mesh_labs"))


class ScenarioFile(pytest.File):
    """One file, as one test for each topology and repetition."""

    def collect(self) -> Iterable[ScenarioItem]:
        from labs.lab.plan import product_of  # noqa: PLC0415 - only a run needs the rest of the toolkit
        from labs.scenario import read, topology_for  # noqa: PLC0415

        scenario = read(self.path)
        repeat = self.config.getoption("--repeat")
        for asked in _topologies(self.config):
            product = product_of(asked)
            topology = topology_for(scenario, asked, product)
            if why := scenario.not_applicable(topology):
                self.config.stash[_NOT_APPLICABLE].append(f"{scenario.name} on {asked}: {why}")
                continue
            for number in range(1, repeat + 1):
                again = f"-{number}" if repeat > 1 else ""
                yield ScenarioItem.from_parent(self, name=f"{scenario.name}[{topology}{again}]", topology=topology)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> Any:  # type: ignore[override]
        """A file that is not understood is the reader's to mend: its own words, without a traceback."""
        from labs.errors import LabsError  # noqa: PLC0415

        return str(excinfo.value) if isinstance(excinfo.value, LabsError) else super().repr_failure(excinfo)


class ScenarioItem(pytest.Item):
    """One scenario on one topology."""

    def __init__(self, *, topology: str, **others: Any) -> None:
        super().__init__(**others)
        self._topology = topology
        self.add_marker("scenario")

    def runtest(self) -> None:
        from labs.errors import EnvironmentProblem  # noqa: PLC0415 - only a run needs the rest of the toolkit
        from labs.results import Outcome  # noqa: PLC0415

        try:
            result = self._run()
        except EnvironmentProblem as problem:
            self.user_properties.append((_UNTRIED, problem.what))
            raise
        self.user_properties += [("took_s", result.took_s), ("burden", str(result.burden))]
        if result.outcome is not Outcome.PASSED:
            raise ScenarioFailed(result)

    def _run(self) -> ScenarioResult:
        from labs.results import save  # noqa: PLC0415
        from labs.scenario import read  # noqa: PLC0415

        results = self.config.getoption("--scenario-results")
        said: list[str] = []
        trial = _trial(self.config)
        trial.say = said.append
        try:
            result = trial.run(read(self.path), self._topology)
        finally:
            self.add_report_section("call", "lab", "\n".join(said))
        if results:
            save(result, Path(results) / f"{self.name}.json")
        return result

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


def _engine(config: pytest.Config) -> Engine:
    from labs.commands.common import open_engine  # noqa: PLC0415 - only a run needs an engine

    if _ENGINE not in config.stash:
        config.stash[_ENGINE] = open_engine(named=config.getoption("--lab-engine"))
    return config.stash[_ENGINE]


def _trial(config: pytest.Config) -> Trial:
    from labs.scenario import Trial  # noqa: PLC0415

    if _TRIAL not in config.stash:
        folder = config.getoption("--artefacts")
        kept = Path(folder) if folder else None
        config.stash[_TRIAL] = Trial(
            _engine(config), artefacts=kept, keep_on_failure=config.getoption("--keep-on-failure")
        )
    return config.stash[_TRIAL]


def _scripted(request: pytest.FixtureRequest, topology: str) -> Iterator[ScriptedLab]:
    from labs.scripted import ScriptedLab  # noqa: PLC0415

    with ScriptedLab(topology, engine=_engine(request.config)) as lab:
        yield lab


@pytest.fixture
def headscale_lab(request: pytest.FixtureRequest) -> Iterator[ScriptedLab]:
    """A Headscale lab that starts with the first thing asked of it."""
    yield from _scripted(request, "headscale")


@pytest.fixture
def netbird_lab(request: pytest.FixtureRequest) -> Iterator[ScriptedLab]:
    """A NetBird lab that starts with the first thing asked of it."""
    yield from _scripted(request, "netbird")


@pytest.fixture(params=["headscale", "netbird"])
def lab(request: pytest.FixtureRequest) -> Iterator[ScriptedLab]:
    """Both in turn."""
    yield from _scripted(request, request.param)
