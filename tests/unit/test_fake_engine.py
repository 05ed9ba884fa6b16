"""The fake engine keeps the rules that the compliance tests ask of every engine."""

from __future__ import annotations

import pytest

from labs.engine.fake import FakeEngine
from tests.engine_compliance import EngineCompliance


class TestFakeEngine(EngineCompliance):
    @pytest.fixture
    def engine(self) -> FakeEngine:
        return FakeEngine()

    @pytest.fixture
    def image(self, engine: FakeEngine) -> str:
        engine.add_image("fake/toolbox:1")
        return "fake/toolbox:1"

    def test_planted_errors_are_raised_once(self, engine: FakeEngine) -> None:
        engine.fail_on["networks"] = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            engine.networks()
        assert engine.networks() == ()
