"""Edges between assets."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from shared.contracts.inventory import Relation


@dataclass(frozen=True, slots=True)
class Edge:
    """One asset to another, as a source has it."""

    from_id: UUID
    to_id: UUID
    relation: Relation
    source: str
    locator: str
