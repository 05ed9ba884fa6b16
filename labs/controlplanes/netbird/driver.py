"""NetBird 0.77 by its REST API, and its clients by their own command."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from labs.controlplanes.base import (
    Ability,
    ListedPeer,
    Machine,
    Path,
    PeerStatus,
    Resource,
    Route,
    Rule,
    command,
    command_with_secret,
)
from labs.controlplanes.http import counter_sum
from labs.controlplanes.identity import Login
from labs.controlplanes.netbird import client, identity
from labs.controlplanes.netbird.account import Account
from labs.errors import ControlPlaneProblem, Refused
from labs.journal import Scope
from labs.model import Container, Peer, Person, Product, Settings
from labs.timing import JOIN_S, NETBIRD_FIRST_CONTACT_S, PEERS_LISTED_S, RESETTLE_S, ROUTE_S, until

_METRICS_PORT = 9090
_RELAYED = ("relay_transfer_sent_bytes_total",)
_EVERYWHERE = IPv4Network("0.0.0.0/0")
_TTL_S = 60


class NetBird(Account):
    """Groups and setup keys; a LAN is a network with a resource, a routing peer and a policy."""

    product = Product.NETBIRD
    first_contact_s = NETBIRD_FIRST_CONTACT_S
    resettle_s = RESETTLE_S
    lacks: Mapping[Ability, str] = {
        Ability.APPROVALS: "NetBird's routes are made at the server: a peer advertises nothing that could be approved",
        Ability.EXPIRY: "NetBird's peers expire after an account-wide period, and only those that a user signed in",
        Ability.SIGN_IN_FILTERS: "NetBird filters by a provider's groups only, and approves users one by one",
    }
    peer_domain = "netbird.selfhosted"

    @staticmethod
    def service_environment(settings: Settings) -> Mapping[str, Mapping[str, str]]:  # noqa: ARG004 - as the other's
        return {}

    def peer_container(self, peer: Peer, image: str, settings: Settings) -> Container:
        return client.container(peer, image, settings)

    def wait_for_daemon(self, peer: Machine) -> None:
        client.wait_for_daemon(self._context, peer)

    def join(self, peer: Peer, machine: Machine, key: str = "", timeout_s: float = JOIN_S) -> None:
        # Services are named on the lab's network, and those names come back in every client's configuration.
        argv = client.up(self._context.joins, peer.name, timeout_s)
        secret = self._key(key or peer.user, peer.user)
        command_with_secret(self._context, machine, argv, Scope.PEER, client.KEY_PATH, secret)

    def reconnect(self, machine: Machine) -> None:
        for argv in client.RECONNECT:
            command(self._context, machine, argv, Scope.PEER)

    def listed(self) -> tuple[ListedPeer, ...]:
        routers = self._served_prefixes()
        return tuple(
            ListedPeer(
                id=peer["id"],
                name=peer["name"],
                address=IPv4Address(peer["ip"]),
                online=peer["connected"],
                routes=tuple(routers.get(peer["id"], ())),
                expired=peer["login_expired"],
                owner=peer.get("user_id") or "",
            )
            for peer in self._api.get("/api/peers")
        )

    def status(self, machine: Machine) -> PeerStatus:
        return client.status(self._context, machine)

    def remove_peer(self, peer: str) -> None:
        self._api.change("DELETE", f"/api/peers/{self._peer_id(peer)}", None, Scope.PEER, peer)

    def rename_peer(self, peer: str, name: str) -> None:
        kept = ("ssh_enabled", "login_expiration_enabled", "inactivity_expiration_enabled")
        path = f"/api/peers/{self._peer_id(peer)}"
        known = self._api.get(path)
        self._api.change("PUT", path, {"name": name, **{key: known[key] for key in kept}}, Scope.PEER, peer)

    def sign_in(self, peer: Peer, machine: Machine, person: Person, provider: str, timeout_s: float) -> None:
        if client.registered(self._context, machine):
            # A client keeps its registration until that ends at the server, and only administrators may end it there.
            self.remove_peer(peer.name)
            command(self._context, machine, client.RECONNECT[0], Scope.PEER)
        secret = f"person {person.name}"
        password = self._passwords.get(person.name) or self._context.secrets.get(secret, "")
        at = provider if person.at else identity.LOCAL_CONNECTOR
        login = Login(person.name if person.at else person.email, password, at)
        identity.sign_in(self._context, peer, machine, login, timeout_s)

    def allow_provider_group(self, group: str, target: str) -> None:
        """Groups come along with whoever signs in once the account takes them over; none is there before that."""
        self._set_account({"jwt_groups_enabled": True, "jwt_groups_claim_name": "groups"}, "groups of the provider")
        if self._find("/api/groups", group) is None:
            raise Refused("NetBird knows no such group", where=group, why="GET /api/groups lists nothing of that name")
        self.allow(Rule(group, target))

    def publish_route(self, route: Route) -> None:
        """A second router of the same network stands by for the first."""
        group = self._consumers(route.name, route.consumers)
        if route.model == "route":
            self._route("POST", "/api/routes", self._legacy(route.name, route.prefix, route.via, group), route.name)
            return
        network = self._find("/api/networks", route.name)
        if network is not None:
            self._add_router(network["id"], route.via, route.name)
            return
        resource = self.add_resource(Resource(route.name, str(route.prefix), route.via))
        self._open(route.name, group, resource, ())

    def withdraw_route(self, route: Route) -> None:
        """Take the routing peer away; when it was the last one, the network and what belongs to it go too."""
        via = self._peer_id(route.via.name)
        legacy = [r for r in self._api.get("/api/routes") if r["network_id"] == route.name and r.get("peer") == via]
        network = self._find("/api/networks", route.name)
        for found in legacy:
            self._route("DELETE", f"/api/routes/{found['id']}", None, route.name)
        if network is not None:
            routers = self._api.get(f"/api/networks/{network['id']}/routers")
            leaving = [router["id"] for router in routers if router.get("peer") == via]
            if len(leaving) < len(routers):
                for router in leaving:
                    self._route("DELETE", f"/api/networks/{network['id']}/routers/{router}", None, route.name)
                return
            self.remove_resource(route.name)
        group = self._named("/api/groups", _consumers_of(route.name))
        self._route("DELETE", f"/api/groups/{group}", None, route.name)

    def add_resource(self, resource: Resource) -> Mapping[str, Any]:
        """A network with one routing peer and one resource; no policy, so nobody reaches it yet."""
        name = resource.name
        network = self._route("POST", "/api/networks", {"name": name}, name)["id"]
        self._add_router(network, resource.via, name)
        target = {"name": name, "address": resource.address, "enabled": True, "groups": []}
        made: Mapping[str, Any] = self._route("POST", f"/api/networks/{network}/resources", target, name)
        return made

    def allow_resource(self, name: str, source: str, ports: tuple[int, ...]) -> None:
        network = self._named("/api/networks", name)
        (resource,) = self._api.get(f"/api/networks/{network}/resources")
        self._open(name, self._named("/api/groups", source), resource, ports)

    def remove_resource(self, name: str) -> None:
        for policy in self._api.get("/api/policies"):
            if policy["name"] == name:
                self._route("DELETE", f"/api/policies/{policy['id']}", None, name)
        self._route("DELETE", f"/api/networks/{self._named('/api/networks', name)}", None, name)

    def offer_exit(self, via: Machine, consumers: Iterable[Machine]) -> None:
        """Left to itself the product would apply the exit at once; skip_auto_apply leaves the choice to the peer."""
        group = self._consumers(via.name, tuple(consumers))
        body = {**self._legacy(via.name, _EVERYWHERE, via, group), "skip_auto_apply": True}
        self._route("POST", "/api/routes", body, via.name)

    def withdraw_exit(self, via: Machine) -> None:
        for route in self._api.get("/api/routes"):
            if route["network_id"] == via.name:
                self._route("DELETE", f"/api/routes/{route['id']}", None, via.name)
        group = self._named("/api/groups", _consumers_of(via.name))
        self._route("DELETE", f"/api/groups/{group}", None, via.name)

    def exit_offered(self, on: Machine, via: Machine) -> bool:
        return client.network_offered(self._context, on, via.name)

    def choose_exit(self, on: Machine, via: Machine, *, lan_access: bool) -> None:  # noqa: ARG002 - the Protocol's
        """Networks that a peer stands on stay its own whatever it chooses, so `lan_access` asks for nothing."""
        until(
            self._context.clock,
            lambda: client.network_offered(self._context, on, via.name),
            bool,
            what=f"The offer of {via.name} as an exit",
            timeout_s=ROUTE_S,
            where=on.name,
        )
        command(self._context, on, ["netbird", "networks", "select", "-a", via.name], Scope.CONSUMER)

    def leave_exit(self, on: Machine) -> None:
        for route in self._api.get("/api/routes"):
            if route["network"] == str(_EVERYWHERE) and client.network_offered(self._context, on, route["network_id"]):
                command(self._context, on, ["netbird", "networks", "deselect", route["network_id"]], Scope.CONSUMER)

    def set_record(self, name: str, address: IPv4Address) -> None:
        """A record lives in a zone of its parent domain; a zone reaches peers once it has a record."""
        domain = name.partition(".")[2]
        zone = self._find("/api/dns/zones", domain)
        if zone is None:
            body = {"name": domain, "domain": domain, "enabled": True, "enable_search_domain": False}
            everybody = [self._named("/api/groups", "All")]
            zone = self._name("POST", "/api/dns/zones", {**body, "distribution_groups": everybody}, name)
        path = f"/api/dns/zones/{zone['id']}/records"
        record = {"name": name, "type": "A", "content": str(address), "ttl": _TTL_S}
        known = self._find(path, name)
        if known is None:
            self._name("POST", path, record, name)
        else:
            self._name("PUT", f"{path}/{known['id']}", record, name)

    def remove_record(self, name: str) -> None:
        zone = self._named("/api/dns/zones", name.partition(".")[2])
        path = f"/api/dns/zones/{zone}/records"
        self._name("DELETE", f"{path}/{self._named(path, name)}", None, name)

    def split_dns(self, domain: str, server: IPv4Address) -> None:
        body = {
            "name": domain,
            "description": "",
            "nameservers": [{"ip": str(server), "ns_type": "udp", "port": 53}],
            "enabled": True,
            "groups": [self._named("/api/groups", "All")],
            "primary": False,
            "domains": [domain],
            "search_domains_enabled": False,
        }
        self._name("POST", "/api/dns/nameservers", body, domain)

    def drop_split_dns(self, domain: str) -> None:
        path = f"/api/dns/nameservers/{self._named('/api/dns/nameservers', domain)}"
        self._name("DELETE", path, None, domain)

    def deny_all(self) -> None:
        """A new account has one policy, Default, that admits everything."""
        for policy in self._api.get("/api/policies"):
            if policy["name"] == "Default":
                self._policy("DELETE", f"/api/policies/{policy['id']}", None, "Default")

    def allow(self, rule: Rule) -> None:
        source, target = self._subject(rule.source), self._subject(rule.target)
        self._policy(
            "POST", "/api/policies", _admits(rule.name, source, {"destinations": [target]}, rule.ports), rule.name
        )

    def revoke(self, rule: Rule) -> None:
        self._policy("DELETE", f"/api/policies/{self._named('/api/policies', rule.name)}", None, rule.name)

    def allow_exit(self, source: str, via: str) -> None:
        """A peer sees an exit when a policy links it with the exit's peer."""
        self.allow(Rule(source, via))

    def set_group(self, name: str, users: Iterable[str]) -> None:
        """Groups hold peers: the peers of these users, as their own groups list them now."""
        groups = self._api.get("/api/groups")
        wanted = set(users)
        peers = [peer["id"] for group in groups if group["name"] in wanted for peer in group.get("peers") or ()]
        known = [group["id"] for group in groups if group["name"] == name]
        method, path = ("PUT", f"/api/groups/{known[0]}") if known else ("POST", "/api/groups")
        self._policy(method, path, {"name": name, "peers": peers}, name)

    def path(self, source: Machine, target: Machine) -> Path:
        return client.path(self._context, source, self._address(target.name))

    def relayed_bytes(self) -> int:
        service = self.parts.get("relay", self.api_service)
        url = f"http://{self._context.address(service)}:{_METRICS_PORT}/metrics"
        return counter_sum(url, _RELAYED, self._context.reach.transport())

    def events(self) -> tuple[str, ...]:
        found = sorted(self._api.get("/api/events/audit"), key=lambda event: event["timestamp"])
        return tuple(
            f"{event['activity_code']} by {event['initiator_email'] or event['initiator_id']}" for event in found
        )

    def _subject(self, name: str) -> str:
        """The group of a user, or of a person by e-mail address: made, and given to all users of that address."""
        if "@" not in name:
            return self._named("/api/groups", name)
        users = [user for user in self._api.get("/api/users") if user["email"] == name]
        if not users:
            raise ControlPlaneProblem("NetBird lists no user with that e-mail address", where=name)
        known = self._find("/api/groups", name) or self._policy("POST", "/api/groups", {"name": name}, name)
        for user in users:
            groups = dict.fromkeys([*user["auto_groups"], known["id"]])
            if len(groups) > len(user["auto_groups"]):
                body = {"role": user["role"], "auto_groups": list(groups), "is_blocked": user["is_blocked"]}
                self._policy("PUT", f"/api/users/{user['id']}", body, name)
        return str(known["id"])

    def _open(self, name: str, group: str, resource: Mapping[str, Any], ports: tuple[int, ...]) -> None:
        target = {"destinationResource": {"id": resource["id"], "type": resource["type"]}}
        self._route("POST", "/api/policies", _admits(name, group, target, ports), name)

    def _add_router(self, network: str, via: Machine, name: str) -> None:
        routing = {"peer": self._peer_id(via.name), "metric": 9999, "masquerade": True, "enabled": True}
        self._route("POST", f"/api/networks/{network}/routers", routing, name)

    def _legacy(self, name: str, prefix: IPv4Network, via: Machine, group: str) -> dict[str, object]:
        return {
            "description": "",
            "network_id": name,
            "enabled": True,
            "peer": self._peer_id(via.name),
            "network": str(prefix),
            "metric": 9999,
            "masquerade": True,
            "groups": [group],
            "keep_route": False,
        }

    def _consumers(self, name: str, consumers: Iterable[Machine]) -> str:
        """The group of those a route is for; made with its first ones."""
        group = self._find("/api/groups", _consumers_of(name))
        if group is not None:
            return str(group["id"])
        body = {"name": _consumers_of(name), "peers": [self._peer_id(consumer.name) for consumer in consumers]}
        return str(self._route("POST", "/api/groups", body, name)["id"])

    def _served_prefixes(self) -> dict[str, list[IPv4Network]]:
        """The IPv4 prefixes each routing peer serves, by the peer's id."""
        served: dict[str, list[IPv4Network]] = {}
        for network in self._api.get("/api/networks"):
            resources = self._api.get(f"/api/networks/{network['id']}/resources")
            prefixes = [
                IPv4Network(r["address"]) for r in resources if r["type"] != "domain" and ":" not in r["address"]
            ]
            for router in self._api.get(f"/api/networks/{network['id']}/routers"):
                served.setdefault(router.get("peer", ""), []).extend(prefixes)
        for route in self._api.get("/api/routes"):
            if ":" not in route.get("network", ":"):
                served.setdefault(route.get("peer", ""), []).append(IPv4Network(route["network"]))
        return served

    def _address(self, peer: str) -> IPv4Address:
        return next(listed.address for listed in self.listed() if listed.name == peer)

    def _peer_id(self, peer: str) -> str:
        """A peer that has just joined may be listed a moment later."""
        found = until(
            self._context.clock,
            lambda: self._find("/api/peers", peer),
            bool,
            what="The peer in NetBird's list",
            timeout_s=PEERS_LISTED_S,
            where=peer,
        )
        return str(found["id"]) if found else ""


def _admits(name: str, group: str, target: Mapping[str, object], ports: tuple[int, ...]) -> dict[str, object]:
    """A policy that lets one group reach a target, one way: on these TCP ports, or with any traffic."""
    rule = {
        "name": name,
        "enabled": True,
        "action": "accept",
        "bidirectional": False,
        "protocol": "tcp" if ports else "all",
        "sources": [group],
        **target,
    }
    rule |= {"ports": [str(port) for port in ports]} if ports else {}
    return {"name": name, "enabled": True, "rules": [rule]}


def _consumers_of(name: str) -> str:
    return f"{name} consumers"
