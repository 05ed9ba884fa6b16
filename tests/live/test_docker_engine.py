"""The Docker engine keeps the same rules, and does what only a real engine can."""

from __future__ import annotations

import pytest

from labs.engine import Engine
from labs.engine.docker_engine import DockerEngine
from labs.errors import EngineUnavailable
from labs.model import File
from tests.engine_compliance import EngineCompliance

pytestmark = pytest.mark.live


class TestDockerEngine(EngineCompliance):
    @pytest.fixture
    def image(self, toolbox: str) -> str:
        return toolbox

    @pytest.fixture
    def running(self, engine: Engine, image: str, labels: dict[str, str], network: str) -> str:
        made = self.make(engine, self.spec(image, labels), network)
        engine.start(made)
        return made

    def test_exec_keeps_stdout_stderr_and_the_exit_code_apart(self, engine: Engine, running: str) -> None:
        result = engine.exec(running, ["sh", "-c", "echo out; echo err >&2; exit 3"])
        assert (result.exit_code, result.stdout, result.stderr) == (3, "out\n", "err\n")

    def test_exec_hands_over_standard_input(self, engine: Engine, running: str) -> None:
        assert engine.exec(running, ["cat"], b"one\ntwo").stdout == "one\ntwo"

    def test_a_crash_is_told_apart_by_its_code(self, engine: Engine, running: str) -> None:
        assert engine.exec(running, ["sh", "-c", "kill -SEGV $$"]).exit_code == 139

    def test_files_keep_their_mode_and_leave_folders_alone(self, engine: Engine, running: str) -> None:
        before = engine.exec(running, ["stat", "-c", "%a", "/tmp"]).stdout  # noqa: S108 - inside the container
        engine.copy_in(running, [File("/tmp/a/secret", b"x", 0o600)])  # noqa: S108
        assert engine.exec(running, ["stat", "-c", "%a", "/tmp/a/secret"]).stdout == "600\n"  # noqa: S108
        assert engine.exec(running, ["stat", "-c", "%a", "/tmp"]).stdout == before  # noqa: S108

    def test_logs(self, engine: Engine, image: str, labels: dict[str, str], network: str) -> None:
        spec = self.spec(image, labels)
        chatty = type(spec)("chatty", image, command=("sh", "-c", "echo one; echo two"), labels=labels)
        made = self.make(engine, chatty, network)
        engine.start(made)
        assert list(engine.follow_logs(made)) == ["one", "two"]
        assert engine.logs(made, tail=1) == "two\n"

    def test_no_engine_at_the_endpoint(self) -> None:
        with pytest.raises(EngineUnavailable, match="does not answer"):
            DockerEngine("unix:///nonexistent/docker.sock")
