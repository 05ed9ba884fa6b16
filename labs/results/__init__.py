"""The schema of everything that is stored, and nothing of how it came about."""

from labs.results.schema import (
    ComparisonResult,
    ContainerFigures,
    Diagnosis,
    EnvironmentFacts,
    ImageFacts,
    JournalEntry,
    Layer,
    MutationResult,
    MutationsResult,
    Observation,
    Outcome,
    Phases,
    RepeatedScenario,
    RepeatResult,
    ScenarioResult,
    StackFigures,
    StepResult,
)
from labs.results.store import load, save

__all__ = [
    "ComparisonResult",
    "ContainerFigures",
    "Diagnosis",
    "EnvironmentFacts",
    "ImageFacts",
    "JournalEntry",
    "Layer",
    "MutationResult",
    "MutationsResult",
    "Observation",
    "Outcome",
    "Phases",
    "RepeatResult",
    "RepeatedScenario",
    "ScenarioResult",
    "StackFigures",
    "StepResult",
    "load",
    "save",
]
