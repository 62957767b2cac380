"""Judging in the background how complete bills of materials are."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson

from services.inventory.domain import bom
from services.inventory.domain.asset import Asset
from services.inventory.domain.bom.completeness import completeness
from services.inventory.store import boms, cards
from services.inventory.store import scores as store
from shared.auth import Caller
from shared.contracts.inventory import Relation
from shared.database import Tx

_EVERYTHING = Caller("inventory", "service")


async def judge_some(tx: Tx, late: timedelta, limit: int) -> bool:
    """Judge the bills of up to `limit` assets that changed; True when there are more.

    Args:
        late: how long after its beginning a transaction may have ended to be noticed.
    """
    assets = await store.unjudged(tx, late, limit)
    if not assets:
        return False
    keys = [asset.asset_id for asset in assets]
    edges = await boms.edges(tx, keys)
    peers = await boms.peers(tx, _EVERYTHING, {edge[2] for edge in edges})
    facts = await cards.facts_of(tx, keys)
    relations = bom.relations_of([edge for edge in edges if edge[2] in peers], peers, keys)
    judged = []
    for asset in assets:
        stored = await boms.get(tx, asset.asset_id) if asset.sbom_available else None
        document = (
            orjson.loads(stored.document)
            if stored is not None
            else _own(asset, facts.get(asset.asset_id), relations[asset.asset_id])
        )
        found = completeness(document)
        names = [one.name for one in found.missing]
        judged.append((asset.asset_id, asset.owner_team, found.score, names, asset.last_updated))
    await store.put(tx, judged)
    return len(assets) == limit


def _own(asset: Asset, facts: Mapping[str, Any] | None, relations: list[tuple[Relation, bom.Peer]]) -> dict[str, Any]:
    """The part of the bill that is judged: the frame, and the asset itself."""
    metadata: dict[str, Any] = {"component": bom.component(asset, facts, relations)}
    if asset.owner_team:
        metadata["authors"] = [{"name": asset.owner_team}]
    return {
        **bom.frame(bom.SPEC_VERSIONS[0], UUID(int=0), metadata, asset.last_updated),
        "dependencies": [bom.dependency(asset.asset_id, ())],
    }
