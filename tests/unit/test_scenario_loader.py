"""Scenario files: the real one, and every mistake with its exact message."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from labs import resources
from labs.errors import FileProblem
from labs.model import Host, Inventory, Lan, Peer
from labs.scenario import SUFFIX, read
from labs.scenario.loader import read_text

GOLDEN = Path(__file__).parent / "golden" / "scenarios"


@pytest.mark.parametrize("file", sorted(GOLDEN.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_mistake_is_explained(file: Path) -> None:
    """The file and its message stand side by side; UPDATE_GOLDEN=1 writes the message."""
    with pytest.raises(FileProblem) as refused:
        read_text(file.read_text(), file.name)
    message = file.with_suffix(".txt")
    if os.environ.get("UPDATE_GOLDEN"):
        message.write_text(f"{refused.value}\n")
    assert f"{refused.value}\n" == message.read_text()


@pytest.mark.parametrize("file", sorted(resources.path("scenarios").glob(f"*{SUFFIX}")), ids=lambda file: file.stem)
def test_every_scenario_reads(file: Path) -> None:
    assert read(file).name == file.name.removesuffix(SUFFIX)


def test_the_first_scenario() -> None:
    scenario = read(resources.path("scenarios") / f"subnet-routes{SUFFIX}")
    assert scenario.inventory == Inventory(
        networks=(Lan("office"),),
        peers=(Peer("laptop", "alice"), Peer("router", "alice", ("office",))),
        hosts=(Host("printer", (("office", 10),), "http"),),
    )
    assert [step.verb for step in scenario.spec.steps] == [
        "expect",
        "publish-route",
        "expect",
        "withdraw-route",
        "expect",
    ]
    assert scenario.spec.steps[2].text == "expect: from laptop, to printer, reachable true, seen-as router, within 10s"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="no such file"):
        read(tmp_path / "x.scenario.yaml")
