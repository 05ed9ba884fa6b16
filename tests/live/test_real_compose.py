"""The compose files under the real Compose: they start, serve, let peers join as docs/topologies.md has it, and go.

Needs the `docker` command, curl and jq; and, once, Go and the modules of tests/modules/compose.
"""

from __future__ import annotations

import os
import random
import re
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from labs import resources
from labs.compose import access, needs, read
from labs.controlplanes.reach import Direct
from labs.controlplanes.ready import serves
from labs.engine import ContainerInfo, Engine
from labs.images import ensure
from labs.lab.addresses import allocate, host_routes
from labs.lab.plan import image_variables
from labs.model import Inventory, Peer, Product, Topology
from labs.timing import PEERS_LISTED_S, SERVICE_READY_S, SystemClock, until
from tests.real_compose import binary

pytestmark = pytest.mark.live

DOCUMENT = Path(__file__).parents[2] / "docs" / "topologies.md"
_BLOCK = re.compile(r"<!-- (?P<name>[^>]+) -->\n```sh\n(?P<commands>.*?)```", re.DOTALL)
TOPOLOGIES = sorted(file.parent.name for file in resources.path("compose").glob("*/compose.yaml"))
# There, people have to sign in at the provider before anybody can administer anything.
NO_HANDS = {"netbird-external-idp"}
_PROJECT = "com.docker.compose.project"
_SERVICE = "com.docker.compose.service"
_START_S = 420.0  # `up --wait`; observed 10 s, with Keycloak 180 s on a busy machine
_COMMANDS_S = 120.0  # two peers join by hand; observed 5 s
_PROXY_ONLY = {"trust", "netbird: behind a proxy"}
_STEPS = {
    Product.HEADSCALE: ("headscale: peers", "trust", "headscale: join"),
    Product.NETBIRD: ("netbird: behind a proxy", "netbird: peers", "trust", "netbird: join"),
}
# Whatever is on the project's network, and then the project.
_CLEAN = """
ids=$(docker ps --all --quiet --filter "network=${COMPOSE_PROJECT_NAME}_control")
[ -z "$ids" ] || docker rm --force --volumes $ids
docker compose down --volumes --remove-orphans --timeout 1
"""
_KNOWS_ANOTHER = {
    Product.HEADSCALE: "tailscale status --json | jq -e '.Peer | length == 1 and all(.Online)'",
    Product.NETBIRD: "netbird status --json | jq -e '.peers.total == 1'",
}


@dataclass(frozen=True)
class Project:
    """One topology as a Compose project of its own name, and a shell in which an operator types."""

    name: str
    folder: Path
    topology: Topology
    environment: Mapping[str, str]
    home: Path

    def types(self, commands: str, timeout_s: float) -> str:
        """Run commands as an operator types them. Fails with what they printed."""
        done = self.tries(commands, timeout_s)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def tries(self, commands: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
        argv = ["sh", "-euc", commands]
        return subprocess.run(
            argv, cwd=self.home, env=self.environment, capture_output=True, text=True, check=False, timeout=timeout_s
        )

    def made(self, engine: Engine) -> dict[str, ContainerInfo]:
        """The project's containers by service."""
        return {found.labels[_SERVICE]: found for found in engine.containers({_PROJECT: self.name})}

    def left(self, engine: Engine) -> list[str]:
        mark = {_PROJECT: self.name}
        things = (*engine.containers(mark), *engine.networks(mark), *engine.volumes(mark))
        return [thing.name for thing in things]


def written(name: str) -> str:
    """The commands that the document shows under a mark."""
    blocks = {block["name"]: block["commands"] for block in _BLOCK.finditer(DOCUMENT.read_text())}
    return blocks[name]


@pytest.fixture(params=TOPOLOGIES)
def project(request: pytest.FixtureRequest, engine: Engine, tmp_path: Path) -> Iterator[Project]:
    """A topology to start, on a prefix that is free; whatever became of it is removed after the test."""
    for tool in ("docker", "curl", "jq"):
        assert shutil.which(tool), f"{tool} is not installed, and an operator's commands need it"
    folder = resources.path("compose") / request.param
    taken = [subnet for network in engine.networks() for subnet in network.subnets] + list(host_routes())
    subnet = allocate(taken, random.SystemRandom())
    inventory = Inventory(peers=(Peer("laptop", "alice"),))
    variables = ensure(engine, image_variables(request.param, inventory), lambda _: None)
    variables |= {variable: str(subnet) for variable in needs(folder).subnets}
    variables |= {variable: str(subnet[offset]) for variable, (_, offset) in needs(folder).addresses.items()}
    plugins = tmp_path / "docker" / "cli-plugins"
    plugins.mkdir(parents=True)
    (plugins / "docker-compose").symlink_to(binary())
    name = f"t-{request.param}-{secrets.token_hex(3)}"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "DOCKER_CONFIG": str(tmp_path / "docker"),
        "DOCKER_HOST": engine.info().endpoint,
        "COMPOSE_FILE": str(folder / "compose.yaml"),
        "COMPOSE_PROJECT_NAME": name,
        **variables,
    }
    project = Project(name, folder, read(folder, variables), environment, tmp_path)
    try:
        yield project
    finally:
        project.types(_CLEAN, _COMMANDS_S)
    assert project.left(engine) == []


def test_it_starts_serves_lets_peers_join_and_goes(project: Project, engine: Engine) -> None:
    project.types("docker compose up --detach --wait --pull never", _START_S)
    assert project.made(engine).keys() == {service.name for service in project.topology.services}
    for service in project.topology.services:
        serving(project, engine, service.name)
    published(project)
    if project.folder.name not in NO_HANDS:
        project.types(by_hand(project, *_STEPS[project.topology.product]), _COMMANDS_S)
        known_to_each_other(project)
        said = project.types(written(f"{project.topology.product}: look"), _COMMANDS_S)
        assert " 0% packet loss" in said
        project.types(written("stop"), _COMMANDS_S)
    else:
        project.types("docker compose down -v", _COMMANDS_S)
    assert project.left(engine) == []


def serving(project: Project, engine: Engine, name: str) -> None:
    """The same check that a lab asks, at the container's own address."""
    ready = project.topology.service(name).ready
    assert ready is not None
    address = project.made(engine)[name].addresses[f"{project.name}_control"]
    until(
        SystemClock(),
        lambda: serves(Direct().dial, address, ready),
        lambda seen: not seen,
        what=f"The service {name}",
        timeout_s=SERVICE_READY_S,
    )


def published(project: Project) -> None:
    """Each port that the file publishes is on loopback, at a number of the engine's."""
    for service in project.topology.services:
        for port in service.ports:
            where = project.types(
                f"docker compose port --protocol {port.protocol} {service.name} {port.target}", _COMMANDS_S
            )
            address, _, number = where.strip().rpartition(":")
            assert (address, int(number) > 0) == ("127.0.0.1", True)
            if port.protocol == "tcp":
                socket.create_connection((address, int(number)), timeout=_COMMANDS_S).close()


def by_hand(project: Project, *marks: str) -> str:
    """What an operator types between starting a topology and looking at its peers."""
    said = access(project.folder)
    url = said.joins.replace("{headscale}", project.environment.get("HEADSCALE_ADDRESS", ""))
    behind_a_proxy = said.authority is not None
    lines = [f"url={url}", *([] if behind_a_proxy else ["export TS_DEBUG_USE_DERP_HTTP=true"])]
    if project.topology.product is Product.NETBIRD and not behind_a_proxy:
        lines.append(written("netbird: api").replace("management", said.api))
    wanted = [mark for mark in marks if behind_a_proxy or mark not in _PROXY_ONLY]
    return "\n".join([*lines, *map(written, wanted)])


def known_to_each_other(project: Project) -> None:
    asked = _KNOWS_ANOTHER[project.topology.product]
    until(
        SystemClock(),
        lambda: project.tries(f'docker exec "$COMPOSE_PROJECT_NAME-laptop" {asked}', _COMMANDS_S),
        lambda done: done.returncode == 0,
        what="The other peer, in the client's own list",
        timeout_s=PEERS_LISTED_S,
        show=lambda done: done.stdout + done.stderr,
    )
