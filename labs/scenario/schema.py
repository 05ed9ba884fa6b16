"""What a whole scenario file may say: who takes part, what the lab must be like, and the steps."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from labs.controlplanes import Ability
from labs.model import Product, Settings
from labs.scenario import verbs
from labs.scenario.fields import Domain, Duration, Email, Model, Name, Offset, Question, TcpPort
from labs.scenario.verbs import Expectation, Verb


class NetworkSpec(Model):
    """A LAN; its prefix is the lab's choice. `kind: public` stands for the internet, which exits forward to.

    `gateway` is the host that leads out of it.
    """

    kind: Literal["private", "public"] = "private"
    gateway: Name | None = None


class PeerSpec(Model):
    """A machine that runs the product's client. `networks` are the LANs it stands on, `serves` the TCP ports on
    which a web server answers there; with `joins: later` a join step enrols it. `resolver` is the DNS server that
    the machine itself asks. One without a `user` is enrolled by somebody who signs in there."""

    user: Name | None = None
    networks: tuple[Name, ...] = ()
    serves: tuple[TcpPort, ...] = ()
    joins: Literal["at-once", "later"] = "at-once"
    resolver: Name | None = None


class PersonSpec(Model):
    """Somebody who signs in: `at` these identity providers, or without one as the product's own user.

    `email` is NAME@example.test unless said, `groups` are those at the providers.
    """

    at: tuple[Name, ...] = ()
    called: Annotated[str, Field(min_length=3)] | None = None
    email: Email | None = None
    groups: tuple[Name, ...] = ()
    verified: bool = True


class ProviderSpec(Model):
    """An identity provider, an issuer of its own. `tokens-last` is how long it says that a sign-in is good for."""

    tokens_last: Annotated[Duration, Field(ge=1)] | None = None


class HostSpec(Model):
    """A machine without an agent, at a place in one network; a gateway (`forwards`) stands in several."""

    networks: Annotated[dict[Name, Offset], Field(min_length=1)]
    serves: Literal["http", "dns"] | None = None
    ports: tuple[TcpPort, ...] = (80,)
    records: Annotated[dict[Domain, Name], Field(default_factory=dict)]
    forwards: bool = False

    @model_validator(mode="after")
    def _coherent(self) -> HostSpec:
        if self.records and self.serves != "dns":
            raise ValueError("records are what a DNS server answers, so they need serves: dns")
        if len(self.networks) > 1 and not self.forwards:
            raise ValueError("a host stands in one network, unless it forwards between them")
        if "ports" in self.model_fields_set and self.serves != "http":
            raise ValueError("ports are where a web server answers, so they need serves: http")
        return self


class HeadscaleSettings(Model):
    """`failover-probe` is how often the server probes routers that stand by for each other (default 10s).

    `pkce`: whether it sends a challenge; `expiry-from-token`: whether a peer expires with the token that signed it in.
    """

    failover_probe: Annotated[Duration, Field(ge=2)] | None = None
    pkce: bool | None = None
    expiry_from_token: bool | None = None


class NetBirdSettings(Model):
    """`lazy-connections: false` makes peers connect before there is traffic, and keep it up. `user-approval`: whether
    whoever signs in for the first time waits for an administrator."""

    lazy_connections: bool | None = None
    user_approval: bool | None = None


class SettingsSpec(Verb):
    """What the lab sets otherwise than the product does by itself: before the start, or as a step while it runs."""

    headscale: HeadscaleSettings = HeadscaleSettings()
    netbird: NetBirdSettings = NetBirdSettings()

    @property
    def settings(self) -> Settings:
        return Settings(
            failover_probe_s=self.headscale.failover_probe,
            lazy_connections=self.netbird.lazy_connections,
            pkce=self.headscale.pkce,
            expiry_from_token=self.headscale.expiry_from_token,
            user_approval=self.netbird.user_approval,
        )


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}s"
    if isinstance(value, dict):
        return "(" + _said(value) + ")"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value)


def _said(arguments: dict[str, Any]) -> str:
    return ", ".join(f"{key} {_plain(value)}" for key, value in arguments.items())


class Step(Model):
    """One verb with its arguments."""

    expect: verbs.Expect | None = None
    expect_name: verbs.ExpectName | None = None
    expect_path: verbs.ExpectPath | None = None
    expect_route: verbs.ExpectRoute | None = None
    expect_exit: verbs.ExpectExit | None = None
    expect_peer: verbs.ExpectPeer | None = None
    expect_event: verbs.ExpectEvent | None = None
    expect_user: verbs.ExpectUser | None = None
    expect_challenge: verbs.ExpectChallenge | None = None
    change_settings: SettingsSpec | None = None
    observe: Observe | None = None
    publish_route: verbs.PublishRoute | None = None
    withdraw_route: verbs.WithdrawRoute | None = None
    advertise_routes: verbs.AdvertiseRoutes | None = None
    approve_routes: verbs.ApproveRoutes | None = None
    accept_routes: verbs.AcceptRoutes | None = None
    auto_approve: verbs.AutoApprove | None = None
    add_resource: verbs.AddResource | None = None
    allow_resource: verbs.AllowResource | None = None
    remove_resource: verbs.RemoveResource | None = None
    offer_exit: verbs.OfferExit | None = None
    withdraw_exit: verbs.WithdrawExit | None = None
    choose_exit: verbs.ChooseExit | None = None
    leave_exit: verbs.LeaveExit | None = None
    set_record: verbs.SetRecord | None = None
    remove_record: verbs.RemoveRecord | None = None
    split_dns: verbs.SplitDns | None = None
    drop_split_dns: verbs.DropSplitDns | None = None
    deny_all: verbs.DenyAll | None = None
    allow: verbs.Allow | None = None
    revoke: verbs.Revoke | None = None
    allow_exit: verbs.AllowExit | None = None
    set_group: verbs.SetGroup | None = None
    make_key: verbs.MakeKey | None = None
    join: verbs.Join | None = None
    sign_in: verbs.SignIn | None = None
    add_local_user: verbs.AddLocalUser | None = None
    invite_user: verbs.InviteUser | None = None
    approve_user: verbs.ApproveUser | None = None
    remove_user: verbs.RemoveUser | None = None
    remove_former_self: verbs.RemoveFormerSelf | None = None
    change_person: verbs.ChangePerson | None = None
    add_provider: verbs.AddProvider | None = None
    switch_provider: verbs.SwitchProvider | None = None
    restrict_sign_in: verbs.RestrictSignIn | None = None
    allow_provider_group: verbs.AllowProviderGroup | None = None
    remove_peer: verbs.RemovePeer | None = None
    rename_peer: verbs.RenamePeer | None = None
    expire_peer: verbs.ExpirePeer | None = None
    stop: verbs.Stop | None = None
    start: verbs.Start | None = None
    restart: verbs.Restart | None = None
    pause: verbs.Pause | None = None
    resume: verbs.Resume | None = None
    cut: verbs.Cut | None = None
    partition: verbs.Partition | None = None
    heal: verbs.Heal | None = None

    @model_validator(mode="after")
    def _one_verb(self) -> Step:
        if len(self.model_fields_set) != 1:
            raise ValueError("a step is one verb with its arguments")
        return self

    @property
    def verb(self) -> str:
        (field,) = self.model_fields_set
        return field.replace("_", "-")

    @property
    def acts(self) -> str:
        """The verb that is carried out: the step's own, or the one that is attempted."""
        attempt = self.observe.attempt if self.observe else None
        return attempt.verb if attempt else self.verb

    @property
    def text(self) -> str:
        """The step as the file writes it."""
        arguments = self.action.model_dump(by_alias=True, exclude_unset=True)
        last = {key: arguments.pop(key) for key in ("within", "holds") if key in arguments}
        said = _said(arguments | last)
        return f"{self.verb}: {said}" if said else self.verb

    @property
    def action(self) -> Verb:
        action: Verb = getattr(self, next(iter(self.model_fields_set)))
        return action


class Observe(Verb):
    """Ask an expectation, or attempt a step, and record whether it came about: neither answer passes or fails.

    A step that the product refuses is answered with no; one that could not be tried is an error.
    """

    question: Question
    expect: verbs.Expect | None = None
    expect_name: verbs.ExpectName | None = None
    expect_path: verbs.ExpectPath | None = None
    expect_route: verbs.ExpectRoute | None = None
    expect_peer: verbs.ExpectPeer | None = None
    expect_exit: verbs.ExpectExit | None = None
    expect_event: verbs.ExpectEvent | None = None
    expect_user: verbs.ExpectUser | None = None
    expect_challenge: verbs.ExpectChallenge | None = None
    attempt: Step | None = None

    @model_validator(mode="after")
    def _one(self) -> Observe:
        if len(self.model_fields_set) != 2 or "question" not in self.model_fields_set:
            raise ValueError("observe has a question, and one expectation or attempt that answers it")
        if self.attempt is not None and isinstance(self.attempt.action, (Observe, Expectation)):
            raise ValueError("what is attempted is something to do; an expectation stands in observe itself")
        return self

    @property
    def asked(self) -> tuple[tuple[str, ...], Verb]:
        """What answers it: its place below this step, and the verb."""
        if self.attempt is not None:
            return ("attempt", self.attempt.verb), self.attempt.action
        (field,) = self.model_fields_set - {"question"}
        found: Expectation = getattr(self, field)
        return (field.replace("_", "-"),), found

    def needs(self) -> Ability | None:
        return self.asked[1].needs()


Step.model_rebuild()


class ScenarioSpec(Model):
    """A whole scenario file. `topology` names the one it needs for each product, where the default will not do."""

    title: Annotated[str, Field(min_length=1)]
    topology: Annotated[dict[Product, str], Field(default_factory=dict)]
    settings: SettingsSpec = SettingsSpec()
    shares_lab: bool = False
    networks: Annotated[dict[Name, NetworkSpec], Field(default_factory=dict)]
    peers: Annotated[dict[Name, PeerSpec], Field(min_length=1)]
    hosts: Annotated[dict[Name, HostSpec], Field(default_factory=dict)]
    people: Annotated[dict[Name, PersonSpec], Field(default_factory=dict)]
    providers: Annotated[dict[Name, ProviderSpec], Field(default_factory=dict)]
    steps: Annotated[tuple[Step, ...], Field(min_length=1)]


def json_schema() -> dict[str, object]:
    """The JSON Schema of a scenario file, as editors use it; scenarios/schema.json holds it."""
    return ScenarioSpec.model_json_schema(by_alias=True, mode="validation")
