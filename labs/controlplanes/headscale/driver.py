"""Headscale 0.29 by its REST API, and its clients by their own command."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from labs.controlplanes.base import Context, ListedPeer, Machine, PeerStatus, Route, command, command_with_secret
from labs.controlplanes.headscale import client
from labs.controlplanes.http import Api
from labs.errors import ControlPlaneProblem
from labs.journal import Scope
from labs.model import Container, Peer, Product
from labs.timing import ROUTE_S, TAILSCALE_FIRST_CONTACT_S, until

_SERVICE = "headscale"
_PORT = 8080
_CREDENTIALS_LAST = timedelta(days=7)


class Headscale:
    """Users and pre-auth keys; routes are advertised by the router, approved here, accepted by each consumer."""

    product = Product.HEADSCALE
    api_service = _SERVICE
    first_contact_s = TAILSCALE_FIRST_CONTACT_S

    def __init__(self, context: Context) -> None:
        self._context = context
        self._keys: dict[str, str] = {}

    @cached_property
    def _api(self) -> Api:
        return Api(self._url, self._context.journal, self._context.transport)

    @property
    def _url(self) -> str:
        # Tailscale's client trusts plain HTTP on a port of its own only at a private address literal.
        return f"http://{self._context.address(_SERVICE)}:{_PORT}"

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
        expiration = datetime.now(UTC) + _CREDENTIALS_LAST
        body = {"user": made["id"], "reusable": True, "expiration": expiration.isoformat()}
        self._keys[user] = self._api.change("POST", "/api/v1/preauthkey", body, Scope.USER, user)["preAuthKey"]["key"]

    def peer_container(self, peer: Peer, image: str) -> Container:
        return client.container(peer, image)

    def wait_for_daemon(self, peer: Machine) -> None:
        client.wait_for_daemon(self._context, peer)

    def join(self, peer: Peer, machine: Machine) -> None:
        argv = client.up(self._url, peer.name)
        command_with_secret(self._context, machine, argv, Scope.PEER, client.KEY_PATH, self._keys[peer.user])

    def listed(self) -> tuple[ListedPeer, ...]:
        return tuple(_listed(node) for node in self._api.get("/api/v1/node")["nodes"])

    def status(self, machine: Machine) -> PeerStatus:
        return client.status(self._context, machine)

    def publish_route(self, route: Route) -> None:
        advertised = {*client.advertised(self._context, route.via), route.prefix}
        command(self._context, route.via, client.advertise(advertised), Scope.ROUTE)
        node = self._node_advertising(route)
        self._approve(node, {*map(IPv4Network, node["approvedRoutes"]), route.prefix}, route.name)
        for consumer in route.consumers:
            if not client.accepts_routes(self._context, consumer):
                command(self._context, consumer, client.accept_routes(), Scope.CONSUMER)

    def withdraw_route(self, route: Route) -> None:
        node = self._node(route.via)
        self._approve(node, {*map(IPv4Network, node["approvedRoutes"])} - {route.prefix}, route.name)
        advertised = {*client.advertised(self._context, route.via)} - {route.prefix}
        command(self._context, route.via, client.advertise(advertised), Scope.ROUTE)

    def _node_advertising(self, route: Route) -> dict[str, Any]:
        """The router's node once its announcement has arrived: approving earlier would approve nothing."""
        return until(
            self._context.clock,
            lambda: self._node(route.via),
            lambda node: str(route.prefix) in node["availableRoutes"],
            what=f"The announcement of {route.prefix}",
            timeout_s=ROUTE_S,
            where=route.via.name,
            show=lambda node: f"available routes {node['availableRoutes']}",
        )

    def _approve(self, node: Mapping[str, Any], routes: set[IPv4Network], name: str) -> None:
        """Approving replaces the whole set, so the full one is sent."""
        body = {"routes": [str(route) for route in sorted(routes)]}
        self._api.change("POST", f"/api/v1/node/{node['id']}/approve_routes", body, Scope.ROUTE, name)

    def _node(self, machine: Machine) -> dict[str, Any]:
        nodes: list[dict[str, Any]] = self._api.get("/api/v1/node")["nodes"]
        for node in nodes:
            if node["givenName"] == machine.name:
                return node
        raise ControlPlaneProblem("Headscale lists no such node", where=machine.name)


def _listed(node: Mapping[str, Any]) -> ListedPeer:
    return ListedPeer(
        id=node["id"],
        name=node["givenName"],
        address=next(IPv4Address(address) for address in node["ipAddresses"] if "." in address),
        online=node["online"],
        routes=tuple(IPv4Network(route) for route in node["subnetRoutes"] if "." in route),
    )
