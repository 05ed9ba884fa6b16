"""What is kept of a lab when a scenario does not pass: everything one would look at, before it is removed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

from labs.engine import Engine
from labs.errors import LabsError
from labs.lab import Lab, Member
from labs.model import Product, Role
from labs.results import ScenarioResult, save

_COMMANDS = {
    "routes": ("ip", "route", "show", "table", "all"),
    "rules": ("ip", "rule"),
    "addresses": ("ip", "addr"),
    "resolv.conf": ("cat", "/etc/resolv.conf"),
    "sockets": ("netstat", "-lntu"),
}
_STATUS: dict[Product, dict[str, tuple[str, ...]]] = {
    Product.HEADSCALE: {"status": ("tailscale", "status", "--json"), "netcheck": ("tailscale", "netcheck")},
    Product.NETBIRD: {"status": ("netbird", "status", "-d"), "networks": ("netbird", "networks", "list")},
}


def collect(lab: Lab, result: ScenarioResult, folder: Path) -> Path:
    """Write the result, the journal, the control plane's view, and each container's log, and what each peer shows.

    The folder is for its owner only: logs can hold what the services said about keys. A question that
    could not be asked leaves its error in the file instead of an answer.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    save(result, folder / "result.json")
    (folder / "control-plane.json").write_text(_control_plane(lab))
    for member in lab.members.values():
        _keep(folder / f"{member.name}.log", partial(lab.engine.logs, member.machine.container_id))
        if member.role is Role.PEER:
            _collect_peer(lab.engine, member, _STATUS[lab.product], folder)
    return folder


def _collect_peer(engine: Engine, member: Member, status: dict[str, tuple[str, ...]], folder: Path) -> None:
    for name, argv in {**_COMMANDS, **status}.items():
        _keep(folder / f"{member.name}.{name}.txt", partial(_output, engine, member, argv))


def _output(engine: Engine, member: Member, argv: tuple[str, ...]) -> str:
    result = engine.exec(member.machine.container_id, argv)
    return result.stdout + result.stderr


def _control_plane(lab: Lab) -> str:
    try:
        listed = lab.control_plane.listed()
    except LabsError as problem:
        return json.dumps({"problem": str(problem)})
    return json.dumps([asdict(peer) for peer in listed], indent=2, default=str)


def _keep(path: Path, read: Callable[[], str]) -> None:
    try:
        path.write_text(read())
    except LabsError as problem:
        path.write_text(f"{problem}\n")
