"""NetBird 0.77 by its REST API, and its clients by their own command."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from labs.controlplanes.base import Context, ListedPeer, Machine, PeerStatus, Route, command_with_secret
from labs.controlplanes.http import Api
from labs.controlplanes.netbird import client
from labs.errors import ControlPlaneProblem
from labs.journal import Scope
from labs.model import Container, Peer, Product
from labs.timing import NETBIRD_FIRST_CONTACT_S, PEERS_LISTED_S, until

_SERVICE = "management"
_MAIL_DOMAIN = "lab.test"
_CREDENTIALS_LAST_S = 7 * 24 * 3600


class NetBird:
    """Groups and setup keys; a LAN is a network with a resource, a routing peer and a policy."""

    product = Product.NETBIRD
    api_service = _SERVICE
    first_contact_s = NETBIRD_FIRST_CONTACT_S

    def __init__(self, context: Context) -> None:
        self._context = context
        self._keys: dict[str, str] = {}

    @cached_property
    def _api(self) -> Api:
        return Api(f"http://{self._context.address(_SERVICE)}", self._context.journal, self._context.transport)

    def bootstrap(self) -> Mapping[str, str]:
        email, password = f"owner@{_MAIL_DOMAIN}", f"{secrets.token_urlsafe(18)}aA1!"
        owner = {"email": email, "name": "Owner", "password": password, "create_pat": True, "pat_expire_in": 7}
        token = self._api.change("POST", "/api/setup", owner, Scope.LAB, "owner").get("personal_access_token")
        if not token:
            raise ControlPlaneProblem(
                "NetBird's setup returned no access token",
                where=_SERVICE,
                hint="the management service needs NB_SETUP_PAT_ENABLED=true and version 0.70.5 or later",
            )
        credentials = {"access-token": str(token), "owner-email": email, "owner-password": password}
        self.resume(credentials)
        return credentials

    def resume(self, credentials: Mapping[str, str]) -> None:
        self._api.authorize(f"Token {credentials['access-token']}")

    def add_user(self, user: str) -> None:
        group = self._api.change("POST", "/api/groups", {"name": user}, Scope.USER, user)["id"]
        account = {
            "email": f"{user}@{_MAIL_DOMAIN}",
            "name": user,
            "role": "user",
            "auto_groups": [group],
            "is_service_user": False,
        }
        self._api.change("POST", "/api/users", account, Scope.USER, user)
        key = {
            "name": user,
            "type": "reusable",
            "expires_in": _CREDENTIALS_LAST_S,
            "auto_groups": [group],
            "usage_limit": 0,
        }
        self._keys[user] = self._api.change("POST", "/api/setup-keys", key, Scope.USER, user)["key"]

    def peer_container(self, peer: Peer, image: str) -> Container:
        return client.container(peer, image)

    def wait_for_daemon(self, peer: Machine) -> None:
        client.wait_for_daemon(self._context, peer)

    def join(self, peer: Peer, machine: Machine) -> None:
        # Services are named on the lab's network, and those names come back in every client's configuration.
        argv = client.up(f"http://{_SERVICE}", peer.name)
        command_with_secret(self._context, machine, argv, Scope.PEER, client.KEY_PATH, self._keys[peer.user])

    def listed(self) -> tuple[ListedPeer, ...]:
        routers = self._served_prefixes()
        return tuple(
            ListedPeer(
                id=peer["id"],
                name=peer["name"],
                address=IPv4Address(peer["ip"]),
                online=peer["connected"],
                routes=tuple(routers.get(peer["id"], ())),
            )
            for peer in self._api.get("/api/peers")
        )

    def status(self, machine: Machine) -> PeerStatus:
        return client.status(self._context, machine)

    def publish_route(self, route: Route) -> None:
        name = route.name
        router = self._peer_id(route.via)
        members = [self._peer_id(consumer) for consumer in route.consumers]
        network = self._route("POST", "/api/networks", {"name": name}, name)["id"]
        routing = {"peer": router, "metric": 9999, "masquerade": True, "enabled": True}
        self._route("POST", f"/api/networks/{network}/routers", routing, name)
        target = {"name": name, "address": str(route.prefix), "enabled": True, "groups": []}
        resource = self._route("POST", f"/api/networks/{network}/resources", target, name)["id"]
        group = self._route("POST", "/api/groups", {"name": _consumers(name), "peers": members}, name)["id"]
        self._route("POST", "/api/policies", _admits(name, group, resource), name)

    def withdraw_route(self, route: Route) -> None:
        """Take the routing peer away; when it was the last one, the network and what belongs to it go too."""
        network = self._named("/api/networks", route.name)
        routers = self._api.get(f"/api/networks/{network}/routers")
        via = self._peer_id(route.via)
        leaving = [router["id"] for router in routers if router.get("peer") == via]
        if len(leaving) < len(routers):
            for router in leaving:
                self._route("DELETE", f"/api/networks/{network}/routers/{router}", None, route.name)
            return
        policy = self._named("/api/policies", route.name)
        group = self._named("/api/groups", _consumers(route.name))
        for path in (f"/api/policies/{policy}", f"/api/networks/{network}", f"/api/groups/{group}"):
            self._route("DELETE", path, None, route.name)

    def _route(self, method: str, path: str, body: Mapping[str, object] | None, name: str) -> Any:
        return self._api.change(method, path, body, Scope.ROUTE, name)

    def _named(self, path: str, name: str) -> str:
        for thing in self._api.get(path):
            if thing["name"] == name:
                return str(thing["id"])
        raise ControlPlaneProblem(f"GET {path} lists nothing of that name", where=name)

    def _served_prefixes(self) -> dict[str, list[IPv4Network]]:
        """The IPv4 prefixes each routing peer serves, by the peer's id."""
        served: dict[str, list[IPv4Network]] = {}
        for network in self._api.get("/api/networks"):
            resources = self._api.get(f"/api/networks/{network['id']}/resources")
            prefixes = [
                IPv4Network(r["address"]) for r in resources if r["type"] == "subnet" and ":" not in r["address"]
            ]
            for router in self._api.get(f"/api/networks/{network['id']}/routers"):
                served.setdefault(router.get("peer", ""), []).extend(prefixes)
        return served

    def _peer_id(self, machine: Machine) -> str:
        """A peer that has just joined may be listed a moment later."""
        found = until(
            self._context.clock,
            lambda: [peer["id"] for peer in self._api.get("/api/peers") if peer["name"] == machine.name],
            bool,
            what="The peer in NetBird's list",
            timeout_s=PEERS_LISTED_S,
            where=machine.name,
        )
        return str(found[0])


def _admits(name: str, group: str, resource: str) -> dict[str, object]:
    """A policy that lets one group reach one resource, any protocol, one way."""
    rule = {
        "name": name,
        "enabled": True,
        "action": "accept",
        "bidirectional": False,
        "protocol": "all",
        "sources": [group],
        "destinationResource": {"id": resource, "type": "subnet"},
    }
    return {"name": name, "enabled": True, "rules": [rule]}


def _consumers(name: str) -> str:
    return f"{name} consumers"
