"""The toolkit and the real Compose read the same in a Compose file: all topologies, every form of every key.

Compose renders a file with every form in its long one and every variable filled in. The toolkit's reader has to make
the same topology of that as of the file itself; and since it refuses what it does not know, nothing is passed over.

Needs Go and the modules of tests/modules/compose, once; no engine.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from labs import resources
from labs.compose import needs, read
from labs.compose.reader import _source, _spec
from labs.model import Topology
from tests.real_compose import Reader, binary
from tests.unit.test_compose import FILE, FORMS

pytestmark = pytest.mark.live

FOLDERS = sorted(file.parent for file in resources.path("compose").glob("*/compose.yaml"))
CHOSEN = {
    "CONTROL_SUBNET": "10.9.8.0/24",
    "HEADSCALE_ADDRESS": "10.9.8.7",
    "LAB_BIND": "127.0.0.3",
    "HEADSCALE_PORT": "18080",
    "PROXY_PORT": "18443",
    "NETBIRD_STUN_PORT": "13478",
    "NETBIRD_RELAY_SECRET": "$not a variable, 'quoted' #",
    "KEYCLOAK_MEMORY": "1g",
}
# What Compose adds to what a file says, by the key it stands in; "" is the file itself.
ADDED = {"networks": "name", "volumes": "name", "configs": "name", "secrets": "name"}
UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    return Reader(binary(), tmp_path_factory.mktemp("home"))


@pytest.mark.parametrize("variables", [{}, CHOSEN], ids=["defaults", "chosen"])
@pytest.mark.parametrize("folder", FOLDERS, ids=[folder.name for folder in FOLDERS])
def test_topologies(folder: Path, variables: dict[str, str], compose: Reader, tmp_path: Path) -> None:
    known = {name: value for name, value in variables.items() if name in needs(folder).variables}
    assert_alike(folder, known, compose, tmp_path)


@pytest.mark.parametrize("key", [key for key, _ in FORMS])
def test_every_form_of_every_key(key: str, compose: Reader, tmp_path: Path) -> None:
    folder = tmp_path / "file"
    folder.mkdir()
    (folder / "compose.yaml").write_text(FILE.format(keys=f"    {key}", network=""))
    (folder / "conf.yaml").write_text("key: value\n")
    (folder / "token").write_text("secret\n")
    assert_alike(folder, {}, compose, tmp_path)


def assert_alike(folder: Path, variables: Mapping[str, str], compose: Reader, tmp_path: Path) -> None:
    document = compose.config(folder, variables)
    rendered = tmp_path / "rendered"
    shutil.copytree(folder, rendered)
    (rendered / "compose.yaml").write_text(yaml.safe_dump(plain(document, folder), sort_keys=False))
    assert bare(read(rendered, {})) == bare(read(folder, variables))
    assert checks(rendered, {}) == checks(folder, variables)


def plain(document: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Compose's rendering as the reader takes it: without what Compose adds, and with the variable it has to have."""
    for key, name in ADDED.items():
        for entry in document.get(key, {}).values():
            entry.pop(name)
            if "file" in entry:
                entry["file"] = str(Path(entry["file"]).relative_to(folder))
    for service in document["services"].values():
        _plain_service(service)
    lab = document["x-lab"]
    for filled in ("addresses", "secrets", "variants"):
        lab.pop(filled, None)
    for variable, network in lab["subnets"].items():
        (config,) = document["networks"][network]["ipam"]["config"]
        config["subnet"] = f"${{{variable}:-{config['subnet']}}}"
    return document


def _plain_service(service: dict[str, Any]) -> None:
    for port in service.get("ports", ()):
        assert port.pop("mode") == "ingress"
    for dependency in service.get("depends_on", {}).values():
        assert dependency.pop("required") is True
    for volume in service.get("volumes", ()):
        assert volume.pop("volume", {}) == {}
    for number, device in enumerate(service.get("devices", ())):
        assert device == {"source": device["source"], "target": device["source"], "permissions": "rwm"}
        service["devices"][number] = device["source"]


def bare(topology: Topology) -> Topology:
    """Without what Compose leaves out of its rendering (a volume that nobody uses), order, and secrets' values."""
    used = {mount.volume for service in topology.services for mount in service.container.volumes}
    services = (replace(one, waits_for=tuple(sorted(one.waits_for))) for one in topology.services)
    ordered = tuple(sorted(services, key=lambda one: one.name))
    return replace(topology, services=ordered, volumes=tuple(sorted(used)), secrets={})


def checks(folder: Path, variables: Mapping[str, str]) -> dict[str, Any]:
    """Health checks and dependencies, which a lab reads and does nothing with, in one spelling."""
    spec = _spec(_source(folder), variables)
    found: dict[str, Any] = {}
    for name, service in spec.services.items():
        check = service.healthcheck.model_dump() if service.healthcheck else {}
        for key in ("interval", "timeout", "start_period"):
            check[key] = _seconds(check.get(key, ""))
        found[name] = (check, {other: how.condition for other, how in service.depends_on.items()})
    return found


def _seconds(duration: str) -> float:
    """Compose writes 3m as 3m0s."""
    return sum(float(number) * UNITS_S[unit] for number, unit in re.findall(r"([\d.]+)(ms|h|m|s)", duration))
