"""Headscale's policy document as a value: each function takes one and returns the next.

Format: https://headscale.net/stable/ref/acls/ - while it holds neither `acls` nor `grants` everything is
admitted; with an empty list of grants nothing is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network
from typing import Any

from labs.controlplanes.base import Rule

Document = Mapping[str, Any]


def denying_all(document: Document) -> Document:
    return {**document, "grants": []}


def allowing(document: Document, rule: Rule) -> Document:
    return {**document, "grants": [*document.get("grants", ()), _grant(document, rule)]}


def revoking(document: Document, rule: Rule) -> Document:
    gone = _grant(document, rule)
    return {**document, "grants": [grant for grant in document.get("grants", ()) if grant != gone]}


def allowing_exit(document: Document, source: str) -> Document:
    """Only a rule about autogroup:internet lets a client see exit nodes once there are rules."""
    grant = {"src": [_subject(document, source)], "dst": ["autogroup:internet"], "ip": ["*"]}
    return {**document, "grants": [*document.get("grants", ()), grant]}


def grouping(document: Document, name: str, users: Iterable[str]) -> Document:
    groups = {**document.get("groups", {}), f"group:{name}": [f"{user}@" for user in sorted(users)]}
    return {**document, "groups": groups}


def auto_approving(document: Document, prefixes: Iterable[IPv4Network], user: str) -> Document:
    approvers = document.get("autoApprovers", {})
    routes = {**approvers.get("routes", {}), **{str(prefix): [f"{user}@"] for prefix in prefixes}}
    return {**document, "autoApprovers": {**approvers, "routes": routes}}


def _grant(document: Document, rule: Rule) -> dict[str, list[str]]:
    traffic = [f"tcp:{port}" for port in rule.ports] or ["*"]
    return {"src": [_subject(document, rule.source)], "dst": [_subject(document, rule.target)], "ip": traffic}


def allowing_group(document: Document, group: str, target: str) -> Document:
    """A rule for a group that the document itself does not define."""
    grant = {"src": [f"group:{group}"], "dst": [_subject(document, target)], "ip": ["*"]}
    return {**document, "grants": [*document.get("grants", ()), grant]}


def _subject(document: Document, name: str) -> str:
    """A group of the document's, a person by e-mail address, or a user of the server's own."""
    group = f"group:{name}"
    if group in document.get("groups", {}):
        return group
    return name if "@" in name else f"{name}@"
