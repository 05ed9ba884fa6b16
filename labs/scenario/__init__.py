"""Scenarios: what an operator wants, run on a lab, with evidence from both ends."""

from labs.scenario.loader import SUFFIX, Scenario, read
from labs.scenario.runner import run

__all__ = ["SUFFIX", "Scenario", "read", "run"]
