"""Scenarios: what an operator wants, run on a lab, with evidence from both ends."""

from labs.scenario.loader import SUFFIX, Scenario, read
from labs.scenario.runner import run
from labs.scenario.trial import Trial, topology_for

__all__ = ["SUFFIX", "Scenario", "Trial", "read", "run", "topology_for"]
