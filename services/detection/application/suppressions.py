"""Suppressions: written, ended, expired."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

import uuid_utils.compat as uuid_utils

from services.detection.application import SYSTEM, reach
from services.detection.domain.rules import Level
from services.detection.domain.suppressions import Suppression, check_pattern
from services.detection.store import generation, rules
from services.detection.store import suppressions as store
from shared import audit
from shared.auth import Caller
from shared.contracts.detection import FindingKind
from shared.contracts.incidents import IncidentCategory
from shared.database import Tx
from shared.errors import Conflict, Forbidden, Invalid, NotFound


class NoSuchSuppression(NotFound):
    """No such suppression, or none that you may know of."""


class SuppressionOver(Conflict):
    """This suppression is no longer in force."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody asks to have suppressed; fields as of a Suppression."""

    rule_id: str | None
    kind: FindingKind | None
    category: IncidentCategory | None
    asset_id: UUID | None
    session_id: str | None
    actor: str | None
    digest: str | None
    pattern: str | None
    team: str | None
    owner_team: str
    owner: str
    reason: str
    expires_at: datetime


async def suppress(tx: Tx, caller: Caller, wanted: Wanted, longest: timedelta, now: datetime) -> Suppression:
    """Put a suppression in force.

    Raises:
        NoSuchAsset: the asset is not the caller's to know of.
        Forbidden: it reaches further than the traffic of the caller's teams, or another team is to answer for it.
        Invalid: names the field.
    """
    if wanted.rule_id is None and wanted.kind is None and wanted.category is None:
        raise Invalid("say which findings: rule_id, kind or category", field="/rule_id")
    if wanted.expires_at <= now:
        raise Invalid("this is in the past: it would never hold", field="/expires_at")
    if wanted.expires_at > now + longest:
        raise Invalid(f"a suppression lasts at most {longest.days} days", field="/expires_at")
    if wanted.pattern is not None:
        check_pattern(wanted.pattern)
    if not caller.sees(wanted.owner_team):
        raise Forbidden("a suppression is answered for by a team of yours")
    team = await _whose(tx, caller, wanted)
    if wanted.rule_id is not None:
        stored = await rules.get(tx, caller, wanted.rule_id)
        if stored is None:
            raise Invalid(f"there is no rule {wanted.rule_id}", field="/rule_id")
        if stored.rule.level is Level.CRITICAL and wanted.asset_id is None:
            raise Invalid("a critical rule is suppressed for a named asset only", field="/asset_id")
    one = Suppression(
        suppression_id=uuid_utils.uuid7(),
        version=1,
        rule_id=wanted.rule_id,
        kind=wanted.kind,
        category=wanted.category,
        asset_id=wanted.asset_id,
        session_id=wanted.session_id,
        actor=wanted.actor,
        digest=wanted.digest,
        pattern=wanted.pattern,
        team=team,
        owner_team=wanted.owner_team,
        owner=wanted.owner,
        reason=wanted.reason,
        created_at=now,
        created_by=caller.subject,
        expires_at=wanted.expires_at,
    )
    await store.add(tx, one)
    await _announce(tx, caller, one, "created")
    return one


async def _whose(tx: Tx, caller: Caller, wanted: Wanted) -> str | None:
    """Whose traffic it is to hold for; of an asset it is that of the team that owns it now."""
    if wanted.asset_id is not None:
        watched = await reach.asset_of(tx, caller, wanted.asset_id)
        if wanted.team is not None and wanted.team != watched.asset.owner_team:
            raise Invalid("the asset is another team's", field="/team")
        # When the asset changes hands, its new owner has not agreed to this.
        return watched.asset.owner_team
    return reach.whose_traffic(caller, wanted.team, "suppresses findings")


async def end(tx: Tx, caller: Caller, suppression_id: UUID, now: datetime) -> Suppression:
    """End a suppression before its time.

    Raises:
        NoSuchSuppression, SuppressionOver
        Forbidden: it holds for more than the traffic of the caller's teams.
    """
    one = await store.get(tx, caller, suppression_id, lock=True)
    if one is None:
        raise NoSuchSuppression(f"there is no suppression {suppression_id}")
    if one.team is None and not caller.organization_wide:
        raise Forbidden("this suppression is the whole organisation's; your key is bound to teams")
    if one.ended_at is not None:
        raise SuppressionOver(f"it ended at {one.ended_at.isoformat()}")
    ended = replace(one, version=one.version + 1, ended_at=now, ended_by=caller.subject)
    await store.save(tx, ended)
    await _announce(tx, caller, ended, "ended")
    return ended


async def expire(tx: Tx, now: datetime) -> None:
    """End suppressions whose time is over."""
    for one in await store.expired(tx, now):
        ended = replace(one, version=one.version + 1, ended_at=now, ended_by=SYSTEM.subject)
        await store.save(tx, ended)
        await _announce(tx, SYSTEM, ended, "expired")


async def _announce(tx: Tx, caller: Caller, one: Suppression, change: str) -> None:
    await generation.move(tx, "suppressions")
    names = ("rule_id", "kind", "category", "asset_id", "session_id", "actor", "digest", "pattern", "team", "owner")
    detail = {name: value for name in names if (value := getattr(one, name)) is not None}
    detail |= {"reason": one.reason, "expires_at": one.expires_at.isoformat(), "hits": one.hits}
    await audit.record(
        tx, caller, action=f"suppression.{change}", target=str(one.suppression_id), detail=detail,
        owner_team=one.owner_team,
    )  # fmt: skip
