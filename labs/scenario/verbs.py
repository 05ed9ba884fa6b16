"""Every verb of a scenario with its arguments. What each one does stands in steps.py and expectations.py."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from labs.controlplanes import Ability, Path
from labs.scenario.fields import (
    AHost,
    AKey,
    AMachine,
    ANetwork,
    AnOwner,
    APart,
    APeer,
    APerson,
    AProvider,
    AResource,
    ASubject,
    AUser,
    Domain,
    Duration,
    Email,
    LookedUp,
    Model,
    Name,
    TcpPort,
)
from labs.timing import JOIN_S, SIGN_IN_S

SERVICE_PARTS = {"control-plane": None, "signal": Ability.SIGNAL, "relay": Ability.RELAY}


class Verb(Model):
    """One thing a step can say. A product that lacks `ability` is one the scenario does not apply to."""

    ability: ClassVar[Ability | None] = None

    def needs(self) -> Ability | None:
        return self.ability


class Expectation(Verb):
    """Asked again and again until it is so, for at most `within`."""

    within: Duration = 0.0


class Lasting(Expectation):
    """One whose no has to hold for a time, `holds`, before it is believed."""

    holds: Duration | None = None


class Expect(Lasting):
    """What one peer can reach. Reaching it comes about `within` that time; a negative then holds for `holds`.

    `over: lan` says that the peer stands on the target's own network and is meant to.
    """

    source: Annotated[APeer, Field(alias="from")]
    target: Annotated[AMachine, Field(alias="to")]
    reachable: bool
    by: Literal["http", "tcp", "ping"] = "http"
    port: TcpPort = 80
    seen_as: APeer | None = None
    over: Literal["overlay", "lan"] = "overlay"

    @model_validator(mode="after")
    def _coherent(self) -> Expect:
        if self.seen_as and not self.reachable:
            raise ValueError("seen-as says whom the server saw calling, so it needs reachable: true")
        if self.seen_as and self.by != "http":
            raise ValueError("seen-as is read from a web server's log, so it needs by: http")
        if self.holds is not None and self.reachable:
            raise ValueError("holds is for a negative, which has to hold for a time")
        if self.by == "ping" and "port" in self.model_fields_set:
            raise ValueError("a ping has no port")
        return self


class ExpectName(Lasting):
    """What a name means on one peer, asked as any program there asks. {domain} is where the product puts its peers."""

    on: APeer
    name: LookedUp
    means: AMachine | Literal["nothing"]


class ExpectPath(Expectation):
    """Whether two peers' packets go directly or through a relay."""

    source: Annotated[APeer, Field(alias="from")]
    target: Annotated[APeer, Field(alias="to")]
    path: Literal[Path.DIRECT, Path.RELAYED]


class ExpectRoute(Lasting):
    """Whether a peer has a route to a network, by its own client."""

    on: APeer
    network: ANetwork
    present: bool


class ExpectExit(Lasting):
    """Whether a peer is offered an exit."""

    on: APeer
    via: APeer
    offered: bool


class ExpectPeer(Expectation):
    """How the control plane lists a peer; `called` is a name given by rename-peer, `owner` whom it belongs to.

    `address: kept` asks whether it has the address that it had when it first joined.
    """

    peer: APeer
    called: Name | None = None
    listed: bool = True
    online: bool | None = None
    expired: bool | None = None
    owner: AnOwner | None = None
    address: Literal["kept"] | None = None

    @model_validator(mode="after")
    def _coherent(self) -> ExpectPeer:
        if not self.listed and (self.online, self.expired, self.owner, self.address) != (None, None, None, None):
            raise ValueError("a peer that is not listed is neither online nor expired, and nobody's")
        return self


class ExpectUser(Expectation):
    """How the control plane lists a user or person: how many users it has for them, and what it says of the last."""

    user: AnOwner
    accounts: Annotated[int, Field(ge=0)] | None = None
    called: str | None = None
    email: Email | None = None
    pending: bool | None = None

    @model_validator(mode="after")
    def _coherent(self) -> ExpectUser:
        said = (self.called, self.email, self.pending)
        if self.accounts == 0 and said != (None, None, None):
            raise ValueError("a user that is not there is called nothing")
        return self


class ExpectChallenge(Expectation):
    """Whether the identity provider's own log shows a challenge (PKCE, RFC 7636) in a sign-in since the last start."""

    ability = Ability.PROVIDER
    method: Literal["S256", "plain", "none"] = "S256"


class ExpectEvent(Expectation):
    """That the audit trail shows an activity, as peer.setupkey.add."""

    ability = Ability.AUDIT
    event: str


class PublishRoute(Verb):
    """A LAN becomes reachable through a router, for these peers."""

    network: ANetwork
    via: APeer
    consumers: Annotated[tuple[APeer, ...], Field(alias="for", min_length=1)]
    model: Literal["network", "route"] | None = None

    def needs(self) -> Ability | None:
        return Ability.ROUTE_MODELS if self.model else None


class WithdrawRoute(Verb):
    """The LAN is no longer offered through that router."""

    network: ANetwork
    via: APeer


class AdvertiseRoutes(Verb):
    """A router says which LANs it could lead to; these and no others."""

    ability = Ability.APPROVALS
    via: APeer
    networks: tuple[ANetwork, ...]


class ApproveRoutes(Verb):
    """The server agrees to these routes of a router, and to no others."""

    ability = Ability.APPROVALS
    via: APeer
    networks: tuple[ANetwork, ...]


class AcceptRoutes(Verb):
    """A peer uses the routes that it is offered."""

    ability = Ability.APPROVALS
    on: APeer


class AutoApprove(Verb):
    """What peers of this user advertise within these networks needs no approval."""

    ability = Ability.APPROVALS
    networks: Annotated[tuple[ANetwork, ...], Field(min_length=1)]
    user: AUser


class AddResource(Verb):
    """One host, one network or one domain behind a router becomes something that a policy can open."""

    ability = Ability.RESOURCES
    name: Name
    via: APeer
    host: AHost | None = None
    network: ANetwork | None = None
    domain: Domain | None = None

    @model_validator(mode="after")
    def _one(self) -> AddResource:
        if sum(part is not None for part in (self.host, self.network, self.domain)) != 1:
            raise ValueError("a resource is one of host, network and domain")
        return self


class AllowResource(Verb):
    """Peers of a user or group may reach a resource, on these TCP ports or with any traffic."""

    ability = Ability.RESOURCES
    name: AResource
    source: Annotated[ASubject, Field(alias="from")]
    ports: tuple[TcpPort, ...] = ()


class RemoveResource(Verb):
    """The resource, and what opens it, is gone."""

    ability = Ability.RESOURCES
    name: AResource


class OfferExit(Verb):
    """These peers may leave through a peer; none does before it chooses to."""

    via: APeer
    consumers: Annotated[tuple[APeer, ...], Field(alias="for", min_length=1)]


class WithdrawExit(Verb):
    """The exit is offered no more."""

    via: APeer


class ChooseExit(Verb):
    """A peer sends everything else through an exit; its own LAN too, unless `lan-access`."""

    on: APeer
    via: APeer
    lan_access: bool = False


class LeaveExit(Verb):
    """A peer uses no exit any more."""

    on: APeer


class SetRecord(Verb):
    """A name means a host, on every peer."""

    name: Domain
    host: AHost


class RemoveRecord(Verb):
    name: Domain


class SplitDns(Verb):
    """Peers ask this host about names in a domain, and about no others."""

    domain: Domain
    server: AHost


class DropSplitDns(Verb):
    domain: Domain


class DenyAll(Verb):
    """Nothing is admitted between peers any more but what allow admits."""


class Allow(Verb):
    """Peers of one user or group may open connections to those of another, on these TCP ports or with any traffic."""

    source: Annotated[ASubject, Field(alias="from")]
    target: Annotated[ASubject, Field(alias="to")]
    ports: tuple[TcpPort, ...] = ()


class Revoke(Allow):
    """Undo an allow that said the same."""


class AllowExit(Verb):
    """Peers of one user may leave through exits of another."""

    source: Annotated[AUser, Field(alias="from")]
    via: AUser


class SetGroup(Verb):
    """A group consists of the peers of these users, and of no others."""

    name: Name
    users: tuple[AUser, ...]


class MakeKey(Verb):
    """A key that enrols peers of a user."""

    name: Name
    user: AUser
    uses: Literal["one-off", "reusable"]
    lasts: Duration = 3600.0


class Join(Verb):
    """A peer that the file says joins later does so now; `refused` says that it must not work."""

    peer: APeer
    key: AKey | None = None
    refused: bool = False
    within: Duration = JOIN_S


class SignIn(Verb):
    """Somebody signs in at a peer, at their provider, or as one of the product's own users; anew if need be.

    `provider` is needed where the person has several; `refused` says that it must not work.
    """

    peer: APeer
    person: APerson
    provider: AProvider | None = None
    refused: bool = False
    within: Duration = SIGN_IN_S


class AddLocalUser(Verb):
    """The product itself gets a user with a password."""

    ability = Ability.LOCAL_USERS
    person: APerson


class InviteUser(Verb):
    """An administrator invites somebody, who accepts with a password of their own."""

    ability = Ability.LOCAL_USERS
    person: APerson


class ApproveUser(Verb):
    """Whoever waits for an administrator does so no more."""

    ability = Ability.USER_APPROVAL
    person: APerson


class RemoveUser(Verb):
    """All users that the control plane has for somebody are deleted there."""

    user: AnOwner


class RemoveFormerSelf(Verb):
    """What the control plane still has of a person from before their last sign-in is deleted, with its peers."""

    ability = Ability.PROVIDER
    person: APerson


class ChangePerson(Verb):
    """What the identity provider says of a person changes there: no operator's action."""

    ability = Ability.PROVIDER
    person: APerson
    called: str | None = None
    email: Email | None = None
    verified: bool | None = None


class AddProvider(Verb):
    """People can sign in at a further provider, besides those there are."""

    ability = Ability.PROVIDER
    provider: AProvider


class SwitchProvider(Verb):
    """People sign in at this provider from now on, and at no other."""

    ability = Ability.PROVIDER
    provider: AProvider


class RestrictSignIn(Verb):
    """Who may sign in: all that is said has to hold; what is not said is not asked.

    `unverified: admitted` lets people in whose e-mail address is not verified.
    """

    ability = Ability.SIGN_IN_FILTERS
    domains: tuple[Domain, ...] = ()
    people: tuple[APerson, ...] = ()
    groups: tuple[Name, ...] = ()
    unverified: Literal["refused", "admitted"] = "refused"


class AllowProviderGroup(Verb):
    """Whoever is in a group of the identity provider may reach the peers of a user, person or group."""

    ability = Ability.PROVIDER
    group: Name
    target: Annotated[ASubject, Field(alias="to")]


class RemovePeer(Verb):
    """The peer is deleted at the server."""

    peer: APeer


class RenamePeer(Verb):
    """The peer gets another name at the server."""

    peer: APeer
    to: Name


class ExpirePeer(Verb):
    """The peer has to be authorised anew."""

    ability = Ability.EXPIRY
    peer: APeer


class OfPart(Verb):
    """Something done to a peer's machine, or to the service behind control-plane, signal or relay."""

    part: APart

    def needs(self) -> Ability | None:
        return SERVICE_PARTS.get(self.part)


class Stop(OfPart):
    """A part ends, as after a shutdown."""


class Start(OfPart):
    """A stopped part starts again."""


class Restart(OfPart):
    """A part stops and starts again."""


class Pause(OfPart):
    """A part freezes: it keeps its connections and answers nothing."""


class Resume(OfPart):
    """A paused part goes on."""


class Cut(Verb):
    """A peer's link to everybody but its LANs is down, as after a pulled cable."""

    peer: APeer


class Partition(Verb):
    """Two peers lose every direct path to each other; both still reach the services."""

    between: Annotated[tuple[APeer, ...], Field(min_length=2, max_length=2)]


class Heal(Verb):
    """Every cut and partition is undone."""
