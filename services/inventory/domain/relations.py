"""How assets relate, and which way harm goes along each relation.

An edge is stored in the direction of harm, from the asset that was compromised (upstream) to the one that feels it
(downstream), so that a walk in either direction follows one column, whatever the relations on its way are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from shared.contracts.inventory import Relation
from shared.errors import Conflict, Invalid, NotFound

DECLARED = "declared"
"""Source of an edge that a person stated."""
UPSTREAM_ASSETS = "upstream_assets"
DOWNSTREAM_ASSETS = "downstream_assets"
RECORD_SOURCES = frozenset({UPSTREAM_ASSETS, DOWNSTREAM_ASSETS})
"""Sources of edges that an asset's own record states: its downstream end's, its upstream end's."""
DECLARED_SOURCES = RECORD_SOURCES | {DECLARED}


class EdgeNotFound(NotFound):
    """No such edge of this asset."""


class EdgeOfRecord(Conflict):
    """This edge is kept by another record."""


class UnknownNeighbour(Invalid):
    """An edge leads to an asset."""


class ForeignEdge(Invalid):
    """You may not make another team's asset depend on yours."""


class Harm(StrEnum):
    """Which end of an edge feels what befalls the other."""

    REACHES_SUBJECT = "reaches_subject"
    REACHES_OBJECT = "reaches_object"


@dataclass(frozen=True, slots=True)
class Flow:
    """Which way harm goes along a relation, and why."""

    harm: Harm
    reason: str


FLOWS: Mapping[Relation, Flow] = {
    Relation.USES_MODEL: Flow(Harm.REACHES_SUBJECT, "what a manipulated model answers is what its user says and does"),
    Relation.FINE_TUNED_FROM: Flow(Harm.REACHES_SUBJECT, "a backdoor or weakness of the base survives fine-tuning"),
    Relation.TRAINED_ON: Flow(Harm.REACHES_SUBJECT, "poisoned examples become the model's behaviour"),
    Relation.EMBEDS_INTO: Flow(
        Harm.REACHES_OBJECT, "vectors of a manipulated embedding model decide what the store finds"
    ),
    Relation.RETRIEVES_FROM: Flow(
        Harm.REACHES_SUBJECT, "a planted document enters the context of whoever retrieves it"
    ),
    Relation.CALLS_TOOL: Flow(
        Harm.REACHES_SUBJECT, "descriptions and results of a hostile tool are read as instructions by its caller"
    ),
    Relation.EXPOSES_CREDENTIAL: Flow(
        Harm.REACHES_OBJECT, "whoever gets into the place where a credential lies has the credential"
    ),
    Relation.GUARDED_BY: Flow(Harm.REACHES_SUBJECT, "what a failed guardrail lets through hits what it guarded"),
    Relation.SERVED_BY: Flow(Harm.REACHES_OBJECT, "an endpoint gives out what the model behind it answers"),
    Relation.DEPLOYED_IN: Flow(Harm.REACHES_SUBJECT, "a compromised platform controls everything that runs on it"),
    Relation.DEPENDS_ON: Flow(Harm.REACHES_SUBJECT, "what an asset depends on can fail it"),
}


@dataclass(frozen=True, slots=True)
class Edge:
    """One source's statement that `from_id` has the relation to `to_id`; `locator` says where it is written.

    Two edges with the same ends, relation and source are the same edge; the locator is its evidence.
    """

    from_id: UUID
    to_id: UUID
    relation: Relation
    source: str
    locator: str

    @property
    def upstream_id(self) -> UUID:
        """The end that harm comes from."""
        return ends(self.relation, self.from_id, self.to_id)[0]

    @property
    def downstream_id(self) -> UUID:
        """The end that harm reaches."""
        return ends(self.relation, self.from_id, self.to_id)[1]


@dataclass(frozen=True, slots=True)
class KnownEdge:
    """An edge as it is stored; it held from `valid_from` until `valid_to`, None when it holds."""

    edge_id: UUID
    edge: Edge
    valid_from: datetime
    valid_to: datetime | None


def ends(relation: Relation, from_id: UUID, to_id: UUID) -> tuple[UUID, UUID]:
    """(upstream, downstream) of an edge with that subject and object; its own inverse."""
    return (from_id, to_id) if FLOWS[relation].harm is Harm.REACHES_OBJECT else (to_id, from_id)
