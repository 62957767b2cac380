"""Keeping the bill of materials that somebody supplied for an asset."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any
from uuid import UUID

from services.inventory.application.assets import amend_asset
from services.inventory.domain import bom
from services.inventory.domain.asset import WrongState
from services.inventory.store import assets as assets_store
from services.inventory.store import boms as store
from services.inventory.store.boms import StoredBom
from shared import audit
from shared.auth import Caller
from shared.contracts.inventory import Lifecycle
from shared.database import Tx


async def store_bom(
    tx: Tx, caller: Caller, asset_id: UUID, document: dict[str, Any], as_sent: bytes, at: datetime
) -> tuple[StoredBom, bool]:
    """Keep the document, in place of any before, and let the asset say that it has one; True when it is the first.

    Raises:
        AssetNotFound, WrongState, NotABom.
    """
    bom.check(document)
    current = await assets_store.get(tx, caller, asset_id, lock=True)
    if current.asset.lifecycle is Lifecycle.RETIRED:
        raise WrongState("a retired asset gets no new bill of materials")
    stored = StoredBom(
        asset_id=asset_id,
        document=as_sent,
        digest=hashlib.sha256(as_sent).hexdigest(),
        spec_version=str(document["specVersion"]),
        components=len(document.get("components", [])),
        stored_at=at,
        stored_by=caller.subject,
    )
    first = await store.put(tx, stored)
    await amend_asset(tx, caller, asset_id, None, {"sbom_available": True}, at)
    await audit.record(
        tx,
        caller,
        action="asset.bom_stored",
        target=str(asset_id),
        detail={"sha256": stored.digest, "components": stored.components},
        owner_team=current.asset.owner_team,
    )
    return stored, first
