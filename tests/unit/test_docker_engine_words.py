"""What engines say in words of their own, in the toolkit's: states, refusals, and what Podman must be told."""

from __future__ import annotations

import pytest

from labs.engine import State
from labs.engine.docker_engine import _DOCKERS_SYSCTLS, _create_body, _state
from labs.engine.translation import problem
from labs.errors import AddressInUse, EngineProblem, NoSpace, NotFound
from labs.model import Container


@pytest.mark.parametrize(
    ("word", "state"),
    [("running", State.RUNNING), ("stopped", State.EXITED), ("configured", State.CREATED), ("exited", State.EXITED)],
)
def test_states(word: str, state: State) -> None:
    assert _state(word) is state


@pytest.mark.parametrize(
    ("words", "status", "kind"),
    [
        ("Pool overlaps with other one on this address space", 403, AddressInUse),
        ("subnet 10.1.2.0/24 is already used on the host or by another config", 500, AddressInUse),
        ("write /x: no space left on device", 500, NoSpace),
        ("no such container", 404, NotFound),
        ("anything else", 500, EngineProblem),
    ],
)
def test_refusals(words: str, status: int, kind: type[EngineProblem]) -> None:
    assert type(problem(words, "there", status)) is kind


def test_what_docker_sets_by_itself_gives_way_to_what_a_container_says() -> None:
    container = Container("x", "image", sysctls={"net.ipv6.conf.all.disable_ipv6": "0", "net.ipv4.ip_forward": "1"})
    assert _create_body(container, {}, {}, _DOCKERS_SYSCTLS)["HostConfig"]["Sysctls"] == {
        "net.ipv4.ip_unprivileged_port_start": "0",
        "net.ipv6.conf.all.disable_ipv6": "0",
        "net.ipv4.ip_forward": "1",
    }
