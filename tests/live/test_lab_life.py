"""The life of real labs: up, found again, in the way, stopped half-way, and gone without a trace."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import pytest

from labs.engine import Engine, State
from labs.errors import LabConflict, LabsError
from labs.lab import Lab, find, labels
from labs.lab.files import LabFiles
from labs.lab.health import existing, problems
from labs.lab.plan import Plan
from labs.lab.removal import Removed, remove
from labs.lab.up import up
from labs.model import Host, Inventory, Lan, Peer, Role
from labs.timing import SystemClock
from tests.live.conftest import Planned

pytestmark = pytest.mark.live

TOPOLOGIES = ("headscale", "netbird")
NOTHING = Removed(0, 0, 0)


def started(plan: Plan, engine: Engine) -> Lab:
    return up(plan, engine, SystemClock(), lambda _: None)


def left(engine: Engine, plan: Plan) -> list[str]:
    marks = {labels.LAB: plan.name}
    things = (*engine.containers(marks), *engine.networks(marks), *engine.volumes(marks))
    return [thing.name for thing in things]


def docker_inspect(engine: Engine, container_id: str) -> Mapping[str, object]:
    """The engine's whole document, which the Protocol does not show."""
    document: Mapping[str, object] = engine._api.inspect_container(container_id)  # type: ignore[attr-defined]
    return document


@pytest.mark.smoke
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_a_lab_from_nothing_to_nothing(topology: str, engine: Engine, planned: Planned) -> None:
    plan = planned(topology, peers=2)
    lab = started(plan, engine)

    assert problems(lab) == ()
    assert {peer.name for peer in lab.control_plane.listed() if peer.online} == {"peer-1", "peer-2"}
    for member in lab.with_role(Role.PEER):
        own = lab.control_plane.status(member.machine)
        assert own.connected
        assert own.address in {peer.address for peer in lab.control_plane.listed() if peer.name == member.name}
    assert existing(plan, engine, SystemClock()) == lab, "found again, from labels alone"
    check_nothing_is_open(engine, lab)
    check_secrets(engine, lab)

    removed = remove(engine, {labels.LAB: plan.name})
    assert removed.containers == len(lab.members)
    assert left(engine, plan) == []
    assert not lab.files.folder.exists()
    assert remove(engine, {labels.LAB: plan.name}) == NOTHING, "a second down finds nothing and is fine"


def check_nothing_is_open(engine: Engine, lab: Lab) -> None:
    for member in lab.members.values():
        host = docker_inspect(engine, member.machine.container_id)["HostConfig"]
        assert isinstance(host, Mapping)
        assert host["Privileged"] is False
        assert host["CapDrop"] == ["ALL"]
        assert set(host["CapAdd"] or ()) <= {"NET_ADMIN", "NET_RAW"}
        assert not host["PortBindings"]
        assert not host["PidMode"]
    for network in engine.networks({labels.LAB: lab.name}):
        document = engine._api.inspect_network(network.id)  # type: ignore[attr-defined]
        assert document["Internal"] is True


def check_secrets(engine: Engine, lab: Lab) -> None:
    """No default secret is in use, and what is in use is readable by its owner only."""
    for member in lab.members.values():
        document = docker_inspect(engine, member.machine.container_id)
        config = document["Config"]
        assert isinstance(config, Mapping)
        for setting in config["Env"]:
            value = setting.partition("=")[2]
            assert "insecure-lab-only" not in value
            assert b"insecure-lab-only" not in decoded(value)
    files = list(lab.files.folder.iterdir())
    assert {file.name for file in files} == {"credentials.json", "journal.jsonl", "lab.json"}
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert lab.files.folder.stat().st_mode & 0o777 == 0o700
    for member in lab.with_role(Role.PEER):
        key = engine.exec(member.machine.container_id, ["sh", "-c", "stat -c %a /run/mesh-labs/*-key"])
        assert key.stdout == "600\n"


def decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""


def test_other_settings_under_the_same_name_are_refused(engine: Engine, planned: Planned) -> None:
    plan = planned("headscale", peers=0)
    started(plan, engine)
    other = replace(plan, inventory=Inventory(peers=(Peer("guest", "bob"),)))
    with pytest.raises(LabConflict, match="has other settings") as refused:
        existing(other, engine, SystemClock())
    assert "--name" in refused.value.hint


def test_another_checkouts_lab_is_refused_and_can_be_removed(engine: Engine, planned: Planned) -> None:
    class Elsewhere(Plan):
        @cached_property
        def owner(self) -> str:
            return "another00000"

    plan = planned("headscale", peers=0)
    theirs = Elsewhere(plan.name, plan.topology_name, plan.inventory, plan.images)
    started(theirs, engine)
    with pytest.raises(LabConflict, match="belongs to another checkout") as refused:
        existing(plan, engine, SystemClock())
    assert "--name" in refused.value.hint
    assert remove(engine, {labels.LAB: plan.name}).containers == 1
    assert left(engine, plan) == []


def test_a_lab_whose_containers_were_removed_by_hand(engine: Engine, planned: Planned) -> None:
    plan = planned("netbird", peers=1)
    lab = started(plan, engine)
    for member in lab.members.values():
        engine.remove(member.machine.container_id)
    with pytest.raises(LabConflict, match="only half there"):
        existing(plan, engine, SystemClock())
    assert remove(engine, {labels.LAB: plan.name}) == Removed(0, 1, 1)
    assert left(engine, plan) == []


def test_a_stopped_service_makes_a_lab_unhealthy(engine: Engine, planned: Planned) -> None:
    plan = planned("netbird", peers=0)
    lab = started(plan, engine)
    engine.stop(lab.machine("signal").container_id, grace_s=1)
    assert problems(find(engine, plan.name, SystemClock())) == (f"signal is {State.EXITED}",)
    with pytest.raises(LabConflict, match="is not healthy"):
        existing(plan, engine, SystemClock())


@pytest.mark.smoke
def test_a_failed_up_leaves_nothing(engine: Engine, planned: Planned) -> None:
    """The host's image is missing, which shows when services and peers are on their way already."""
    inventory = Inventory((Lan("office"),), (Peer("laptop", "alice"),), (Host("printer", (("office", 10),), "http"),))
    plan = planned("headscale", inventory=inventory)
    broken = replace(plan, images={**plan.images, "TOOLBOX_IMAGE": "mesh-labs/no-such-image:1"})
    with pytest.raises(LabsError, match="no such"):
        started(broken, engine)
    assert left(engine, plan) == []


def test_a_failed_up_keeps_everything_when_asked(engine: Engine, planned: Planned) -> None:
    inventory = Inventory((Lan("office"),), (), (Host("printer", (("office", 10),), "http"),))
    plan = planned("headscale", inventory=inventory)
    broken = replace(plan, images={**plan.images, "TOOLBOX_IMAGE": "mesh-labs/no-such-image:1"})
    with pytest.raises(LabsError):
        up(broken, engine, SystemClock(), lambda _: None, keep=True)
    assert f"mesh-labs-{plan.name}-office" in left(engine, plan)
    remove(engine, {labels.LAB: plan.name})
    assert left(engine, plan) == []


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("after", ["image", "network", "serves", "administrator", "joined"])
def test_ctrl_c_at_any_moment_cleans_up(topology: str, after: str, engine: Engine, planned: Planned) -> None:
    """A real process is sent SIGINT when it has printed a certain line, or when a certain thing exists."""
    plan = planned(topology, peers=2)
    argv = [sys.executable, "-m", "labs.commands.cli", "up", topology, "--name", plan.name]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        if after == "image":
            process.send_signal(signal.SIGINT)
        elif after == "network":
            while not engine.networks({labels.LAB: plan.name}) and process.poll() is None:
                pass
            process.send_signal(signal.SIGINT)
        else:
            for line in process.stdout:
                if after in line:
                    process.send_signal(signal.SIGINT)
                    break
        _, errors = process.communicate(timeout=60)
    assert left(engine, plan) == []
    # Before the program has put its handler in place the signal ends it outright, with nothing made yet.
    assert process.returncode in ((4, -signal.SIGINT, 1) if after == "image" else (4,)), errors


def test_the_files_of_a_lab_stay_its_own(engine: Engine, planned: Planned, tmp_path: Path) -> None:
    """Without the machine's files the lab is still found and removed; only its administrator is unknown."""
    plan = planned("netbird", peers=0)
    lab = started(plan, engine)
    elsewhere = LabFiles.of(lab.run_id, {"MESH_LABS_STATE": str(tmp_path)})
    assert elsewhere.credentials() is None
    assert LabFiles.of(lab.run_id).credentials() is not None
