"""What each verb does on a lab: an operator's intents, and what befalls the machines."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property, singledispatchmethod
from ipaddress import IPv4Network

from labs.controlplanes import (
    Ability,
    Approvals,
    Expiry,
    LocalUsers,
    Machine,
    Resource,
    Resources,
    Route,
    Rule,
    SignInFilter,
    SignInFilters,
    UserApproval,
    lacking,
)
from labs.controlplanes.ready import serves
from labs.errors import ControlPlaneProblem, Refused
from labs.lab import Lab
from labs.lab.lab import WEB
from labs.lab.transit import route_out
from labs.model import Person, Role
from labs.results import Diagnosis, Layer, Observation
from labs.scenario import verbs
from labs.scenario.diagnosis import StepFailed
from labs.scenario.expectations import Asker, Evidence
from labs.scenario.loader import Scenario
from labs.scenario.schema import Observe, SettingsSpec
from labs.scenario.verbs import Verb
from labs.timing import SERVICE_READY_S, until

_LINK = """dev=$(ip -o -4 addr | while read -r _ dev _ address _; do
  case $address in "$1"/*) echo "$dev";; esac
done); ip link set "$dev" "$2" """


@dataclass
class Actor:
    """Carries out the steps of one scenario. `undo` is what a heal has to do, `called` how renamed peers are called,
    `people` those whom a step has changed."""

    scenario: Scenario
    lab: Lab
    undo: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    called: dict[str, str] = field(default_factory=dict)
    people: dict[str, Person] = field(default_factory=dict)
    observation: Observation | None = None

    @cached_property
    def asker(self) -> Asker:
        return Asker(self.scenario, self.lab)

    def carry_out(self, action: Verb) -> Evidence:
        """Carry out one step and return its evidence. Raises StepFailed, or LabsError when it could not be tried."""
        self.observation = None
        before = len(self.lab.journal.entries)
        if not isinstance(action, (verbs.Expectation, Observe)):
            self.asker.recovering = isinstance(action, (verbs.OfPart, verbs.Heal))
        evidence = self.do(action)
        entries = self.lab.journal.entries[before:]
        return evidence + tuple(f"{entry.kind} on {entry.subject}: {entry.action}" for entry in entries)

    @singledispatchmethod
    def do(self, action: Verb) -> Evidence:
        raise NotImplementedError(type(action).__name__)

    @do.register
    def _(self, action: verbs.Expectation) -> Evidence:
        return self.asker.ask(action)

    @do.register
    def _(self, action: Observe) -> Evidence:
        begin_s = self.lab.clock.now()
        try:
            evidence, answer = self.do(action.asked[1]), True
        except StepFailed as no:
            evidence, answer = (*no.evidence, no.diagnosis.seen), False
        except Refused as no:
            evidence, answer = (no.what, no.why), False
        took_s = round(self.lab.clock.now() - begin_s, 3)
        self.observation = Observation(question=action.question, answer=answer, took_s=took_s)
        return (f"{action.question}: {'yes' if answer else 'no'}", *evidence)

    @do.register
    def _(self, action: verbs.PublishRoute) -> Evidence:
        route = Route(
            action.network,
            self.lab.networks[action.network],
            self.lab.machine(action.via),
            self._machines(action.consumers),
            action.model or "network",
        )
        self.lab.control_plane.publish_route(route)
        return ()

    @do.register
    def _(self, action: verbs.WithdrawRoute) -> Evidence:
        prefix = self.lab.networks[action.network]
        self.lab.control_plane.withdraw_route(Route(action.network, prefix, self.lab.machine(action.via)))
        return ()

    @do.register
    def _(self, action: verbs.AdvertiseRoutes) -> Evidence:
        self._approvals().advertise_routes(self.lab.machine(action.via), self._prefixes(action.networks))
        return ()

    @do.register
    def _(self, action: verbs.ApproveRoutes) -> Evidence:
        self._approvals().approve_routes(self.lab.machine(action.via), self._prefixes(action.networks))
        return ()

    @do.register
    def _(self, action: verbs.AcceptRoutes) -> Evidence:
        self._approvals().accept_routes(self.lab.machine(action.on))
        return ()

    @do.register
    def _(self, action: verbs.AutoApprove) -> Evidence:
        self._approvals().auto_approve(self._prefixes(action.networks), action.user)
        return ()

    @do.register
    def _(self, action: verbs.AddResource) -> Evidence:
        address = action.domain or ""
        if action.host:
            address = str(self.asker.address(action.host))
        if action.network:
            address = str(self.lab.networks[action.network])
        self._resources().add_resource(Resource(action.name, address, self.lab.machine(action.via)))
        return ()

    @do.register
    def _(self, action: verbs.AllowResource) -> Evidence:
        self._resources().allow_resource(action.name, action.source, action.ports)
        return ()

    @do.register
    def _(self, action: verbs.RemoveResource) -> Evidence:
        self._resources().remove_resource(action.name)
        return ()

    @do.register
    def _(self, action: verbs.OfferExit) -> Evidence:
        self.lab.control_plane.offer_exit(self.lab.machine(action.via), self._machines(action.consumers))
        return ()

    @do.register
    def _(self, action: verbs.WithdrawExit) -> Evidence:
        self.lab.control_plane.withdraw_exit(self.lab.machine(action.via))
        return ()

    @do.register
    def _(self, action: verbs.ChooseExit) -> Evidence:
        on, via = self.lab.machine(action.on), self.lab.machine(action.via)
        self.lab.control_plane.choose_exit(on, via, lan_access=action.lan_access)
        return ()

    @do.register
    def _(self, action: verbs.LeaveExit) -> Evidence:
        self.lab.control_plane.leave_exit(self.lab.machine(action.on))
        return ()

    @do.register
    def _(self, action: verbs.SetRecord) -> Evidence:
        self.lab.control_plane.set_record(action.name, self.asker.address(action.host))
        return ()

    @do.register
    def _(self, action: verbs.RemoveRecord) -> Evidence:
        self.lab.control_plane.remove_record(action.name)
        return ()

    @do.register
    def _(self, action: verbs.SplitDns) -> Evidence:
        self.lab.control_plane.split_dns(action.domain, self.asker.address(action.server))
        return ()

    @do.register
    def _(self, action: verbs.DropSplitDns) -> Evidence:
        self.lab.control_plane.drop_split_dns(action.domain)
        return ()

    @do.register
    def _(self, action: SettingsSpec) -> Evidence:
        self.lab.control_plane.configure(action.settings)
        return ()

    @do.register
    def _(self, action: verbs.DenyAll) -> Evidence:  # noqa: ARG002 - dispatched on its type
        self.lab.control_plane.deny_all()
        return ()

    @do.register
    def _(self, action: verbs.Allow) -> Evidence:
        self.lab.control_plane.allow(self._rule(action))
        return ()

    @do.register
    def _(self, action: verbs.Revoke) -> Evidence:
        self.lab.control_plane.revoke(self._rule(action))
        return ()

    @do.register
    def _(self, action: verbs.AllowExit) -> Evidence:
        self.lab.control_plane.allow_exit(action.source, action.via)
        return ()

    @do.register
    def _(self, action: verbs.SetGroup) -> Evidence:
        self.lab.control_plane.set_group(action.name, action.users)
        return ()

    @do.register
    def _(self, action: verbs.MakeKey) -> Evidence:
        self.lab.control_plane.make_key(
            action.name, action.user, one_off=action.uses == "one-off", lasts_s=action.lasts
        )
        return ()

    @do.register
    def _(self, action: verbs.Join) -> Evidence:
        peer = next(peer for peer in self.scenario.inventory.peers if peer.name == action.peer)
        try:
            self.lab.control_plane.join(peer, self.lab.machine(action.peer), action.key or "", action.within)
        except Refused as problem:
            if action.refused:
                return (f"refused: {problem.why.splitlines()[-1] if problem.why else problem.what}",)
            seen = f"{action.peer} could not join: {problem.why or problem.what}"
            raise StepFailed(Diagnosis(layer=Layer.CONTROL_PLANE, seen=seen)) from problem
        if action.refused:
            raise StepFailed(Diagnosis(layer=Layer.CONTROL_PLANE, seen=f"{action.peer} joined; it was to be refused"))
        return ()

    @do.register
    def _(self, action: verbs.SignIn) -> Evidence:
        peer = next(peer for peer in self.scenario.inventory.peers if peer.name == action.peer)
        person = self.people.get(action.person) or self.scenario.person(action.person)
        at = action.provider or next(iter(person.at), "")
        try:
            self.lab.control_plane.sign_in(peer, self.lab.machine(peer.name), person, at, action.within)
        except Refused as no:
            if action.refused:
                return (f"refused: {no.what}", no.why)
            seen = f"{person.name} could not sign in at {peer.name}: {no.what}"
            raise StepFailed(Diagnosis(layer=Layer.IDENTITY, seen=seen), (no.why,)) from no
        if action.refused:
            seen = f"{person.name} signed in at {peer.name}; that was to be refused"
            raise StepFailed(Diagnosis(layer=Layer.IDENTITY, seen=seen))
        self.asker.note_sign_in(peer.name, person.name)
        return ()

    @do.register
    def _(self, action: verbs.AddLocalUser) -> Evidence:
        self._local_users().add_local_user(self.scenario.person(action.person))
        return ()

    @do.register
    def _(self, action: verbs.InviteUser) -> Evidence:
        self._local_users().invite_user(self.scenario.person(action.person))
        return ()

    @do.register
    def _(self, action: verbs.ApproveUser) -> Evidence:
        plane = self.lab.control_plane
        if not isinstance(plane, UserApproval):
            raise lacking(plane, Ability.USER_APPROVAL)
        plane.approve_user(self.scenario.person(action.person))
        return ()

    @do.register
    def _(self, action: verbs.RemoveUser) -> Evidence:
        found = self.asker.listed_users(action.user)
        if not found:
            raise ControlPlaneProblem("The control plane lists no such user", where=action.user)
        for user in found:
            self.lab.control_plane.remove_user(user)
        return ()

    @do.register
    def _(self, action: verbs.RemoveFormerSelf) -> Evidence:
        now = self.asker.current_ids(action.person)
        former = [user for user in self.asker.listed_users(action.person) if user.id not in now]
        for user in former:
            self.lab.control_plane.remove_user_with_peers(user)
        return (f"{len(former)} users of {action.person}'s from before, and their peers, are gone",)

    @do.register
    def _(self, action: verbs.ChangePerson) -> Evidence:
        before = self.people.get(action.person) or self.scenario.person(action.person)
        person = replace(
            before,
            called=action.called or before.called,
            email=action.email or before.email,
            verified=before.verified if action.verified is None else action.verified,
        )
        self.people[action.person] = self.asker.people[action.person] = person
        for realm in person.at:
            self.lab.context.keycloak().change_person(realm, person)
        return (f"the provider calls {person.name} {person.called}, {person.email}",)

    @do.register
    def _(self, action: verbs.AddProvider) -> Evidence:
        self.lab.control_plane.add_provider(action.provider)
        return ()

    @do.register
    def _(self, action: verbs.SwitchProvider) -> Evidence:
        self.lab.control_plane.switch_provider(action.provider)
        return ()

    @do.register
    def _(self, action: verbs.RestrictSignIn) -> Evidence:
        plane = self.lab.control_plane
        if not isinstance(plane, SignInFilters):
            raise lacking(plane, Ability.SIGN_IN_FILTERS)
        emails = tuple(self.scenario.person(name).email for name in action.people)
        plane.restrict_sign_in(SignInFilter(action.domains, emails, action.groups, action.unverified == "refused"))
        return ()

    @do.register
    def _(self, action: verbs.AllowProviderGroup) -> Evidence:
        self.lab.control_plane.allow_provider_group(action.group, self._subject(action.target))
        return ()

    @do.register
    def _(self, action: verbs.RemovePeer) -> Evidence:
        self.lab.control_plane.remove_peer(self.called.get(action.peer, action.peer))
        return ()

    @do.register
    def _(self, action: verbs.RenamePeer) -> Evidence:
        self.lab.control_plane.rename_peer(self.called.get(action.peer, action.peer), action.to)
        self.called[action.peer] = action.to
        return ()

    @do.register
    def _(self, action: verbs.ExpirePeer) -> Evidence:
        plane = self.lab.control_plane
        if not isinstance(plane, Expiry):
            raise lacking(plane, Ability.EXPIRY)
        plane.expire_peer(self.called.get(action.peer, action.peer))
        return ()

    @do.register
    def _(self, action: verbs.Stop) -> Evidence:
        self.lab.engine.stop(self._part(action.part).container_id)
        return (f"{action.part} is stopped",)

    @do.register
    def _(self, action: verbs.Start) -> Evidence:
        return self._started(action.part)

    @do.register
    def _(self, action: verbs.Restart) -> Evidence:
        self.lab.engine.stop(self._part(action.part).container_id)
        return self._started(action.part)

    @do.register
    def _(self, action: verbs.Pause) -> Evidence:
        self.lab.engine.pause(self._part(action.part).container_id)
        return (f"{action.part} is frozen",)

    @do.register
    def _(self, action: verbs.Resume) -> Evidence:
        self.lab.engine.unpause(self._part(action.part).container_id)
        return (f"{action.part} goes on",)

    @do.register
    def _(self, action: verbs.Cut) -> Evidence:
        address = str(self.lab.machine(action.peer).addresses[self.lab.control])
        self._inside(action.peer, ("sh", "-c", _LINK, "sh", address, "down"))
        self.undo.append((action.peer, ("sh", "-c", _LINK, "sh", address, "up")))
        return (f"{action.peer}'s link is down",)

    @do.register
    def _(self, action: verbs.Partition) -> Evidence:
        first, second = action.between
        for one, other in ((first, second), (second, first)):
            for address in self.lab.machine(other).addresses.values():
                self._inside(one, ("ip", "route", "add", "blackhole", f"{address}/32"))
                self.undo.append((one, ("ip", "route", "del", "blackhole", f"{address}/32")))
        return (f"{first} and {second} drop each other's packets",)

    @do.register
    def _(self, action: verbs.Heal) -> Evidence:  # noqa: ARG002 - dispatched on its type
        undone = len(self.undo)
        while self.undo:
            self._inside(*self.undo.pop())
        return (f"{undone} obstacles are gone",)

    def _rule(self, action: verbs.Allow) -> Rule:
        return Rule(self._subject(action.source), self._subject(action.target), action.ports)

    def _subject(self, name: str) -> str:
        """People are named by e-mail address, as both products name them."""
        return self.scenario.person(name).email if name in self.scenario.spec.people else name

    def _local_users(self) -> LocalUsers:
        plane = self.lab.control_plane
        if not isinstance(plane, LocalUsers):
            raise lacking(plane, Ability.LOCAL_USERS)
        return plane

    def _approvals(self) -> Approvals:
        plane = self.lab.control_plane
        if not isinstance(plane, Approvals):
            raise lacking(plane, Ability.APPROVALS)
        return plane

    def _resources(self) -> Resources:
        plane = self.lab.control_plane
        if not isinstance(plane, Resources):
            raise lacking(plane, Ability.RESOURCES)
        return plane

    def _machines(self, names: tuple[str, ...]) -> tuple[Machine, ...]:
        return tuple(self.lab.machine(name) for name in names)

    def _prefixes(self, networks: tuple[str, ...]) -> tuple[IPv4Network, ...]:
        return tuple(self.lab.networks[network] for network in networks)

    def _part(self, part: str) -> Machine:
        return self.lab.machine(self.lab.control_plane.parts.get(part, part))

    def _inside(self, peer: str, argv: tuple[str, ...]) -> None:
        self.lab.context.run(self.lab.machine(peer).container_id, argv, where=peer)

    def _started(self, part: str) -> Evidence:
        """Start a part and wait until it serves, or its daemon answers; what shares its network starts anew too."""
        machine = self._part(part)
        self.lab.engine.start(machine.container_id)
        member = self.lab.member(machine.name)
        if member.role is Role.PEER:
            route_out(self.lab.engine, machine, machine.addresses, self.scenario.inventory, self.lab.networks)
            self.lab.control_plane.wait_for_daemon(machine)
            if (beside := f"{part}{WEB}") in self.lab.members:
                self.lab.engine.stop(self.lab.machine(beside).container_id, grace_s=1)
                self.lab.engine.start(self.lab.machine(beside).container_id)
        ready = member.ready
        if ready is not None:
            until(
                self.lab.clock,
                lambda: serves(self.lab.reach.dial_once_open, machine.addresses[self.lab.control], ready),
                lambda wrong: not wrong,
                what=f"The service {machine.name}",
                timeout_s=SERVICE_READY_S,
                where=machine.name,
            )
        return (f"{part} runs",)
