"""Labs for tests written in Python, with the verbs of scenario files as methods.

    with NetBirdLab() as lab:
        office = lab.network("office")
        printer = lab.host("printer", office, serves="http")
        router, laptop = lab.peer("router", office), lab.peer("laptop")
        assert not laptop.reaches(printer)
        lab.publish_route(office, via=router, for_=[laptop])
        assert laptop.reaches(printer, within_s=10).seen_as == router

Networks, peers and hosts are declared first; the lab starts with the first verb or question. A verb takes
the arguments that it has in a file, the first ones by position; `for` and `from` are written `for_` and
`from_`. A verb that the product does not carry out raises StepFailed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType
from typing import Any, Self

from labs.engine import Engine
from labs.errors import UsageError
from labs.lab import Lab, labels
from labs.lab.plan import product_of
from labs.lab.removal import remove
from labs.lab.start import start
from labs.model import Product
from labs.scenario.diagnosis import StepFailed
from labs.scenario.expectations import Evidence
from labs.scenario.loader import Scenario
from labs.scenario.schema import ScenarioSpec, Step
from labs.scenario.steps import Actor
from labs.timing import HOLD_S
from labs.words import nearest

_SERIAL = itertools.count(1)


@dataclass(frozen=True, slots=True)
class NetworkHandle:
    """A network of the lab, by name."""

    name: str


@dataclass(frozen=True, slots=True)
class HostHandle:
    """A machine without an agent."""

    name: str


@dataclass(frozen=True, slots=True)
class Reached:
    """Whether something was reached: true or false as itself, `seen_as` the peer that a web server saw calling."""

    yes: bool
    seen_as: PeerHandle | None
    evidence: Evidence

    def __bool__(self) -> bool:
        return self.yes


@dataclass(frozen=True, slots=True)
class PeerHandle:
    """A machine that runs the product's client."""

    name: str
    lab: ScriptedLab = field(compare=False, repr=False)

    def reaches(
        self, target: PeerHandle | HostHandle, *, port: int = 80, by: str = "http", within_s: float = 0.0
    ) -> Reached:
        """Ask until it is reached: for `within_s`, and never less than a negative has to hold to be believed."""
        return self.lab.reached(self, target, port, by, within_s)


@dataclass
class ScriptedLab:
    """A lab that a test builds as it goes; it is removed at the end of the `with` block, whatever happens."""

    topology: str
    engine: Engine | None = None
    _spec: dict[str, dict[str, Any]] = field(default_factory=lambda: {"networks": {}, "peers": {}, "hosts": {}})
    _actor: Actor | None = None

    def __post_init__(self) -> None:
        self.name = f"scripted-{self.topology[:9].rstrip('-')}-{next(_SERIAL)}-{id(self) % 65536:04x}"
        self._own_engine = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._actor is not None:
            remove(self._engine, {labels.LAB: self.name})
        if self._own_engine:
            self._engine.close()

    @property
    def product(self) -> Product:
        return product_of(self.topology)

    def network(self, name: str, **spec: Any) -> NetworkHandle:
        """Declare a LAN; `kind="public"` and `gateway="HOST"` as in a file. Raises UsageError once the lab runs."""
        self._declare("networks", name, spec)
        return NetworkHandle(name)

    def peer(self, name: str, *networks: NetworkHandle, user: str = "alice", **spec: Any) -> PeerHandle:
        """Declare a peer that stands on these LANs. Raises UsageError once the lab runs."""
        self._declare("peers", name, {"user": user, "networks": [network.name for network in networks], **spec})
        return PeerHandle(name, self)

    def host(self, name: str, network: NetworkHandle, *, offset: int | None = None, **spec: Any) -> HostHandle:
        """Declare a host at a place in a LAN, the next free one unless said. Raises UsageError once the lab runs."""
        place = offset or 10 + len(self._spec["hosts"])
        self._declare("hosts", name, {"networks": {network.name: f".{place}"}, **spec})
        return HostHandle(name)

    @property
    def lab(self) -> Lab:
        """The running lab itself: its engine, control plane and journal."""
        return self._running.lab

    def reached(
        self, source: PeerHandle, target: PeerHandle | HostHandle, port: int, by: str, within_s: float
    ) -> Reached:
        contact_s = self.lab.control_plane.first_contact_s
        wait_s = max(within_s, HOLD_S, 2 * contact_s)
        expect = {"from": source.name, "to": target.name, "reachable": True, "by": by, "within": f"{wait_s:g}s"}
        expect |= {"port": port} if by != "ping" else {}
        try:
            evidence = self.do("expect", **expect)
        except StepFailed as no:
            return Reached(False, None, (*no.evidence, no.diagnosis.seen))
        caller = next((line.rpartition("(")[2].rstrip(")") for line in evidence if "the caller" in line), "")
        return Reached(True, PeerHandle(caller, self) if caller in self._spec["peers"] else None, evidence)

    def do(self, verb: str, /, **arguments: Any) -> Evidence:
        """Carry out one verb with a file's arguments. Raises StepFailed, or LabsError when it could not be tried."""
        step = Step.model_validate({verb: arguments})
        return self._running.carry_out(step.action)

    def __getattr__(self, name: str) -> Callable[..., Evidence]:
        if name.startswith("_") or name not in Step.model_fields:
            raise AttributeError(f"a lab has no verb {name}; {nearest(name, Step.model_fields)}")
        verb = name.replace("_", "-")

        def carried_out(*first: Any, **arguments: Any) -> Evidence:
            return self.do(verb, **_by_name(name, first, arguments))

        return carried_out

    @cached_property
    def _engine(self) -> Engine:
        if self.engine is not None:
            return self.engine
        from labs.commands.common import open_engine  # noqa: PLC0415 - only without an engine of the caller's

        self._own_engine = True
        return open_engine()

    @property
    def _running(self) -> Actor:
        if self._actor is None:
            spec = ScenarioSpec.model_validate({"title": self.name, **self._spec, "steps": [{"heal": {}}]})
            scenario = Scenario(self.name, spec)
            lab, _ = start(self._engine, self.topology, self.name, scenario.inventory, lambda _: None, lambda _: None)
            self._actor = Actor(scenario, lab)
        return self._actor

    def _declare(self, kind: str, name: str, spec: dict[str, Any]) -> None:
        if self._actor is not None:
            raise UsageError(f"{name} comes too late: the lab runs", hint="declare networks, peers and hosts first")
        self._spec[kind][name] = spec


class HeadscaleLab(ScriptedLab):
    """Headscale with Tailscale clients."""

    def __init__(self, topology: str = "headscale", engine: Engine | None = None) -> None:
        super().__init__(topology, engine)


class NetBirdLab(ScriptedLab):
    """NetBird with its own clients."""

    def __init__(self, topology: str = "netbird", engine: Engine | None = None) -> None:
        super().__init__(topology, engine)


def _by_name(verb: str, first: Iterable[Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """A verb's arguments by the names they have in a file."""
    annotation = Step.model_fields[verb].annotation
    model = next(part for part in getattr(annotation, "__args__", ()) if hasattr(part, "model_fields"))
    own = [key for key in model.__annotations__ if key in model.model_fields]  # what it inherits is said by name
    keys = [model.model_fields[key].alias or key for key in own]
    named = dict(zip(keys, first, strict=False))
    named |= {key.rstrip("_").replace("_", "-"): value for key, value in arguments.items()}
    return {key: _plain(value) for key, value in named.items()}


def _plain(value: Any) -> Any:
    """Handles stand for their names."""
    if isinstance(value, (NetworkHandle, HostHandle, PeerHandle)):
        return value.name
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value
