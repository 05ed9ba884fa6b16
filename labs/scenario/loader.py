"""Scenario files: found, read, and checked for what no schema can see."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from labs.controlplanes import Ability, lacks
from labs.lab.plan import access_of, product_of, topologies
from labs.model import Host, Inventory, Lan, Peer, Person, Product, Provider
from labs.scenario import verbs
from labs.scenario.fields import Kind, Refers
from labs.scenario.schema import Observe, PeerSpec, ScenarioSpec
from labs.scenario.verbs import Expect, Verb
from labs.words import nearest
from labs.yamlsource import KeyPath, Source, load, parse, validated

SUFFIX = ".scenario.yaml"


@dataclass(frozen=True)
class Scenario:
    """One scenario file: its name without folder and suffix, and what it says."""

    name: str
    spec: ScenarioSpec

    @cached_property
    def inventory(self) -> Inventory:
        spec = self.spec
        lans = (Lan(name, lan.kind == "public", lan.gateway) for name, lan in spec.networks.items())
        peers = (
            Peer(name, peer.user or "", peer.networks, peer.serves, _joins(peer), peer.resolver)
            for name, peer in spec.peers.items()
        )
        hosts = (
            Host(
                name,
                tuple(host.networks.items()),
                host.serves,
                host.ports,
                host.forwards,
                tuple(host.records.items()),
            )
            for name, host in spec.hosts.items()
        )
        return Inventory(
            tuple(lans),
            tuple(peers),
            tuple(hosts),
            spec.settings.settings,
            tuple(self.person(name) for name in spec.people),
            tuple(Provider(name, provider.tokens_last) for name, provider in spec.providers.items()),
        )

    def person(self, name: str) -> Person:
        said = self.spec.people[name]
        email = said.email or f"{name}@example.test"
        return Person(name, said.called or f"{name.capitalize()} Example", email, said.at, said.groups, said.verified)

    def topology(self, product: Product) -> str:
        """The topology this runs on: the one it names, else the product's own."""
        return self.spec.topology.get(product, str(product))

    def not_applicable(self, topology: str) -> str:
        """Why the scenario says nothing about a topology, as the first ability it lacks; empty when it applies."""
        missing = lacks(product_of(topology), access_of(topology))
        needed = [step.action.needs() for step in self.spec.steps]
        needed += [Ability.PROVIDER for person in self.spec.people.values() if person.at]
        return next((missing[ability] for ability in needed if ability and ability in missing), "")


def read(path: Path) -> Scenario:
    """Read and check one file. Raises FileProblem with file, line, column and key path."""
    return _checked(load(path), path.name)


def read_text(text: str, name: str) -> Scenario:
    """The same for a text; `name` is what errors call it."""
    return _checked(parse(text, name), name)


def _checked(source: Source, name: str) -> Scenario:
    spec = validated(source, ScenarioSpec)
    for product, topology in spec.topology.items():
        _known(source, ("topology", product), topology, topologies(), "topology")
    _check_members(source, spec)
    names = _names(spec)
    for path, action in _actions(spec):
        _check_references(source, names, path, action)
        _check_sense(source, spec, path, action)
        _check_address(source, spec, path, action)
    _check_negatives(source, spec)
    _check_questions(source, spec)
    return Scenario(name.removesuffix(SUFFIX), spec)


def _check_sense(source: Source, spec: ScenarioSpec, path: KeyPath, action: Verb) -> None:
    """What some verbs ask of those they name."""
    if isinstance(action, Expect):
        _check_expect(source, spec, path, action)
    elif isinstance(action, (verbs.PublishRoute, verbs.WithdrawRoute)):
        _check_stands_on(source, spec, path, action.via, action.network)
    elif isinstance(action, verbs.AdvertiseRoutes):
        for network in action.networks:
            _check_stands_on(source, spec, path, action.via, network)
    elif isinstance(action, verbs.SignIn):
        _check_sign_in(source, spec, path, action)
    elif isinstance(action, verbs.Join):
        _check_join(source, spec, path, action)
    elif isinstance(action, verbs.SplitDns) and spec.hosts[action.server].serves != "dns":
        hint = f"hosts: {{{action.server}: {{serves: dns}}}}"
        raise source.problem(f"{action.server} answers no DNS", (*path, "server"), hint=hint)


def _actions(spec: ScenarioSpec) -> Iterator[tuple[KeyPath, Verb]]:
    """Every step's verb with its place; what an observe asks counts as one of its own."""
    for number, step in enumerate(spec.steps):
        path: KeyPath = ("steps", number, step.verb)
        yield path, step.action
        if isinstance(step.action, Observe):
            place, action = step.action.asked
            yield (*path, *place), action


def _names(spec: ScenarioSpec) -> Mapping[Kind, tuple[str, ...]]:
    """Everything that a step can name, by kind."""
    done = [step.action for step in spec.steps]
    users = tuple(dict.fromkeys(peer.user for peer in spec.peers.values() if peer.user))
    groups = tuple(action.name for action in done if isinstance(action, verbs.SetGroup))
    return {
        Kind.NETWORK: tuple(spec.networks),
        Kind.PEER: tuple(spec.peers),
        Kind.HOST: tuple(spec.hosts),
        Kind.MACHINE: (*spec.peers, *spec.hosts),
        Kind.USER: users,
        Kind.SUBJECT: (*users, *spec.people, *groups),
        Kind.PERSON: tuple(spec.people),
        Kind.PROVIDER: _providers(spec),
        Kind.OWNER: (*users, *spec.people),
        Kind.PART: (*verbs.SERVICE_PARTS, *spec.peers),
        Kind.RESOURCE: tuple(action.name for action in done if isinstance(action, verbs.AddResource)),
        Kind.KEY: tuple(action.name for action in done if isinstance(action, verbs.MakeKey)),
    }


def _providers(spec: ScenarioSpec) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*spec.providers, *(name for person in spec.people.values() for name in person.at))))


def _joins(peer: PeerSpec) -> bool:
    """Whether a peer joins at the start: where somebody has to sign in, nobody does."""
    return peer.joins == "at-once" and peer.user is not None


def _check_members(source: Source, spec: ScenarioSpec) -> None:
    for name in spec.peers.keys() & spec.hosts.keys():
        raise source.problem(f"{name} is a peer and a host", ("hosts", name), hint="give one of them another name")
    signed_in = {action.peer for _, action in _actions(spec) if isinstance(action, verbs.SignIn)}
    for name, peer in spec.peers.items():
        if peer.user is None and name not in signed_in:
            hint = f"user: NAME, or a step sign-in: {{peer: {name}, person: NAME}}"
            raise source.problem(f"{name} belongs to nobody, and nobody signs in there", ("peers", name), hint=hint)
        for number, network in enumerate(peer.networks):
            _known(source, ("peers", name, "networks", number), network, spec.networks, "network")
        if peer.resolver is not None:
            _known(source, ("peers", name, "resolver"), peer.resolver, spec.hosts, "host")
    _check_hosts(source, spec)
    _check_people(source, spec)
    for name, network_spec in spec.networks.items():
        if network_spec.gateway is not None:
            _check_gateway(source, spec, name, network_spec.gateway)


def _check_hosts(source: Source, spec: ScenarioSpec) -> None:
    places = set()
    for name, host in spec.hosts.items():
        for network, offset in host.networks.items():
            _known(source, ("hosts", name, "networks", network), network, spec.networks, "network")
            if (network, offset) in places:
                raise source.problem("Two hosts have the same address", ("hosts", name, "networks", network))
            places.add((network, offset))
        for record, target in host.records.items():
            _known(source, ("hosts", name, "records", record), target, spec.hosts, "host")


def _check_people(source: Source, spec: ScenarioSpec) -> None:
    """Steps that take a user or a person could not tell them apart."""
    for name in spec.people.keys() & {peer.user for peer in spec.peers.values()}:
        raise source.problem(f"{name} is a user and a person", ("people", name), hint="give one of them another name")


def _check_gateway(source: Source, spec: ScenarioSpec, network: str, gateway: str) -> None:
    path = ("networks", network, "gateway")
    _known(source, path, gateway, spec.hosts, "host")
    if not spec.hosts[gateway].forwards:
        raise source.problem(f"{gateway} forwards nothing", path, hint=f"hosts: {{{gateway}: {{forwards: true}}}}")
    if network not in spec.hosts[gateway].networks:
        hint = f"hosts: {{{gateway}: {{networks: {{{network}: .2}}}}}}"
        raise source.problem(f"{gateway} does not stand on {network}", path, hint=hint)


def _check_references(source: Source, names: Mapping[Kind, tuple[str, ...]], path: KeyPath, action: Verb) -> None:
    """Every field that refers to something refers to something that the file has."""
    for field, info in type(action).model_fields.items():
        key = info.alias or field
        value = getattr(action, field)
        for kind in _kinds(info.annotation, info.metadata):
            if isinstance(value, tuple):
                for number, name in enumerate(value):
                    _known(source, (*path, key, number), name, names[kind], kind)
            elif value is not None and value != "nothing":
                _known(source, (*path, key), value, names[kind], kind)


def _kinds(annotation: Any, metadata: Iterable[Any]) -> Iterator[Kind]:
    """The marks of a field, wherever its type nests them."""
    yield from (mark.to for mark in metadata if isinstance(mark, Refers))
    yield from _marked(annotation)


def _marked(annotation: Any) -> Iterator[Kind]:
    yield from (mark.to for mark in getattr(annotation, "__metadata__", ()) if isinstance(mark, Refers))
    for part in getattr(annotation, "__args__", ()):
        yield from _marked(part)


def _check_stands_on(source: Source, spec: ScenarioSpec, path: KeyPath, peer: str, network: str) -> None:
    if network not in spec.peers[peer].networks:
        hint = f"peers: {{{peer}: {{networks: [{network}]}}}}"
        raise source.problem(f"{peer} does not stand on {network}", (*path, "via"), hint=hint)


def _check_join(source: Source, spec: ScenarioSpec, path: KeyPath, action: verbs.Join) -> None:
    peer = spec.peers[action.peer]
    if peer.user is None:
        hint = f"sign-in: {{peer: {action.peer}, person: NAME}}, or peers: {{{action.peer}: {{user: NAME}}}}"
        raise source.problem(f"{action.peer} has no user whose key could enrol it", (*path, "peer"), hint=hint)
    if peer.joins != "later":
        hint = f"peers: {{{action.peer}: {{joins: later}}}}"
        raise source.problem(f"{action.peer} has joined at the start", (*path, "peer"), hint=hint)


def _check_sign_in(source: Source, spec: ScenarioSpec, path: KeyPath, action: verbs.SignIn) -> None:
    peer, at = spec.peers[action.peer], spec.people[action.person].at
    if _joins(peer):
        hint = f"peers: {{{action.peer}: {{}}}}"
        raise source.problem(f"{action.peer} has joined at the start by its user's key", (*path, "peer"), hint=hint)
    if action.provider is None and len(at) > 1:
        raise source.problem(f"{action.person} has several providers", path, hint=f"provider: {' or '.join(at)}")
    if action.provider is not None and action.provider not in at:
        hint = f"people: {{{action.person}: {{at: [{', '.join((*at, action.provider))}]}}}}"
        raise source.problem(f"{action.provider} does not know {action.person}", (*path, "provider"), hint=hint)


def _check_address(source: Source, spec: ScenarioSpec, path: KeyPath, action: Verb) -> None:
    """An address is noted at the first sign-in; without one, `kept` could never be true."""
    signed_in = {done.peer for _, done in _actions(spec) if isinstance(done, verbs.SignIn)}
    if isinstance(action, verbs.ExpectPeer) and action.address and action.peer not in signed_in:
        hint = f"sign-in: {{peer: {action.peer}, person: NAME}}"
        raise source.problem(f"Nobody signs in at {action.peer}, so no address is noted", (*path, "address"), hint=hint)


def _check_expect(source: Source, spec: ScenarioSpec, path: KeyPath, expect: Expect) -> None:
    if expect.by != "ping":
        _check_serves(source, spec, path, expect)
    on = _networks(spec, expect.target) & set(spec.peers[expect.source].networks)
    if on and expect.over == "overlay":
        raise source.problem(
            f"{expect.source} stands on {on.pop()} itself, so reaching {expect.target} proves nothing",
            (*path, "from"),
            hint="over: lan says that this is meant",
        )
    if not on and expect.over == "lan":
        raise source.problem(f"{expect.source} and {expect.target} share no LAN", (*path, "over"))


def _check_serves(source: Source, spec: ScenarioSpec, path: KeyPath, expect: Expect) -> None:
    """A negative that meets no server would hold for ever."""
    if expect.target in spec.peers:
        ports, hint = spec.peers[expect.target].serves, f"peers: {{{expect.target}: {{serves: [{expect.port}]}}}}"
    else:
        host = spec.hosts[expect.target]
        ports = host.ports if host.serves == "http" else ()
        hint = f"hosts: {{{expect.target}: {{serves: http}}}}"
    if not ports:
        raise source.problem(f"{expect.target} serves nothing that could be reached", (*path, "to"), hint=hint)
    if expect.port not in ports:
        served = ", ".join(map(str, ports))
        what = f"{expect.target} serves nothing on port {expect.port}"
        raise source.problem(what, (*path, "port"), why=f"only on {served}")


def _networks(spec: ScenarioSpec, machine: str) -> set[str]:
    if machine in spec.peers:
        return set()  # a peer is reached at its overlay address, wherever it stands
    return set(spec.hosts[machine].networks)


def _check_negatives(source: Source, spec: ScenarioSpec) -> None:
    """A negative means something only where the same probe succeeds elsewhere in the file."""
    expects = [(path, action) for path, action in _actions(spec) if isinstance(action, Expect)]
    asserted = {path for path, _ in expects if "observe" not in path}
    proved = {_probe(expect) for path, expect in expects if expect.reachable and path in asserted}
    for path, expect in expects:
        if not expect.reachable and path in asserted and _probe(expect) not in proved:
            raise source.problem(
                f"Nothing shows that {expect.source} could reach {expect.target} at all",
                path,
                why="a negative is proved by the same probe succeeding elsewhere in the file",
                hint=f"add a step: expect: {{from: {expect.source}, to: {expect.target}, reachable: true}}",
            )


def _probe(expect: Expect) -> tuple[str, str, str, int]:
    return expect.source, expect.target, expect.by, expect.port


def _check_questions(source: Source, spec: ScenarioSpec) -> None:
    asked: set[str] = set()
    for number, step in enumerate(spec.steps):
        if isinstance(step.action, Observe):
            if step.action.question in asked:
                path = ("steps", number, "observe", "question")
                raise source.problem(f"{step.action.question} is asked twice", path, hint="a question has one answer")
            asked.add(step.action.question)


def _known(source: Source, path: KeyPath, name: str, valid: Iterable[str], kind: str) -> None:
    names = list(valid)
    if name not in names:
        raise source.problem(f"There is no {kind} called {name}", path, hint=nearest(name, names))
