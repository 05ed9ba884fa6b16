"""scenarios/schema.json is what the models say."""

from __future__ import annotations

import json
import os

from labs import resources
from labs.scenario.schema import json_schema


def test_the_committed_schema_is_current() -> None:
    """After a change of the models: UPDATE_GOLDEN=1 ./inv test --unit"""
    file = resources.path("scenarios") / "schema.json"
    text = json.dumps(json_schema(), indent=2) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text)
    assert file.read_text() == text
