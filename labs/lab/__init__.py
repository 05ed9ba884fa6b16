"""The life of one lab: up, find again, down."""

from labs.lab.lab import Lab, Member, find, find_all

__all__ = ["Lab", "Member", "find", "find_all"]
