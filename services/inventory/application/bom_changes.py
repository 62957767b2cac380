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
from services.inventory.store.boms import Kept, Standing
from shared import outbox
from shared.auth import Caller
from shared.contracts.inventory import BomChanged, Lifecycle, Relation
from shared.database import Tx

_NO_CONTENT = frozenset({"sbom_available", "downstream_assets", "last_security_review", "owner_email", "sources"})
"""Fields whose change makes no other bill."""
_CARRIED = 200
_SERVICE = Caller("inventory", "service")


async def asset_changed(tx: Tx, before: Asset, after: Asset, fields: frozenset[str], at: datetime, by: str) -> None:
    """Note that an asset's own record changed."""
    if fields <= _NO_CONTENT:
        return
    standing = await store.standing(tx, after.asset_id)
    await _made_changed(tx, standing, (before, standing.facts), (after, standing.facts), at, by)


async def card_changed(
    tx: Tx, asset: Asset, before: Mapping[str, Any], after: Mapping[str, Any], at: datetime, by: str
) -> None:
    """Note that the facts for an asset's model card changed."""
    await _made_changed(tx, await store.standing(tx, asset.asset_id), (asset, before), (asset, after), at, by)


async def _made_changed(
    tx: Tx,
    standing: Standing,
    before: tuple[Asset, Mapping[str, Any]],
    after: tuple[Asset, Mapping[str, Any]],
    at: datetime,
    by: str,
) -> None:
    if standing.supplied:
        return
    # Of what is another team's only the id is written down: the asset's own team need not be allowed to know more.
    owner = replace(_SERVICE, teams=frozenset({after[0].owner_team}))
    peers = await store.peers(tx, owner, {*before[0].upstream_assets, *after[0].upstream_assets})
    old, new = (bom.parts_of(_own(asset, facts, peers)) for asset, facts in (before, after))
    if old == new:
        return
    number = standing.number
    if standing.parts is None:
        number = (await keep(tx, before[0], 0, None, "made", old, at, by)).number
    await keep(tx, after[0], number, standing.parts or old, "made", new, at, by)


def _own(asset: Asset, facts: Mapping[str, Any], peers: Mapping[UUID, bom.Peer]) -> dict[str, Any]:
    """The asset's own part of its bill: itself, and what it depends on directly by name."""
    # Neither who is asked nor where an attribute was read makes another bill.
    asset = replace(asset, owner_email="", sources=(), last_security_review=None, lifecycle=Lifecycle.ACTIVE)
    near = [peers[key] for key in asset.upstream_assets if key in peers]
    return {
        "metadata": {"component": bom.component(asset, facts, [(Relation.DEPENDS_ON, peer) for peer in near])},
        "components": [
            {"bom-ref": str(key), "type": "application", "name": peers[key].name if key in peers else str(key)}
            for key in asset.upstream_assets
        ],
        "dependencies": [{"ref": str(asset.asset_id), "dependsOn": [str(key) for key in asset.upstream_assets]}],
    }


async def keep(
    tx: Tx,
    asset: Asset,
    number: int,
    before: bom.Parts | None,
    origin: str,
    parts: dict[str, dict[str, str]],
    at: datetime,
    by: str,
    *,
    document: bytes | None = None,
    spec_version: str = bom.SPEC_VERSIONS[0],
) -> Kept:
    """Keep a bill of an asset after its `number`th, and tell how it differs from that, if there is one or this is
    supplied."""
    content = document if document is not None else orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)
    bill = Kept(
        bom_id=uuid_utils.uuid7(),
        asset_id=asset.asset_id,
        number=number + 1,
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
        found = bom.difference(before or {}, parts)
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
