"""The life of one lab: up, find again, down."""

from labs.lab.lab import Lab, Member, Remains, find, find_all, survey

__all__ = ["Lab", "Member", "Remains", "find", "find_all", "survey"]
