"""Writing down what model cards need: people's words, and what sources say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from services.inventory.application.bom_changes import card_changed
from services.inventory.domain.asset import SourceKind, WrongState
from services.inventory.domain.bom.facts import read_facts
from services.inventory.store import assets as assets_store
from services.inventory.store import cards as store
from services.inventory.store.cards import Card
from shared import audit
from shared.auth import Caller
from shared.contracts.inventory import Lifecycle
from shared.database import Tx
from shared.http import check_version

_SOURCES = Caller("inventory", "service")


async def write_card(
    tx: Tx, caller: Caller, asset_id: UUID, expected: int | None, facts: Mapping[str, Any], at: datetime, *, whole: bool
) -> Card:
    """Set facts of a card as a person's word: None takes one back, so that what sources say shows again.

    Args:
        whole: these are all that people say; else the others stay.

    Raises:
        AssetNotFound, WrongState, PreconditionFailed.
    """
    current = await assets_store.get(tx, caller, asset_id, lock=True)
    if current.asset.lifecycle is Lifecycle.RETIRED:
        raise WrongState("a retired asset's card stays as it was")
    card = await store.get(tx, asset_id)
    check_version(card.version, expected)
    told = {**({} if whole else card.declared), **facts}
    declared = {name: value for name, value in told.items() if value is not None}
    if declared == card.declared and card.version:
        return card
    after = replace(card, version=card.version + 1, declared=declared, updated_at=at, updated_by=caller.subject)
    await store.put(tx, after)
    await assets_store.touch(tx, [asset_id], at)
    await card_changed(tx, current.asset, card.facts, after.facts, at, caller.subject)
    changed = sorted(name for name in {*declared, *card.declared} if declared.get(name) != card.declared.get(name))
    await audit.record(
        tx,
        caller,
        action="asset.model_card_written",
        target=str(asset_id),
        detail={"version": after.version, "changed": changed},
        owner_team=current.asset.owner_team,
    )
    return after


async def renew_card(
    tx: Tx, asset_id: UUID, facts: Mapping[str, Any], locator: str, at: datetime, *, by: str = "discovery"
) -> bool:
    """Keep what a source says for an asset's card; True when that changed what holds.

    What the source no longer says and only it said is gone; what a person said stands. Names and forms that sources use
    are understood (domain.bom.facts.read_facts), what is no fact of a card is passed over.

    Raises:
        AssetNotFound.
    """
    read = read_facts(facts)
    current = await assets_store.get(tx, _SOURCES, asset_id, lock=True)
    card = await store.get(tx, asset_id)
    stale = {name for name, source in card.sources.items() if source["locator"] == locator and name not in read}
    inferred = {name: value for name, value in {**card.inferred, **read}.items() if name not in stale}
    if inferred == card.inferred:
        return False
    told = {"kind": SourceKind.INFERRED.value, "locator": locator, "at": at.isoformat()}
    sources = {name: told if name in read else card.sources[name] for name in inferred}
    after = replace(
        card, version=card.version + 1, inferred=inferred, sources=sources, updated_at=at, updated_by=by
    )  # fmt: skip
    await store.put(tx, after)
    await assets_store.touch(tx, [asset_id], at)
    await card_changed(tx, current.asset, card.facts, after.facts, at, by)
    return card.facts != after.facts
