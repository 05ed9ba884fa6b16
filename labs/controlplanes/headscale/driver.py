"""Headscale 0.29 by its REST API, and its clients by their own command."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import yaml

from labs.controlplanes.base import (
    Ability,
    Context,
    ListedPeer,
    ListedUser,
    Machine,
    Path,
    PeerStatus,
    Route,
    Rule,
    SignInFilter,
    command,
    command_with_secret,
    edit,
    restart,
    sent_bytes,
)
from labs.controlplanes.headscale import client, identity, policy
from labs.controlplanes.http import Api
from labs.errors import ControlPlaneProblem, Refused
from labs.journal import Scope
from labs.model import Container, Peer, Person, Product, Ready, Settings
from labs.timing import JOIN_S, RESETTLE_S, ROUTE_S, TAILSCALE_FIRST_CONTACT_S, until

_SERVICE = "headscale"
_PORT = 8080
_READY = Ready("http", _PORT, "/health")
_CONFIG = "/etc/headscale/config.yaml"
_RECORDS = "/etc/headscale/extra-records.json"
_EVERYWHERE = {"0.0.0.0/0", "::/0"}
_CREDENTIALS_LAST_S = 7 * 24 * 3600


class Headscale:
    """Users and pre-auth keys; routes are advertised by the router, approved here, accepted by each consumer."""

    product = Product.HEADSCALE
    first_contact_s = TAILSCALE_FIRST_CONTACT_S
    resettle_s = RESETTLE_S
    lacks: Mapping[Ability, str] = {
        Ability.RESOURCES: "Headscale has routes to prefixes, no resources of their own",
        Ability.ROUTE_MODELS: "Headscale has one kind of route",
        Ability.SIGNAL: "Headscale has no signal service",
        Ability.RELAY: "Headscale's relay (DERP) runs inside its one service",
        Ability.AUDIT: "Headscale keeps no audit trail",
        Ability.LOCAL_USERS: "Headscale's own users have no password: they enrol machines by pre-auth keys",
        Ability.USER_APPROVAL: "Headscale admits whoever its provider and its filters admit",
    }
    peer_domain = "lab.internal"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._keys: dict[str, str] = {}

    @cached_property
    def _api(self) -> Api:
        url = f"http://{self._context.address(_SERVICE)}:{_PORT}"
        return Api(url, self._context.journal, self._context.reach.transport())

    @property
    def api_service(self) -> str:
        return self._context.access.api

    @property
    def parts(self) -> Mapping[str, str]:
        return self._context.access.parts

    def bootstrap(self) -> Mapping[str, str]:
        service = self._context.services[_SERVICE]
        argv = ["headscale", "apikeys", "create", "--expiration", "168h", "--output", "json"]
        key = json.loads(command(self._context, service, argv, Scope.LAB))
        self.resume({"api-key": key})
        return {"api-key": key}

    def resume(self, credentials: Mapping[str, str]) -> None:
        self._api.authorize(f"Bearer {credentials['api-key']}")

    def add_user(self, user: str) -> None:
        made = self._api.change("POST", "/api/v1/user", {"name": user}, Scope.USER, user)["user"]
        self._make_key(user, made["id"], one_off=False, lasts_s=_CREDENTIALS_LAST_S, subject=user)

    def make_key(self, name: str, user: str, *, one_off: bool, lasts_s: float) -> None:
        (known,) = self._api.get(f"/api/v1/user?name={user}")["users"]
        self._make_key(name, known["id"], one_off=one_off, lasts_s=lasts_s, subject=user)

    def _make_key(self, name: str, user_id: str, *, one_off: bool, lasts_s: float, subject: str) -> None:
        expiration = datetime.now(UTC) + timedelta(seconds=lasts_s)
        body = {"user": user_id, "reusable": not one_off, "expiration": expiration.isoformat()}
        made = self._api.change("POST", "/api/v1/preauthkey", body, Scope.USER, subject)
        self._keys[name] = made["preAuthKey"]["key"]

    def _key(self, name: str, user: str) -> str:
        """An earlier process may have made the user's key, and keys are shown once; then it takes another."""
        if name not in self._keys:
            self.make_key(name, user, one_off=False, lasts_s=_CREDENTIALS_LAST_S)
        return self._keys[name]

    @staticmethod
    def service_environment(settings: Settings) -> Mapping[str, Mapping[str, str]]:
        found = identity.settings_environment(settings)
        if settings.failover_probe_s is not None:
            probe = _failover_probe(settings.failover_probe_s)
            found |= {f"HEADSCALE_NODE_ROUTES_HA_{key.upper()}": value for key, value in probe.items()}
        return {_SERVICE: found} if found else {}

    def configure(self, settings: Settings) -> None:
        """What the environment sets overrides the file, so PKCE and expiry can be changed only where it does not."""

        def change(document: dict[str, Any]) -> None:
            if settings.failover_probe_s is not None:
                document["node"].setdefault("routes", {})["ha"] = _failover_probe(settings.failover_probe_s)
            if settings.pkce is not None:
                document["oidc"]["pkce"]["enabled"] = settings.pkce
            if settings.expiry_from_token is not None:
                document["oidc"]["use_expiry_from_token"] = settings.expiry_from_token

        if (settings.failover_probe_s, settings.pkce, settings.expiry_from_token) != (None, None, None):
            self._reconfigure(change, Scope.LAB, "settings")

    def peer_container(self, peer: Peer, image: str, settings: Settings) -> Container:  # noqa: ARG002 - the Protocol's
        return client.container(peer, image, plain_http=not self._context.access.joins.startswith("https:"))

    def wait_for_daemon(self, peer: Machine) -> None:
        client.wait_for_daemon(self._context, peer)

    def join(self, peer: Peer, machine: Machine, key: str = "", timeout_s: float = JOIN_S) -> None:
        # Tailscale's client trusts plain HTTP on a port of its own only at a private address literal.
        argv = client.up(self._context.joins, peer.name, timeout_s)
        secret = self._key(key or peer.user, peer.user)
        command_with_secret(self._context, machine, argv, Scope.PEER, client.KEY_PATH, secret)

    def reconnect(self, machine: Machine) -> None:
        for argv in client.RECONNECT:
            command(self._context, machine, argv, Scope.PEER)

    def listed(self) -> tuple[ListedPeer, ...]:
        return tuple(_listed(node) for node in self._api.get("/api/v1/node")["nodes"])

    def status(self, machine: Machine) -> PeerStatus:
        return client.status(self._context, machine)

    def remove_peer(self, peer: str) -> None:
        self._api.change("DELETE", f"/api/v1/node/{self._node(peer)['id']}", None, Scope.PEER, peer)

    def rename_peer(self, peer: str, name: str) -> None:
        self._api.change("POST", f"/api/v1/node/{self._node(peer)['id']}/rename/{name}", None, Scope.PEER, peer)

    def expire_peer(self, peer: str) -> None:
        self._api.change("POST", f"/api/v1/node/{self._node(peer)['id']}/expire", None, Scope.PEER, peer)

    def sign_in(self, peer: Peer, machine: Machine, person: Person, provider: str, timeout_s: float) -> None:  # noqa: ARG002
        """The configuration has one provider, so nobody is asked which."""
        identity.sign_in(self._context, peer, machine, person, timeout_s)

    def users(self) -> tuple[ListedUser, ...]:
        return tuple(identity.listed_user(user) for user in self._api.get("/api/v1/user")["users"])

    def remove_user(self, user: ListedUser) -> None:
        self._api.change("DELETE", f"/api/v1/user/{user.id}", None, Scope.USER, user.name)

    def remove_user_with_peers(self, user: ListedUser) -> None:
        """A user who has nodes is not deleted, so they go first."""
        for node in self._api.get("/api/v1/node")["nodes"]:
            if node["user"]["id"] == user.id:
                self._api.change("DELETE", f"/api/v1/node/{node['id']}", None, Scope.PEER, node["givenName"])
        self.remove_user(user)

    def add_provider(self, provider: str) -> None:
        self._reconfigure(
            lambda document: identity.with_second(document, self._context.issuer(provider)), Scope.LAB, provider
        )

    def switch_provider(self, provider: str) -> None:
        self._reconfigure(
            lambda document: identity.switched(document, self._context.issuer(provider)), Scope.LAB, provider
        )

    def restrict_sign_in(self, allowed: SignInFilter) -> None:
        self._reconfigure(lambda document: identity.filtering(document, allowed), Scope.LAB, "sign-in filter")

    def allow_provider_group(self, group: str, target: str) -> None:
        self._change_policy(lambda document: policy.allowing_group(document, group, target))

    def publish_route(self, route: Route) -> None:
        self.advertise_routes(route.via, {*client.advertised(self._context, route.via), route.prefix})
        self._approve(route.via, {*self._node(route.via.name)["approvedRoutes"], str(route.prefix)})
        for consumer in route.consumers:
            if not client.accepts_routes(self._context, consumer):
                self.accept_routes(consumer)

    def withdraw_route(self, route: Route) -> None:
        self._approve(route.via, {*self._node(route.via.name)["approvedRoutes"]} - {str(route.prefix)})
        self.advertise_routes(route.via, {*client.advertised(self._context, route.via)} - {route.prefix})

    def advertise_routes(self, router: Machine, prefixes: Iterable[IPv4Network]) -> None:
        wanted = set(prefixes)
        command(self._context, router, client.advertise(wanted), Scope.ROUTE)
        self._announced(router.name, {str(prefix) for prefix in wanted})

    def approve_routes(self, router: Machine, prefixes: Iterable[IPv4Network]) -> None:
        self._approve(router, {str(prefix) for prefix in prefixes})

    def accept_routes(self, consumer: Machine) -> None:
        command(self._context, consumer, client.accept_routes(), Scope.CONSUMER)

    def auto_approve(self, prefixes: Iterable[IPv4Network], user: str) -> None:
        self._change_policy(lambda document: policy.auto_approving(document, prefixes, user))

    def offer_exit(self, via: Machine, consumers: Iterable[Machine]) -> None:  # noqa: ARG002 - the Protocol's
        """Every peer that the policy lets out is offered every exit: there is nothing to do for each consumer."""
        command(self._context, via, client.advertise_exit(True), Scope.ROUTE)
        self._announced(via.name, _EVERYWHERE)
        self._approve(via, {*self._node(via.name)["approvedRoutes"]} | _EVERYWHERE)

    def withdraw_exit(self, via: Machine) -> None:
        self._approve(via, {*self._node(via.name)["approvedRoutes"]} - _EVERYWHERE)
        command(self._context, via, client.advertise_exit(False), Scope.ROUTE)

    def exit_offered(self, on: Machine, via: Machine) -> bool:
        return client.exit_offered(self._context, on, self._address(via.name))

    def choose_exit(self, on: Machine, via: Machine, *, lan_access: bool) -> None:
        address = self._address(via.name)
        until(
            self._context.clock,
            lambda: client.exit_offered(self._context, on, address),
            bool,
            what=f"The offer of {via.name} as an exit",
            timeout_s=ROUTE_S,
            where=on.name,
        )
        command(self._context, on, client.choose_exit(str(address), lan_access=lan_access), Scope.CONSUMER)

    def leave_exit(self, on: Machine) -> None:
        command(self._context, on, client.choose_exit("", lan_access=False), Scope.CONSUMER)

    def set_record(self, name: str, address: IPv4Address) -> None:
        others = [record for record in self._records() if record["name"] != name]
        self._write_records([*others, {"name": name, "type": "A", "value": str(address)}], name)

    def remove_record(self, name: str) -> None:
        self._write_records([record for record in self._records() if record["name"] != name], name)

    def split_dns(self, domain: str, server: IPv4Address) -> None:
        self._configure_split(domain, [str(server)])

    def drop_split_dns(self, domain: str) -> None:
        self._configure_split(domain, None)

    def deny_all(self) -> None:
        self._change_policy(policy.denying_all)

    def allow(self, rule: Rule) -> None:
        self._change_policy(lambda document: policy.allowing(document, rule))

    def revoke(self, rule: Rule) -> None:
        self._change_policy(lambda document: policy.revoking(document, rule))

    def allow_exit(self, source: str, via: str) -> None:  # noqa: ARG002 - the Protocol's
        self._change_policy(lambda document: policy.allowing_exit(document, source))

    def set_group(self, name: str, users: Iterable[str]) -> None:
        self._change_policy(lambda document: policy.grouping(document, name, users))

    def path(self, source: Machine, target: Machine) -> Path:
        return client.path(self._context, source, self._address(target.name))

    def relayed_bytes(self) -> int:
        """DERP inside Headscale counts nothing that could be asked, so its container's interface does."""
        return sent_bytes(self._context, self._context.services[_SERVICE])

    def _announced(self, router: str, prefixes: set[str]) -> None:
        """Wait until the announcement has arrived: approving earlier would approve nothing."""
        until(
            self._context.clock,
            lambda: self._node(router)["availableRoutes"],
            prefixes.issubset,
            what=f"The announcement of {', '.join(sorted(prefixes))}",
            timeout_s=ROUTE_S,
            where=router,
            show=lambda routes: f"available routes {routes}",
        )

    def _approve(self, router: Machine, routes: Iterable[str]) -> None:
        """Approving replaces the whole set, so the full one is sent."""
        path = f"/api/v1/node/{self._node(router.name)['id']}/approve_routes"
        self._api.change("POST", path, {"routes": sorted(routes)}, Scope.ROUTE, router.name)

    def _change_policy(self, change: Callable[[policy.Document], policy.Document]) -> None:
        """Policies are kept in the database; the server starts with none, and says so with an error."""
        try:
            document: policy.Document = json.loads(self._api.get("/api/v1/policy")["policy"])
        except ControlPlaneProblem as problem:
            if "acl policy not found" not in problem.why:
                raise
            document = {}
        self._api.change("PUT", "/api/v1/policy", {"policy": json.dumps(change(document))}, Scope.POLICY, "policy")

    def _records(self) -> list[dict[str, str]]:
        service = self._context.services[_SERVICE]
        records: list[dict[str, str]] = json.loads(self._context.engine.copy_out(service.container_id, _RECORDS))
        return records

    def _write_records(self, records: list[dict[str, str]], name: str) -> None:
        """The server watches the file: no restart."""
        edit(self._context, self._context.services[_SERVICE], _RECORDS, json.dumps(records), Scope.NAME, name)

    def _configure_split(self, domain: str, servers: list[str] | None) -> None:
        def change(document: dict[str, Any]) -> None:
            split = document["dns"]["nameservers"]["split"]
            split.pop(domain, None)
            split |= {domain: servers} if servers else {}

        self._reconfigure(change, Scope.NAME, domain)

    def _reconfigure(self, change: Callable[[dict[str, Any]], None], scope: Scope, subject: str) -> None:
        """The configuration is read at the start only, so every change of it costs a restart.

        Raises Refused when the server does not start with it; then the old one is put back, which costs another.
        """
        service = self._context.services[_SERVICE]
        before = self._context.engine.copy_out(service.container_id, _CONFIG).decode()
        document = yaml.safe_load(before)
        change(document)
        edit(self._context, service, _CONFIG, yaml.safe_dump(document, sort_keys=False), scope, subject)
        try:
            restart(self._context, service, _READY)
        except Refused:
            edit(self._context, service, _CONFIG, before, scope, subject)
            restart(self._context, service, _READY)
            raise

    def _address(self, peer: str) -> IPv4Address:
        return _listed(self._node(peer)).address

    def _node(self, peer: str) -> dict[str, Any]:
        nodes: list[dict[str, Any]] = self._api.get("/api/v1/node")["nodes"]
        for node in nodes:
            if node["givenName"] == peer:
                return node
        raise ControlPlaneProblem("Headscale lists no such node", where=peer)


def _listed(node: Mapping[str, Any]) -> ListedPeer:
    return ListedPeer(
        id=node["id"],
        name=node["givenName"],
        address=next(IPv4Address(address) for address in node["ipAddresses"] if "." in address),
        online=node["online"],
        routes=tuple(IPv4Network(route) for route in node["subnetRoutes"] if "." in route),
        expired=_past(node.get("expiry")),
        owner=node["user"]["id"],
    )


def _failover_probe(interval_s: float) -> dict[str, str]:
    """The probe's own limit must be shorter than its interval, and at least a second."""
    return {"probe_interval": f"{interval_s:g}s", "probe_timeout": f"{max(1.0, interval_s / 2):g}s"}


def _past(expiry: str | None) -> bool:
    """A node without expiry has none, or the zero time."""
    if not expiry or expiry.startswith("0001-"):
        return False
    return datetime.fromisoformat(expiry.replace("Z", "+00:00")) <= datetime.now(UTC)
