"""Containments: blocks of sessions, actors and assets."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import uuid_utils.compat as uuid_utils

from services.detection.application import SYSTEM, reach
from services.detection.store import containments as store
from services.detection.store import generation
from services.detection.store.containments import Containment
from shared import audit, outbox
from shared.auth import Caller
from shared.contracts.detection import ContainmentApplied, ContainmentLifted
from shared.database import Tx
from shared.errors import Conflict, NotFound


class NoSuchContainment(NotFound):
    """No such containment, or none that you may know of."""


class ContainmentOver(Conflict):
    """This containment is no longer in force."""


async def contain(
    tx: Tx,
    caller: Caller,
    target_kind: str,
    target: str,
    team: str | None,
    reason: str,
    expires_at: datetime | None,
    now: datetime,
) -> tuple[Containment, bool]:
    """Block a session, an actor or an asset; the containment, and whether it is new.

    A target that is contained already for the same team stays so, until the later of both times.

    Args:
        team: whose traffic a session or actor is blocked in; None everybody's, and the caller's where it has one team.

    Raises:
        NoSuchAsset: the asset is not the caller's to know of.
        Forbidden: a caller bound to teams names none of them.
        Invalid: a caller bound to several teams names no team.
    """
    if target_kind == "asset":
        owner_team = (await reach.asset_of(tx, caller, UUID(target))).asset.owner_team
    else:
        team = reach.whose_traffic(caller, team, "blocks sessions and actors")
        owner_team = team or ""
    new = Containment(
        uuid_utils.uuid7(), 1, target_kind, target, reason, owner_team, now, caller.subject, expires_at, team=team
    )  # fmt: skip
    added = await store.add(tx, new)
    if added is None:
        standing = await store.standing(tx, target_kind, target, team)
        if standing is None:
            # It was lifted between the two statements.
            return await contain(tx, caller, target_kind, target, team, reason, expires_at, now)
        if standing.expires_at is None or (expires_at is not None and expires_at <= standing.expires_at):
            return standing, False
        added = replace(standing, version=standing.version + 1, expires_at=expires_at)
        await store.save(tx, added)
    await generation.move(tx, "containments")
    await outbox.add(tx, ContainmentApplied(**_of_containment(added, caller, now)))
    detail = {
        "target_kind": target_kind, "target": target, "team": team, "reason": reason, "expires_at": str(expires_at)
    }  # fmt: skip
    await audit.record(
        tx, caller, action="containment.applied", target=str(added.containment_id), detail=detail, owner_team=owner_team
    )
    return added, added.version == 1


def _of_containment(one: Containment, caller: Caller, now: datetime) -> dict[str, Any]:
    return {
        "version": one.version,
        "occurred_at": now,
        "containment_id": one.containment_id,
        "target_kind": one.target_kind,
        "target": one.target,
        "reason": one.reason,
        "actor": caller.subject,
        "owner_team": one.owner_team,
        "expires_at": one.expires_at,
        "team": one.team,
    }


async def lift(tx: Tx, caller: Caller, containment_id: UUID, now: datetime) -> Containment:
    """End a containment.

    Raises:
        NoSuchContainment, ContainmentOver
    """
    one = await store.get(tx, containment_id, lock=True)
    if one is None or not caller.sees(one.owner_team):
        raise NoSuchContainment(f"there is no containment {containment_id}")
    if one.lifted_at is not None:
        raise ContainmentOver(f"it was lifted at {one.lifted_at.isoformat()}")
    lifted = await _lift(tx, caller, one, now)
    await audit.record(tx, caller, action="containment.lifted", target=str(containment_id), owner_team=one.owner_team)
    return lifted


async def _lift(tx: Tx, caller: Caller, one: Containment, now: datetime) -> Containment:
    lifted = replace(one, version=one.version + 1, lifted_at=now, lifted_by=caller.subject)
    await store.save(tx, lifted)
    await generation.move(tx, "containments")
    await outbox.add(tx, ContainmentLifted(**_of_containment(lifted, caller, now)))
    return lifted


async def expire(tx: Tx, now: datetime) -> None:
    """End containments whose time is over."""
    for one in await store.expired(tx, now):
        await _lift(tx, SYSTEM, one, now)
