"""The floor makes the same containers as a lab, so that their times may be compared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from labs.engine import Engine
from labs.lab.up import up
from labs.timing import SystemClock
from tests.live.conftest import Planned

pytestmark = pytest.mark.live

FLOOR = Path(__file__).parents[2] / "bench" / "floor.py"
LABEL = "org.mesh-labs.floor"
SECRETS = {"NETBIRD_RELAY_SECRET", "NETBIRD_STORE_KEY", "NB_AUTH_SECRET"}
ADDRESSES = {"HEADSCALE_SERVER_URL", "HEADSCALE_DERP_SERVER_IPV4"}


def essence(document: Mapping[str, Any]) -> dict[str, Any]:
    """What makes two containers the same for their start: everything but names, addresses and secrets."""
    config, host = document["Config"], document["HostConfig"]
    settings = dict(setting.split("=", 1) for setting in config["Env"])
    return {
        "image": config["Image"],
        "cmd": config["Cmd"],
        "entrypoint": config["Entrypoint"],
        "env": {key: value for key, value in settings.items() if key not in SECRETS | ADDRESSES},
        "hidden": sorted(settings.keys() & (SECRETS | ADDRESSES)),
        "caps": (host["CapAdd"] or [], host["CapDrop"] or []),
        "devices": host["Devices"] or [],
        "sysctls": host.get("Sysctls") or {},
        "security": host["SecurityOpt"],
        "tmpfs": host.get("Tmpfs") or {},
        "mounts": [bind.partition(":")[2] for bind in host["Binds"] or ()],
        "memory": host["Memory"],
        "networks": len(document["NetworkSettings"]["Networks"]),
    }


@pytest.mark.parametrize("topology", ["headscale", "netbird"])
def test_the_floor_makes_the_same_containers(topology: str, engine: Engine, planned: Planned, tmp_path: Path) -> None:
    api = engine._api  # type: ignore[attr-defined]
    plan = planned(topology, peers=1)
    images = tmp_path / "images.json"
    images.write_text(json.dumps(dict(plan.images)))
    lab = up(plan, engine, SystemClock(), lambda _: None)
    ours = {name: essence(api.inspect_container(m.machine.container_id)) for name, m in lab.members.items()}

    theirs: dict[str, dict[str, Any]] = {}

    def watch() -> None:
        """The floor removes everything as soon as it is done, so its containers are read as they start."""
        for event in api.events(decode=True, filters={"type": "container", "event": "start", "label": LABEL}):
            document = api.inspect_container(event["id"])
            run = document["Config"]["Labels"][LABEL]
            theirs[document["Name"].removeprefix(f"/{run}-")] = essence(document)
            if len(theirs) == len(ours):
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    done = subprocess.run(
        [sys.executable, str(FLOOR), topology, "--peers", "1", "--workers", "4", "--images", str(images)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "DOCKER_HOST": engine.info().endpoint},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("joined ")
    watcher.join(10)
    assert theirs == ours
    assert api.containers(all=True, filters={"label": LABEL}) == []
    assert api.networks(filters={"label": LABEL}) == []
