"""The labels that everything a lab makes carries, and that it is found by again."""

from __future__ import annotations

PREFIX = "org.mesh-labs."

LAB = f"{PREFIX}lab"  # the lab's name
RUN = f"{PREFIX}run"  # one `up`; its files and leftovers are told apart by it
NAME = f"{PREFIX}name"  # the name inside the lab: service, peer, host, network or volume
ROLE = f"{PREFIX}role"  # service, peer, host or helper
USER = f"{PREFIX}user"  # the user a peer belongs to
TOPOLOGY = f"{PREFIX}topology"
PRODUCT = f"{PREFIX}product"
CONTROL = f"{PREFIX}control"  # the network where peers attach
READY = f"{PREFIX}ready"  # KIND:PORT:PATH, the check that says a service serves
STAND_IN = f"{PREFIX}stand-in"  # what a service stands in for
SERVES = f"{PREFIX}serves"  # what a host serves
CREATED = f"{PREFIX}created"  # UTC, ISO 8601
EXPIRES = f"{PREFIX}expires"  # UTC, ISO 8601: after this `inv list` calls the lab expired
OWNER = f"{PREFIX}owner"  # a digest that tells checkouts apart without naming their paths
SETTINGS = f"{PREFIX}settings"  # a digest of all that decides what the lab is
