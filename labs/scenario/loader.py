"""Scenario files: found, read, and checked for what no schema can see."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from labs.model import Host, Inventory, Peer
from labs.scenario.schema import Action, Expect, ScenarioSpec
from labs.words import nearest
from labs.yamlsource import KeyPath, Source, load, parse, validated

SUFFIX = ".scenario.yaml"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario file: its name without folder and suffix, and what it says."""

    name: str
    spec: ScenarioSpec

    @property
    def inventory(self) -> Inventory:
        peers = (Peer(name, peer.user, peer.networks) for name, peer in self.spec.peers.items())
        hosts = (
            Host(name, network, offset, host.serves)
            for name, host in self.spec.hosts.items()
            for network, offset in host.networks.items()
        )
        return Inventory(tuple(self.spec.networks), tuple(peers), tuple(hosts))


def read(path: Path) -> Scenario:
    """Read and check one file. Raises FileProblem with file, line, column and key path."""
    return _checked(load(path), path.name)


def read_text(text: str, name: str) -> Scenario:
    """The same for a text; `name` is what errors call it."""
    return _checked(parse(text, name), name)


def _checked(source: Source, name: str) -> Scenario:
    spec = validated(source, ScenarioSpec)
    _check_members(source, spec)
    for number, step in enumerate(spec.steps):
        _check_step(source, spec, ("steps", number, step.verb), step.action)
    _check_negatives(source, spec)
    return Scenario(name.removesuffix(SUFFIX), spec)


def _check_members(source: Source, spec: ScenarioSpec) -> None:
    for name in spec.peers.keys() & spec.hosts.keys():
        raise source.problem(f"{name} is a peer and a host", ("hosts", name), hint="give one of them another name")
    for name, peer in spec.peers.items():
        for number, network in enumerate(peer.networks):
            _known(source, ("peers", name, "networks", number), network, spec.networks, "network")
    for name, host in spec.hosts.items():
        for network in host.networks:
            _known(source, ("hosts", name, "networks", network), network, spec.networks, "network")
    places = [(network, offset) for host in spec.hosts.values() for network, offset in host.networks.items()]
    if len(places) != len(set(places)):
        raise source.problem("Two hosts have the same address", ("hosts",))


def _check_step(source: Source, spec: ScenarioSpec, path: KeyPath, action: Action) -> None:
    if isinstance(action, Expect):
        _check_expect(source, spec, path, action)
        return
    _known(source, (*path, "network"), action.network, spec.networks, "network")
    _known(source, (*path, "via"), action.via, spec.peers, "peer")
    if action.network not in spec.peers[action.via].networks:
        raise source.problem(
            f"{action.via} does not stand on {action.network}",
            (*path, "via"),
            hint=f"peers: {{{action.via}: {{networks: [{action.network}]}}}}",
        )
    for number, consumer in enumerate(getattr(action, "consumers", ())):
        _known(source, (*path, "for", number), consumer, spec.peers, "peer")


def _check_expect(source: Source, spec: ScenarioSpec, path: KeyPath, expect: Expect) -> None:
    _known(source, (*path, "from"), expect.source, spec.peers, "peer")
    _known(source, (*path, "to"), expect.target, spec.hosts, "host")
    host = spec.hosts[expect.target]
    if host.serves is None:
        hint = f"hosts: {{{expect.target}: {{serves: http}}}}"
        raise source.problem(f"{expect.target} serves nothing that could be reached", (*path, "to"), hint=hint)
    if shared := set(host.networks) & set(spec.peers[expect.source].networks):
        raise source.problem(
            f"{expect.source} stands on {shared.pop()} itself, so reaching {expect.target} proves nothing",
            (*path, "from"),
        )
    if expect.seen_as:
        _known(source, (*path, "seen-as"), expect.seen_as, spec.peers, "peer")


def _check_negatives(source: Source, spec: ScenarioSpec) -> None:
    """A negative means something only where the same probe succeeds elsewhere in the file."""
    expects = [(n, step.action) for n, step in enumerate(spec.steps) if isinstance(step.action, Expect)]
    proved = {(expect.source, expect.target) for _, expect in expects if expect.reachable}
    for number, expect in expects:
        if not expect.reachable and (expect.source, expect.target) not in proved:
            raise source.problem(
                f"Nothing shows that {expect.source} could reach {expect.target} at all",
                ("steps", number, "expect"),
                why="a negative is proved by the same probe succeeding elsewhere in the file",
                hint=f"add a step: expect: {{from: {expect.source}, to: {expect.target}, reachable: true}}",
            )


def _known(source: Source, path: KeyPath, name: str, valid: Iterable[str], kind: str) -> None:
    names = list(valid)
    if name not in names:
        raise source.problem(f"There is no {kind} called {name}", path, hint=nearest(name, names))
