"""What may be done to one asset; each change is stored, announced, audited and kept in the asset's history at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

from services.inventory.application import bom_changes
from services.inventory.domain.asset import (
    Asset,
    Change,
    ForeignDownstream,
    KeyTaken,
    OwnerOutsideTeams,
    ReviewOutcome,
    key_of,
)
from services.inventory.store import assets as store
from services.inventory.store.assets import Known
from shared import audit, outbox
from shared.auth import Caller
from shared.contracts.inventory import (
    AssetEvent,
    AssetQuarantined,
    AssetRegistered,
    AssetReleased,
    AssetRetired,
    AssetReviewed,
    AssetUpdated,
)
from shared.database import Tx
from shared.errors import Unavailable
from shared.http import check_version


async def register_asset(tx: Tx, caller: Caller, asset: Asset) -> tuple[Known, bool]:
    """Record a new asset, or note that the one with its key was heard of again; True when it is new.

    Raises:
        OwnerOutsideTeams: the caller may not own it in that team.
        KeyTaken: the one with its key is another team's.
        ForeignDownstream: it claims an asset of another team as depending on it.
    """
    # The one that holds the key may be retired between our two looks; then the key is free and we try again.
    for _ in range(3):
        if (new := await register_new_asset(tx, caller, asset)) is not None:
            return new
        existing = await store.get_by_key(tx, key_of(asset))
        if existing is not None:
            return await _heard_of(tx, caller, existing, asset.registered_date), False
    raise Unavailable("an asset with this key is being retired and registered at this moment")


async def register_new_asset(tx: Tx, caller: Caller, asset: Asset) -> tuple[Known, bool] | None:
    """The same with one statement that writes, so that `tx` need be no transaction; None when there is one with its
    key."""
    demand_ownership(caller, asset.owner_team)
    await refuse_foreign_downstream(tx, caller, asset.downstream_assets)
    return (Known(asset), True) if await store.add(tx, caller, asset, registered(asset)) else None


async def _heard_of(tx: Tx, caller: Caller, existing: Known, at: datetime) -> Known:
    if not caller.sees(existing.asset.owner_team):
        raise KeyTaken("another team has registered this asset")
    await store.touch(tx, [existing.asset.asset_id], at)
    return await store.get(tx, caller, existing.asset.asset_id)


def registered(asset: Asset) -> AssetRegistered:
    """The announcement of a new asset."""
    return AssetRegistered(version=asset.version, occurred_at=asset.registered_date, asset=asset.snapshot())


async def state_of_asset(
    tx: Tx, caller: Caller, asset_id: UUID, expected_version: int | None, values: Mapping[str, Any], at: datetime
) -> Known:
    """Set fields of an asset because a person says so. Raises what amend_asset raises."""
    current = await store.get(tx, caller, asset_id, lock=True)
    return await amend_asset(tx, caller, asset_id, expected_version, current.asset.stated(values, caller.subject), at)


async def amend_asset(
    tx: Tx, caller: Caller, asset_id: UUID, expected_version: int | None, values: Mapping[str, Any], at: datetime
) -> Known:
    """Set fields of an asset.

    Raises:
        AssetNotFound, PreconditionFailed, WrongState, SelfDependency, KeyTaken, OwnerOutsideTeams, ForeignDownstream.
    """
    current = await store.get(tx, caller, asset_id, lock=True)
    check_version(current.asset.version, expected_version)
    if "owner_team" in values:
        demand_ownership(caller, values["owner_team"])
    await refuse_foreign_downstream(tx, caller, values.get("downstream_assets", ()))
    after, changes = current.asset.amended(values, at)
    if changes:
        fields = tuple(change.field for change in changes)
        event = AssetUpdated(version=after.version, occurred_at=at, asset=after.snapshot(), changed=fields)
        await _commit(tx, caller, current.asset, after, changes, event, "updated", {})
        await bom_changes.asset_changed(tx, current.asset, after, frozenset(fields), at, caller.subject)
    return Known(after, current.risk_score, current.risk_level)


async def review_asset(
    tx: Tx,
    caller: Caller,
    asset_id: UUID,
    *,
    outcome: ReviewOutcome,
    reviewer: str,
    reviewed_on: date,
    notes: str,
    at: datetime,
) -> Known:
    """Record a security review. Raises AssetNotFound, WrongState, ReviewInFuture."""
    current = await store.get(tx, caller, asset_id, lock=True)
    after, changes = current.asset.reviewed(outcome, reviewed_on, at)
    event = AssetReviewed(
        version=after.version, occurred_at=at, asset=after.snapshot(), reviewer=reviewer, outcome=outcome.value
    )
    detail = {"outcome": outcome.value, "reviewer": reviewer, "reviewed_on": reviewed_on.isoformat(), "notes": notes}
    await _commit(tx, caller, current.asset, after, changes, event, "reviewed", detail)
    return Known(after, current.risk_score, current.risk_level)


async def quarantine_asset(tx: Tx, caller: Caller, asset_id: UUID, reason: str, at: datetime) -> Known:
    """Take an asset out of use. Raises AssetNotFound, WrongState."""
    current = await store.get(tx, caller, asset_id, lock=True)
    after, changes = current.asset.quarantined(at)
    event = AssetQuarantined(
        version=after.version, occurred_at=at, asset=after.snapshot(), reason=reason, actor=caller.subject
    )
    await _commit(tx, caller, current.asset, after, changes, event, "quarantined", {"reason": reason})
    return Known(after, current.risk_score, current.risk_level)


async def release_asset(tx: Tx, caller: Caller, asset_id: UUID, reason: str, at: datetime) -> Known:
    """Let a quarantined asset be used again. Raises AssetNotFound, WrongState."""
    current = await store.get(tx, caller, asset_id, lock=True)
    after, changes = current.asset.released(at)
    event = AssetReleased(
        version=after.version, occurred_at=at, asset=after.snapshot(), reason=reason, actor=caller.subject
    )
    await _commit(tx, caller, current.asset, after, changes, event, "released", {"reason": reason})
    return Known(after, current.risk_score, current.risk_level)


async def retire_asset(tx: Tx, caller: Caller, asset_id: UUID, reason: str, at: datetime) -> Known:
    """Take an asset out of the estate for good. Raises AssetNotFound, WrongState."""
    current = await store.get(tx, caller, asset_id, lock=True)
    after, changes = current.asset.retired(at)
    event = AssetRetired(
        version=after.version, occurred_at=at, asset=after.snapshot(), reason=reason, actor=caller.subject
    )
    await _commit(tx, caller, current.asset, after, changes, event, "retired", {"reason": reason})
    return Known(after, current.risk_score, current.risk_level)


def demand_ownership(caller: Caller, team: str) -> None:
    """Raises OwnerOutsideTeams unless the caller may own assets in `team`; no team at all is for organisation-wide
    callers."""
    if not caller.sees(team):
        raise OwnerOutsideTeams(f"your key does not own assets of {team!r}" if team else "name one of your teams")


async def refuse_foreign_downstream(tx: Tx, caller: Caller, downstream: Sequence[UUID]) -> None:
    """Raises ForeignDownstream when one of these assets is another team's."""
    # The other direction is anybody's to declare: depending on another team's model is what teams do. But to make
    # another team's asset depend on mine is to write into its record.
    if foreign := await store.foreign(tx, caller, downstream):
        raise ForeignDownstream(f"{min(foreign)} is not yours to describe", field="/downstream_assets")


async def _commit(
    tx: Tx,
    caller: Caller,
    before: Asset,
    after: Asset,
    changes: Sequence[Change],
    event: AssetEvent,
    action: str,
    detail: Mapping[str, Any],
) -> None:
    await store.save(tx, before, after)
    await store.add_change(tx, after, actor=caller.subject, action=action, detail=detail, changes=changes)
    await outbox.add(tx, event)
    await audit.record(
        tx,
        caller,
        action=f"asset.{action}",
        target=str(after.asset_id),
        detail={**detail, "version": after.version, "changed": [change.field for change in changes]},
        owner_team=after.owner_team,
    )
