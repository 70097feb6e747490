"""What the source documents assert, each with a measurement that bears it out or does not."""

from __future__ import annotations

from diglot.benchmark.claims.record import Claim
from diglot.errors import UsageError

IDS = tuple(f"C{number}" for number in range(1, 32))

__all__ = ["IDS", "all_claims", "find_claims"]


def all_claims() -> tuple[Claim, ...]:
    """Every claim, in the documents' order."""
    from diglot.benchmark.claims import (
        document_000,
        document_001,
        document_002,
        document_003,
        document_004,
    )

    documents = (document_000, document_001, document_002, document_003, document_004)
    return tuple(claim for document in documents for claim in document.CLAIMS)


def find_claims(ids: list[str] | None) -> tuple[Claim, ...]:
    """The claims of those ids ("C9", "c10"), or all of them. Raises UsageError for an unknown one."""
    claims = all_claims()
    wanted = [name.upper() for name in ids or IDS]
    unknown = sorted(set(wanted) - set(IDS))
    if unknown:
        raise UsageError(
            f"There is no claim {', '.join(unknown)}.", expected=f"{IDS[0]} to {IDS[-1]}"
        )
    return tuple(claim for claim in claims if claim.id in wanted)
