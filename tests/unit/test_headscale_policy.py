"""Headscale's policy document, from one value to the next."""

from __future__ import annotations

from ipaddress import IPv4Network

from labs.controlplanes import Rule
from labs.controlplanes.headscale import policy

OFFICE = IPv4Network("10.1.0.0/24")


def test_an_empty_document_admits_everything_and_an_empty_list_nothing() -> None:
    assert policy.denying_all({}) == {"grants": []}


def test_a_rule_names_users_by_at_and_groups_by_group() -> None:
    document = policy.grouping({}, "staff", ["bob", "alice"])
    assert document == {"groups": {"group:staff": ["alice@", "bob@"]}}
    allowed = policy.allowing(document, Rule("staff", "carol", (80, 443)))
    assert allowed["grants"] == [{"src": ["group:staff"], "dst": ["carol@"], "ip": ["tcp:80", "tcp:443"]}]
    assert policy.allowing({}, Rule("alice", "bob"))["grants"] == [{"src": ["alice@"], "dst": ["bob@"], "ip": ["*"]}]


def test_revoking_undoes_allowing_and_nothing_else() -> None:
    both = policy.allowing(policy.allowing({}, Rule("alice", "bob", (80,))), Rule("alice", "bob", (8080,)))
    left = policy.revoking(both, Rule("alice", "bob", (80,)))
    assert left == policy.allowing({}, Rule("alice", "bob", (8080,)))
    assert policy.revoking(left, Rule("alice", "bob", (8080,))) == {"grants": []}, "and still denies the rest"


def test_an_exit_needs_a_rule_about_the_internet() -> None:
    (grant,) = policy.allowing_exit({}, "alice")["grants"]
    assert grant == {"src": ["alice@"], "dst": ["autogroup:internet"], "ip": ["*"]}


def test_approvers_add_up() -> None:
    other = IPv4Network("10.2.0.0/24")
    document = policy.auto_approving(policy.auto_approving({}, [OFFICE], "alice"), [other], "bob")
    assert document["autoApprovers"]["routes"] == {"10.1.0.0/24": ["alice@"], "10.2.0.0/24": ["bob@"]}
    assert "grants" not in document, "approving routes must not start denying traffic"
