"""What a claim came to."""

from __future__ import annotations

from enum import StrEnum

from labs.results.schema import SCHEMA_VERSION, EnvironmentFacts, Model


class Verdict(StrEnum):
    """Inconclusive: neither predicate holds, or an observation is missing."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    INCONCLUSIVE = "inconclusive"


class ClaimVerdict(Model):
    """One claim: the observations it needs (null: missing), where each came from, and what must not be concluded.

    `decide_with` is the command that would make what is missing, or why there is none; null when nothing is.
    """

    id: str
    says: str
    kind: str
    verdict: Verdict
    observations: dict[str, bool | float | None]
    evidence: tuple[str, ...]
    reason: str
    supported_if: str
    contradicted_if: str
    conditions: tuple[str, ...]
    not_shown: str
    decide_with: str | None


class ClaimsResult(Model):
    """All claims that were asked for, from results of one environment; null when there were no results at all."""

    schema_version: int = SCHEMA_VERSION
    environment: EnvironmentFacts | None
    sources: tuple[str, ...]
    claims: tuple[ClaimVerdict, ...]
