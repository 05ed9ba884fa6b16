"""The fake engine keeps the rules that the compliance tests ask of every engine."""

from __future__ import annotations

import socket

import pytest

from labs.engine.fake import FakeEngine
from labs.model import Container
from tests.engine_compliance import EngineCompliance


def shell(_: Container, argv: tuple[str, ...], stream: socket.socket) -> None:
    if argv[0] == "echo":
        stream.sendall(" ".join(argv[1:]).encode() + b"\n")
    while argv == ("cat",) and (data := stream.recv(1000)):
        stream.sendall(data)


class TestFakeEngine(EngineCompliance):
    @pytest.fixture
    def engine(self) -> FakeEngine:
        return FakeEngine(on_pipe=shell)

    @pytest.fixture
    def image(self, engine: FakeEngine) -> str:
        engine.add_image("fake/toolbox:1")
        return "fake/toolbox:1"

    def test_planted_errors_are_raised_once(self, engine: FakeEngine) -> None:
        engine.fail_on["networks"] = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            engine.networks()
        assert engine.networks() == ()
