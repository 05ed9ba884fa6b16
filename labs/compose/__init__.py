"""Compose files are the topologies: a strict reader of the subset they use."""

from labs.compose.reader import Needs, OperatorCounts, access, count, needs, read

__all__ = ["Needs", "OperatorCounts", "access", "count", "needs", "read"]
