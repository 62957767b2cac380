"""When what a bill of materials is written from changes: the bill before and after is kept, and the difference told."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
import uuid_utils.compat as uuid_utils

from services.inventory.domain import bom
from services.inventory.domain.asset import Asset
from services.inventory.store import boms as store
from services.inventory.store import cards
from services.inventory.store.boms import Kept
from shared import outbox
from shared.auth import Caller
from shared.contracts.inventory import BomChanged, Lifecycle, Relation
from shared.database import Tx

_NO_CONTENT = frozenset({"sbom_available", "downstream_assets", "last_security_review", "owner_email", "sources"})
"""Fields whose change makes no other bill."""
_CARRIED = 200
_EVERYTHING = Caller("inventory", "service")


async def asset_changed(tx: Tx, before: Asset, after: Asset, fields: frozenset[str], at: datetime, by: str) -> None:
    """Note that an asset's own record changed."""
    if fields <= _NO_CONTENT or await store.has(tx, after.asset_id):
        return
    facts = (await cards.get(tx, after.asset_id)).facts
    await _made_changed(tx, (before, facts), (after, facts), at, by)


async def card_changed(
    tx: Tx, asset: Asset, before: Mapping[str, Any], after: Mapping[str, Any], at: datetime, by: str
) -> None:
    """Note that the facts for an asset's model card changed."""
    if not await store.has(tx, asset.asset_id):
        await _made_changed(tx, (asset, before), (asset, after), at, by)


async def _made_changed(
    tx: Tx, before: tuple[Asset, Mapping[str, Any]], after: tuple[Asset, Mapping[str, Any]], at: datetime, by: str
) -> None:
    peers = await store.peers(tx, _EVERYTHING, {*before[0].upstream_assets, *after[0].upstream_assets})
    old, new = (bom.parts_of(_own(asset, facts, peers)) for asset, facts in (before, after))
    if old == new:
        return
    newest = await store.newest(tx, after[0].asset_id)
    if newest is None:
        newest = await keep(tx, before[0], None, "made", old, at, by)
    await keep(tx, after[0], newest, "made", new, at, by)


def _own(asset: Asset, facts: Mapping[str, Any], peers: Mapping[UUID, bom.Peer]) -> dict[str, Any]:
    """The asset's own part of its bill: itself, and what it depends on directly by name."""
    # Neither who is asked nor where an attribute was read makes another bill.
    asset = replace(asset, owner_email="", sources=(), last_security_review=None, lifecycle=Lifecycle.ACTIVE)
    near = [peers[key] for key in asset.upstream_assets if key in peers]
    return {
        "metadata": {"component": bom.component(asset, facts, [(Relation.DEPENDS_ON, peer) for peer in near])},
        "components": [
            {
                "bom-ref": str(peer.asset_id),
                "type": "application",
                "name": peer.name,
                "version": peer.model_version or "",
            }
            for peer in near
        ],
        "dependencies": [{"ref": str(asset.asset_id), "dependsOn": [str(peer.asset_id) for peer in near]}],
    }


async def keep(
    tx: Tx,
    asset: Asset,
    before: Kept | None,
    origin: str,
    parts: dict[str, dict[str, str]],
    at: datetime,
    by: str,
    *,
    document: bytes | None = None,
    spec_version: str = bom.SPEC_VERSIONS[0],
) -> Kept:
    """Keep a bill of an asset, and tell how it differs from the one before, if there is one or it is supplied."""
    content = document if document is not None else orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)
    bill = Kept(
        bom_id=uuid_utils.uuid7(),
        asset_id=asset.asset_id,
        number=1 if before is None else before.number + 1,
        origin=origin,
        owner_team=asset.owner_team,
        digest=hashlib.sha256(content).hexdigest(),
        spec_version=spec_version,
        components=len(parts) - ("root" in parts),
        document=document,
        parts=parts,
        stored_at=at,
        stored_by=by,
    )
    await store.keep(tx, bill)
    if before is not None or document is not None:
        found = bom.difference(before.parts if before is not None else {}, parts)
        if found:
            await outbox.add(tx, _event(asset, bill, found, at))
    return bill


def _event(asset: Asset, bill: Kept, found: bom.Difference, at: datetime) -> BomChanged:
    return BomChanged(
        version=bill.number,
        occurred_at=at,
        asset_id=asset.asset_id,
        owner_team=asset.owner_team,
        origin=bill.origin,
        added=found.added[:_CARRIED],
        removed=found.removed[:_CARRIED],
        changed=found.changed[:_CARRIED],
        added_count=len(found.added),
        removed_count=len(found.removed),
        changed_count=len(found.changed),
    )
