"""The life of a lab: up, down, status, list, and looking inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from labs.commands.common import IMAGES_HELP, console, emit_json, open_engine, remainder, use_images
from labs.errors import UsageError

if TYPE_CHECKING:
    from labs.engine import Engine
    from labs.lab import Lab
    from labs.model import Inventory

_LAB_HELP = "The lab's name; may be left out while there is only one."


@task(
    positional=["topology"],
    help={
        "topology": "Which topology: a folder of compose/ (headscale, netbird).",
        "name": "The lab's name; the topology's by default.",
        "peers": "How many peers join (default 2).",
        "scenario": "A scenario file whose networks, peers and hosts the lab has instead.",
        "keep": "When it fails, keep what was made, to look at.",
        "images": IMAGES_HELP,
        "json": "Print only JSON.",
    },
)
def up(
    _: Context,
    topology: str,
    name: str = "",
    peers: int = 2,
    scenario: str = "",
    keep: bool = False,
    images: str = "",
    json: bool = False,
) -> None:
    """Start a lab and wait until every service serves and every peer is connected.

    A second `up` of the same healthy lab prints its status. When it fails or is stopped, everything
    it made is removed again. Example:

        inv up netbird --name try --peers 3
    """
    from labs.commands.bringup import start  # noqa: PLC0415 - start-up time
    from labs.lab.plan import checked_name, topology_folder  # noqa: PLC0415

    topology_folder(topology)
    use_images(images)
    chosen = checked_name(name or topology)
    inventory = _inventory(peers, scenario)
    out = console(json)
    engine = open_engine(out=out)
    try:
        lab = start(engine, topology, chosen, inventory, out, keep=keep)
        _show(lab, json)
    finally:
        engine.close()


@task(
    positional=["name"],
    optional=["name"],
    help={"name": "The lab to remove.", "all": "Remove every lab on the engine.", "json": "Print only JSON."},
)
def down(_: Context, name: str = "", all: bool = False, json: bool = False) -> None:  # noqa: A002 - the option's name
    """Remove a lab: containers, networks, volumes and its own files; half-made ones and other checkouts' too.

    Says that nothing is left only after listing again; exits 5 when something is. Example:

        inv down netbird
    """
    from labs.lab import labels  # noqa: PLC0415 - start-up time
    from labs.lab.removal import remove  # noqa: PLC0415

    if bool(name) == all:
        raise UsageError("Name one lab, or say --all", hint="inv list shows what there is")
    out = console(json)
    engine = open_engine(start=False, out=out)
    try:
        with out.working(f"removing {name or 'every lab'}"):
            removed = remove(engine, {labels.LAB: name})
        if json:
            emit_json(removed)
        elif removed.anything:
            out.line(
                f"Removed {removed.containers} containers, {removed.networks} networks, "
                f"{removed.volumes} volumes; listed again, nothing is left."
            )
            if removed.files:
                out.line(f"Removed the files of {removed.files} labs that the engine did not have any more.")
        else:
            out.line(_nothing_called(engine, name))
    finally:
        engine.close()


@task(positional=["name"], optional=["name"], help={"name": _LAB_HELP, "json": "Print only JSON."})
def status(_: Context, name: str = "", json: bool = False) -> None:
    """Show a lab's containers, where they are, and whether each service serves.

    Exits 1 when something is wrong. Example:

        inv status netbird
    """
    engine = open_engine(start=False, out=console(json))
    try:
        lab = _find(engine, name)
        if not _show(lab, json):
            raise Exit(code=1)
    finally:
        engine.close()


@task(name="list", help={"json": "Print only JSON."})
def list_(_: Context, json: bool = False) -> None:
    """List the labs on the engine, whoever started them, and what is left of labs, with the reason in `note`. Example:

    inv list
    """
    from datetime import UTC, datetime  # noqa: PLC0415 - start-up time

    from labs.lab import survey  # noqa: PLC0415
    from labs.timing import SystemClock  # noqa: PLC0415

    engine = open_engine(start=False, out=console(json))
    try:
        labs, remains = survey(engine, SystemClock())
    finally:
        engine.close()
    now = datetime.now(UTC).isoformat()
    rows = [
        {
            "name": lab.name,
            "topology": lab.topology,
            "containers": len(lab.members),
            "created": lab.created,
            "expires": lab.expires,
            "expired": lab.expires < now,
            "note": "",
        }
        for lab in labs
    ]
    rows += [
        {
            "name": left.name,
            "topology": None,
            "containers": left.containers,
            "created": None,
            "expires": None,
            "expired": None,
            "note": left.why,
        }
        for left in remains
    ]
    if json:
        emit_json(rows)
    elif rows:
        cells = [["-" if cell is None else cell for cell in row.values()] for row in rows]
        console().table([heading.upper() for heading in rows[0]], cells)
    else:
        console().line("There is no lab.")


@task(positional=["name"], optional=["name"], help={"name": _LAB_HELP, "json": "Print only JSON."})
def peers(_: Context, name: str = "", json: bool = False) -> None:
    """List a lab's peers as its control plane sees them, and as each client sees itself. Example:

    inv peers headscale
    """
    engine = open_engine(start=False)
    try:
        lab = _find(engine, name)
        plane = lab.control_plane
        rows = []
        for peer in plane.listed():
            own = plane.status(lab.machine(peer.name)) if peer.name in lab.members else None
            rows.append(
                {
                    "name": peer.name,
                    "user": lab.members[peer.name].user if peer.name in lab.members else "",
                    "address": str(peer.address),
                    "online": peer.online,
                    "connected": own.connected if own else None,
                    "serves": ", ".join(str(route) for route in peer.routes),
                    "routes": ", ".join(str(route) for route in own.routes) if own else "",
                }
            )
    finally:
        engine.close()
    if json:
        emit_json(rows)
    elif rows:
        console().table([heading.upper() for heading in rows[0]], [list(row.values()) for row in rows])
    else:
        console().line("The control plane lists no peer.")


@task(name="exec", positional=["member"], help={"member": "A peer, host or service of the lab.", "name": _LAB_HELP})
def exec_(context: Context, member: str, name: str = "") -> None:
    """Run a command inside a lab's container; what follows `--` is the command. Exits as the command does. Example:

    inv exec laptop --name netbird -- ip route show table all
    """
    argv = remainder(context)
    if not argv:
        raise UsageError("No command was given", hint=f"inv exec {member} -- ip route")
    _interactive(member, name, argv)


@task(positional=["member"], help={"member": "A peer, host or service of the lab.", "name": _LAB_HELP})
def shell(_: Context, member: str, name: str = "") -> None:
    """Open a shell inside a lab's container; services may have none, as their official images. Example:

    inv shell laptop
    """
    _interactive(member, name, ["sh"])


@task(
    positional=["member"],
    help={
        "member": "A peer, host or service of the lab.",
        "name": _LAB_HELP,
        "follow": "Go on until the container stops.",
        "tail": "Only the last N lines (0: all).",
    },
)
def logs(_: Context, member: str, name: str = "", follow: bool = False, tail: int = 0) -> None:
    """Print what a lab's container has logged. Example:

    inv logs management --tail 20
    """
    engine = open_engine(start=False)
    try:
        container = _find(engine, name).machine(member).container_id
        out = console()
        if follow:
            for line in engine.follow_logs(container):
                out.line(line)
        else:
            out.line(engine.logs(container, tail or None).rstrip("\n"))
    finally:
        engine.close()


def _nothing_called(engine: Engine, name: str) -> str:
    """That there was nothing to remove; with the nearest name, for a slip of the finger."""
    from labs.lab import labels  # noqa: PLC0415 - start-up time
    from labs.lab.files import records  # noqa: PLC0415
    from labs.words import nearest  # noqa: PLC0415

    for record in records():
        if record.name == name:
            return f"Nothing was removed: lab {name} was started on another engine; --engine {record.engine}"
    there = {found.labels[labels.LAB] for found in engine.containers({labels.LAB: ""})}
    if not name or not there:
        return "There is no lab; nothing to remove."
    return (
        f"There is no lab called {name}, so nothing was removed; {nearest(name, there, 'inv list shows what there is')}"
    )


def _interactive(member: str, name: str, argv: list[str]) -> None:
    engine = open_engine(start=False)
    try:
        code = engine.interactive(_find(engine, name).machine(member).container_id, argv)
    finally:
        engine.close()
    if code:
        raise Exit(code=code)


def _find(engine: Engine, name: str) -> Lab:
    """The lab called `name`, or the only one there is. Raises UsageError."""
    from labs.lab import find, find_all  # noqa: PLC0415 - start-up time
    from labs.timing import SystemClock  # noqa: PLC0415

    if name:
        return find(engine, name, SystemClock())
    found = find_all(engine, SystemClock())
    if len(found) == 1:
        return found[0]
    names = ", ".join(lab.name for lab in found)
    raise UsageError(
        "There are several labs" if found else "There is no lab",
        why=names,
        hint=f"name one: {names}" if found else "inv up headscale",
    )


def _inventory(peers: int, scenario: str) -> Inventory:
    from pathlib import Path  # noqa: PLC0415 - start-up time

    from labs.model import Inventory, Peer  # noqa: PLC0415

    if scenario:
        from labs.scenario import read  # noqa: PLC0415

        return read(Path(scenario)).inventory
    if not 0 <= peers <= 100:
        raise UsageError(f"{peers} peers cannot join", hint="--peers takes 0 to 100")
    return Inventory(peers=tuple(Peer(f"peer-{number}", "alice") for number in range(1, peers + 1)))


def _show(lab: Lab, json: bool) -> bool:
    """Print a lab's status; whether it is healthy."""
    from labs.lab.health import problems  # noqa: PLC0415 - start-up time

    wrong = problems(lab)
    if json:
        emit_json(_document(lab, wrong))
        return not wrong
    out = console()
    out.line(f"Lab {lab.name}: {lab.topology}, created {lab.created}, expires {lab.expires}")
    rows = [
        (
            member.name,
            member.role,
            member.user,
            member.state,
            " ".join(f"{network}={address}" for network, address in member.machine.addresses.items()),
            member.image + (f" (stand-in for {member.stand_in})" if member.stand_in else ""),
        )
        for member in lab.members.values()
    ]
    out.table(("NAME", "ROLE", "USER", "STATE", "ADDRESSES", "IMAGE"), rows)
    for problem in wrong:
        out.line(f"! {problem}")
    return not wrong


def _document(lab: Lab, wrong: tuple[str, ...]) -> dict[str, object]:
    return {
        "name": lab.name,
        "topology": lab.topology,
        "product": lab.product,
        "created": lab.created,
        "expires": lab.expires,
        "healthy": not wrong,
        "problems": wrong,
        "networks": {name: str(prefix) for name, prefix in lab.networks.items()},
        "members": [
            {
                "name": member.name,
                "role": member.role,
                "user": member.user or None,
                "state": member.state,
                "image": member.image,
                "addresses": {name: str(address) for name, address in member.machine.addresses.items()},
            }
            for member in lab.members.values()
        ],
    }


namespace = Collection("lab", up, down, status, list_, peers, exec_, shell, logs)
