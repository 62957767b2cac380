"""What the sources show, which asset each entry is, and where each attribute of an asset comes from."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query
from pydantic import Field, StringConstraints
from starlette.responses import Response

from services.inventory.application.discovery import assign_sighting
from services.inventory.domain.asset import Asset, SourceKind, as_json
from services.inventory.domain.claims import ObservationKind, Severity
from services.inventory.domain.discovery import Source
from services.inventory.domain.evidence import SightingState, words_on
from services.inventory.store import assets as assets_store
from services.inventory.store import sightings as store
from services.inventory.store.sightings import Sighting
from shared.auth import demand_organization, requires
from shared.contracts.inventory import Relation
from shared.database import Tx
from shared.http import reply
from shared.models import In, Out, PageOf
from shared.paging import Page
from shared.service import router as make_router
from shared.work import Work

router = make_router("/v1", "discovery")

Reason = Annotated[str, StringConstraints(min_length=1, max_length=2_000)]


class ClaimView(Out):
    attribute: str
    value: Any
    kind: SourceKind
    locator: str


class LinkView(Out):
    relation: Relation
    target: str = Field(description="Locator or identity of the other entry, which may not have been found yet.")
    reverse: bool
    locator: str


class ObservationView(Out):
    kind: ObservationKind
    severity: Severity
    detail: str
    locator: str


class SightingView(Out):
    """What one source says of one entry, and which asset that is."""

    sighting_id: UUID
    asset_id: UUID
    source: Source
    scope: str
    locator: str
    state: SightingState
    matched_by: str = Field(description="Why it is this asset.")
    pinned: bool = Field(description="A person said which asset it is; no run changes it.")
    first_seen: datetime
    last_seen: datetime
    changed_at: datetime
    missing_since: datetime | None
    gone_at: datetime | None
    stale_since: datetime | None = Field(description="Since when its scope cannot be read to its end.")
    identities: list[str]
    claims: list[ClaimView]
    links: list[LinkView]
    observations: list[ObservationView]

    @classmethod
    def of(cls, sighting: Sighting) -> SightingView:
        found = sighting.found
        return cls(
            sighting_id=sighting.sighting_id,
            asset_id=sighting.asset_id,
            source=sighting.source,
            scope=sighting.scope,
            locator=found.locator,
            state=sighting.state,
            matched_by=sighting.matched_by,
            pinned=sighting.pinned,
            first_seen=sighting.first_seen,
            last_seen=sighting.last_seen,
            changed_at=sighting.changed_at,
            missing_since=sighting.missing_since,
            gone_at=sighting.gone_at,
            stale_since=sighting.stale_since,
            identities=list(found.identities),
            claims=[
                ClaimView(attribute=one.attribute, value=as_json(one.value), kind=one.kind, locator=one.locator)
                for one in found.claims
            ],
            links=[LinkView.model_validate(link) for link in found.links],
            observations=[ObservationView.model_validate(one) for one in found.observations],
        )


class WordView(Out):
    """One answer to what an attribute is."""

    value: Any
    kind: SourceKind
    source: str = Field(description="A discovery source, or `person`.")
    locator: str
    last_seen: datetime | None


class AttributeEvidence(Out):
    attribute: str
    value: Any = Field(description="As the asset has it.")
    conflicting: bool = Field(description="Somebody says otherwise.")
    words: list[WordView] = Field(description="All that is said of it, the word that counts most first.")


class EvidenceView(Out):
    """How an asset came to be known: where each attribute comes from, who contradicts, and where it was seen."""

    asset_id: UUID
    attributes: list[AttributeEvidence]
    sightings: list[SightingView]

    @classmethod
    def of(cls, asset: Asset, sightings: Sequence[Sighting]) -> EvidenceView:
        seen = {one.sighting_id: one for one in sightings}
        attributes = []
        for attribute, words in words_on(asset, [t for one in sightings for t in one.testimonies]).items():
            value = getattr(asset, attribute)
            attributes.append(
                AttributeEvidence(
                    attribute=attribute,
                    value=as_json(value),
                    conflicting=any(word.value != value for word in words if word.kind is not SourceKind.UNRESOLVED),
                    words=[
                        WordView(
                            value=as_json(word.value),
                            kind=word.kind,
                            source=word.source.value if word.source else "person",
                            locator=word.locator,
                            last_seen=seen[word.sighting_id].last_seen if word.sighting_id else None,
                        )
                        for word in words
                    ],
                )
            )
        return cls(
            asset_id=asset.asset_id, attributes=attributes, sightings=[SightingView.of(one) for one in sightings]
        )


class Assignment(In):
    asset_id: UUID | None = Field(default=None, description="The asset that it is; null makes one of its own of it.")
    reason: Reason


@router.get("/discovery/sightings", response_model=PageOf[SightingView])
@requires("inventory:read")
async def list_sightings(
    work: Work,
    page: Page,
    source: Source | None = None,
    state: SightingState | None = None,
    observed: Annotated[ObservationKind | None, Query(description="Only entries of which this was observed.")] = None,
    locator: Annotated[str | None, Query(min_length=1, max_length=2_048, description="How the locator begins.")] = None,
) -> Response:
    """What the sources show, in the order in which it was first seen."""
    after = UUID(page.after[0]) if page.after else None
    found = await work.read(
        lambda tx: store.sightings(
            tx,
            work.caller,
            source=source,
            state=state,
            observed=observed,
            locator=locator,
            after=after,
            limit=page.limit + 1,
        )
    )
    items, cursor = page.cut(found, "sighting_id")
    return reply(PageOf[SightingView](items=[SightingView.of(item) for item in items], next_cursor=cursor))


@router.post("/discovery/sightings/{sighting_id:uuid}/assignment", response_model=SightingView)
@requires("inventory:write")
async def assign(sighting_id: UUID, body: Assignment, work: Work) -> Response:
    """Say which asset an entry is: merge it into another asset, or part it from one that it was wrongly merged with.

    It can be undone by another assignment. Links follow. An asset that discovery had registered and that no entry is
    any longer is retired.
    """
    demand_organization(work.caller, "discovery")
    return await work.run(
        lambda tx: assign_sighting(tx, work.caller, sighting_id, body.asset_id, body.reason, datetime.now(UTC)),
        lambda sighting: reply(SightingView.of(sighting)),
    )


@router.get("/assets/{asset_id:uuid}/evidence", response_model=EvidenceView)
@requires("inventory:read")
async def read_evidence(asset_id: UUID, work: Work) -> Response:
    """Where each attribute of an asset comes from, what contradicts it, and where the asset was seen."""

    async def read(tx: Tx) -> EvidenceView:
        asset = (await assets_store.get(tx, work.caller, asset_id)).asset
        sightings = (await store.sightings_of(tx, [asset_id]))[asset_id]
        return EvidenceView.of(asset, sightings)

    return reply(await work.read(read))
