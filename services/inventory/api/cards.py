"""/v1/assets/{id}/model-card: what is known for an asset's model card, by people and by sources."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pydantic import Field
from starlette.responses import Response

from services.inventory.application.cards import write_card
from services.inventory.domain.bom.facts import ModelFacts
from services.inventory.store import assets as assets_store
from services.inventory.store import cards as store
from services.inventory.store.cards import Card
from shared.auth import requires
from shared.database import Tx
from shared.http import IfMatch, reply
from shared.models import Out
from shared.service import router as make_router
from shared.work import Work

router = make_router("/v1/assets", "model cards")


class FactSource(Out):
    kind: str
    locator: str
    at: datetime


class ModelCard(Out):
    """What is known of an asset for its model card."""

    asset_id: UUID
    version: int = Field(description="Grows by one a change; the ETag. 0 before the first.")
    facts: dict[str, Any] = Field(description="What holds: a person's word where there is one, else what sources say.")
    declared: dict[str, Any] = Field(description="What people said.")
    inferred: dict[str, Any] = Field(description="What sources say.")
    sources: dict[str, FactSource] = Field(description="Field -> where what is inferred stands.")
    updated_at: datetime | None
    updated_by: str


def _shown(card: Card) -> Response:
    view = ModelCard(
        asset_id=card.asset_id,
        version=card.version,
        facts=card.facts,
        declared=dict(card.declared),
        inferred=dict(card.inferred),
        sources={name: FactSource.model_validate(source) for name, source in card.sources.items()},
        updated_at=card.updated_at,
        updated_by=card.updated_by,
    )
    return reply(view, etag=card.version)


@router.get("/{asset_id:uuid}/model-card", response_model=ModelCard)
@requires("inventory:read")
async def read_model_card(asset_id: UUID, work: Work) -> Response:
    """What is known of the asset for its model card; its bill of materials shows it in CycloneDX's form."""

    async def read(tx: Tx) -> Card:
        await assets_store.get(tx, work.caller, asset_id)
        return await store.get(tx, asset_id)

    return _shown(await work.read(read))


@router.put("/{asset_id:uuid}/model-card", response_model=ModelCard)
@requires("inventory:write")
async def put_model_card(asset_id: UUID, body: ModelFacts, work: Work, expected: IfMatch) -> Response:
    """Say all that people know of the asset; what was said before and is left out is taken back."""
    facts = body.model_dump(mode="json", exclude_none=True)
    return await work.run(
        lambda tx: write_card(tx, work.caller, asset_id, expected, facts, datetime.now(UTC), whole=True), _shown
    )


@router.patch("/{asset_id:uuid}/model-card", response_model=ModelCard)
@requires("inventory:write")
async def patch_model_card(asset_id: UUID, body: ModelFacts, work: Work, expected: IfMatch) -> Response:
    """Say some of it (JSON Merge Patch, RFC 7396): null takes one back, so that what sources say shows again."""
    sent = body.model_dump(mode="json", exclude_unset=True)
    facts = {name: _without_nulls(value) for name, value in sent.items()}
    return await work.run(
        lambda tx: write_card(tx, work.caller, asset_id, expected, facts, datetime.now(UTC), whole=False), _shown
    )


def _without_nulls(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nulls(one) for one in value]
    if isinstance(value, dict):
        return {name: one for name, one in value.items() if one is not None}
    return value
