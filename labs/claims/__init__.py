"""The article's claims: from named observations, by two written predicates, to a verdict. Nothing is ever typed."""

from labs.claims.evidence import Evidence
from labs.claims.ledger import Claim, ledger
from labs.claims.verdict import judge

__all__ = ["Claim", "Evidence", "judge", "ledger"]
