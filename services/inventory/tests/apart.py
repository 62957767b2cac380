"""Whether entries that are different things would be registered as different assets."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from uuid import UUID

from services.inventory.domain.asset import key_of, register
from services.inventory.domain.claims import Found
from services.inventory.domain.discovery import Source
from services.inventory.domain.evidence import declared_of
from services.inventory.tests.factories import NOW


def taken_for_one(found: Iterable[Found]) -> list[tuple[str, str]]:
    """Locators of entries that share no name and have one registration key: two things that would be one asset.

    Revisions of one repository are one asset: the specification's key knows no versions.
    """
    by_key: dict[bytes, list[Found]] = {}
    for entry in found:
        asset = register(UUID(int=7), declared_of(Source.REPOSITORY, entry), by="x", at=NOW)
        by_key.setdefault(key_of(asset), []).append(entry)
    return [
        (one.locator, other.locator)
        for entries in by_key.values()
        for one, other in combinations(entries, 2)
        if not {one.locator, *one.identities} & {other.locator, *other.identities}
        and not (one.value("source_url") and one.value("source_url") == other.value("source_url"))
    ]
