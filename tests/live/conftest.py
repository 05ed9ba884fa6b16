"""One engine for all live tests, the images they need, and labs that never outlive their test."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator

import pytest

from labs.commands.common import open_engine
from labs.engine import Engine
from labs.images import ensure
from labs.lab import labels
from labs.lab.plan import Plan, image_variables
from labs.lab.removal import remove
from labs.model import Inventory, Peer

Planned = Callable[..., Plan]


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    found = open_engine(start=False)
    yield found
    found.close()


@pytest.fixture(scope="session")
def toolbox(engine: Engine) -> str:
    return ensure(engine, ["TOOLBOX_IMAGE"], lambda _: None)["TOOLBOX_IMAGE"]


@pytest.fixture
def planned(engine: Engine) -> Iterator[Planned]:
    """Plans for labs with names of their own; whatever they become is removed after the test."""
    names: list[str] = []

    def plan(topology: str, peers: int = 1, inventory: Inventory | None = None) -> Plan:
        names.append(f"t-{topology}-{secrets.token_hex(3)}")
        who = inventory or Inventory(peers=tuple(Peer(f"peer-{n}", "alice") for n in range(1, peers + 1)))
        return Plan(names[-1], topology, who, ensure(engine, image_variables(topology, who), lambda _: None))

    yield plan
    for name in names:
        remove(engine, {labels.LAB: name})
