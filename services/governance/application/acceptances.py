"""Acceptances and the board's decisions."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from services.governance.application import charter, redteam
from services.governance.application.actors import GOVERNANCE, new_id
from services.governance.application.controls import find_control
from services.governance.application.fields import named
from services.governance.domain.acceptances import (
    Acceptance,
    AcceptanceKind,
    AcceptanceStatus,
    BoardDecision,
    check_request,
)
from services.governance.domain.decisions import Decision
from services.governance.domain.documents import DoesNotFit, demand_near
from services.governance.store import acceptances as store
from services.governance.store import assets, policies
from services.governance.store.acceptances import KnownAcceptance
from shared import audit, outbox
from shared.auth import demand_organization
from shared.contracts.governance import (
    AcceptanceEvent,
    AcceptanceExpired,
    AcceptanceGranted,
    AcceptanceRejected,
    AcceptanceRequested,
    AcceptanceRevoked,
)
from shared.database import Tx
from shared.errors import Invalid
from shared.http import check_version
from shared.tokens import Caller

EXPIRIES_A_ROUND = 500


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked to be accepted, and until when."""

    kind: AcceptanceKind
    asset_id: UUID | None
    policy_id: str | None
    statement_id: str | None
    control_id: str | None
    justification: str
    compensating_measures: tuple[str, ...]
    expires_at: datetime


async def request(tx: Tx, caller: Caller, wanted: Request, at: datetime) -> KnownAcceptance:
    """Ask for an acceptance.

    Raises:
        AssetNotFound: there is no such asset, or none that the caller may see.
        AssetRetired: the asset is retired.
        Invalid: what is to be accepted is not said.
        NotFound: the policy or control does not exist.
        DoesNotFit: the statement does not exist, or the end is not within the appetite.
        AboveAppetite: the risk is too high to be accepted at all.
        Forbidden: it concerns no single asset, and the caller is bound to teams.
    """
    owner_team = ""
    if wanted.asset_id is not None:
        with named("/asset_id"):
            asset = await assets.get(tx, caller, wanted.asset_id)
        asset.demand_active()
        owner_team = asset.owner_team
    elif wanted.kind is AcceptanceKind.RISK:
        raise Invalid("say which asset's risk is to be accepted", field="/asset_id")
    else:
        demand_organization(caller, "an exception for no single asset")
    await _check_subject(tx, wanted)
    appetite = (await charter.appetite(tx)).document
    standing = await assets.standing(tx, wanted.asset_id)
    check_request(wanted.kind, wanted.expires_at, at, standing, appetite)
    acceptance = Acceptance(
        acceptance_id=new_id(),
        version=1,
        kind=wanted.kind,
        status=AcceptanceStatus.REQUESTED,
        asset_id=wanted.asset_id,
        policy_id=wanted.policy_id,
        statement_id=wanted.statement_id,
        control_id=wanted.control_id,
        justification=wanted.justification,
        compensating_measures=wanted.compensating_measures,
        expires_at=wanted.expires_at,
        requested_by=caller.subject,
        requested_at=at,
        requested_score=standing.residual_risk_score,
        requested_level=standing.risk_level,
    )
    await store.add(tx, acceptance)
    known = KnownAcceptance(acceptance, owner_team)
    await _announce(tx, caller, AcceptanceRequested, known, at)
    return known


async def _check_subject(tx: Tx, wanted: Request) -> None:
    if wanted.kind is AcceptanceKind.EXCEPTION and wanted.policy_id is None and wanted.control_id is None:
        raise Invalid("say which policy or control is deviated from", field="/policy_id")
    if wanted.statement_id is not None and wanted.policy_id is None:
        raise Invalid("say which policy the statement is in", field="/policy_id")
    if wanted.policy_id is not None:
        with named("/policy_id"):
            policy = await policies.get(tx, wanted.policy_id)
        statements = {statement.id for statement in policy.latest.text.statements}
        if wanted.statement_id is not None and wanted.statement_id not in statements:
            raise DoesNotFit(f"{wanted.statement_id!r} is not a statement of it", field="/statement_id")
    if wanted.control_id is not None:
        with named("/control_id"):
            await find_control(tx, wanted.control_id)


async def approve(
    tx: Tx,
    caller: Caller,
    acceptance_id: UUID,
    expected: int | None,
    *,
    note: str,
    decision_id: UUID | None,
    at: datetime,
) -> KnownAcceptance:
    """Accept what was asked for, at the risk as it stands now.

    Raises:
        AcceptanceNotFound: there is none, or none that the caller may see.
        PreconditionFailed: it was changed in the meantime.
        NotOpen, OwnRequest, NotEntitled, AboveAppetite, BoardDecisionMissing: see `Acceptance.approved`.
    """
    known = await store.get(tx, caller, acceptance_id, lock=True)
    check_version(known.acceptance.version, expected)
    decision = None
    if decision_id is not None:
        with named("/decision_id"):
            found = await store.get_decision(tx, caller, decision_id)
        decision = BoardDecision(found.decision_id, found.outcome, found.acceptance_id)
    approved = known.acceptance.approved(
        by=caller.subject,
        roles=caller.roles,
        at=at,
        standing=await assets.standing(tx, known.acceptance.asset_id),
        appetite=(await charter.appetite(tx)).document,
        decision=decision,
        note=note,
    )
    return await _save(tx, caller, AcceptanceGranted, KnownAcceptance(approved, known.owner_team), at)


async def reject(
    tx: Tx, caller: Caller, acceptance_id: UUID, expected: int | None, *, note: str, at: datetime
) -> KnownAcceptance:
    """Refuse what was asked for.

    Raises:
        AcceptanceNotFound: there is none, or none that the caller may see.
        PreconditionFailed: it was changed in the meantime.
        NotOpen, OwnRequest: see `Acceptance.rejected`.
    """
    known = await store.get(tx, caller, acceptance_id, lock=True)
    check_version(known.acceptance.version, expected)
    rejected = known.acceptance.rejected(by=caller.subject, at=at, note=note)
    return await _save(tx, caller, AcceptanceRejected, KnownAcceptance(rejected, known.owner_team), at)


async def revoke(
    tx: Tx, caller: Caller, acceptance_id: UUID, expected: int | None, *, reason: str, at: datetime
) -> KnownAcceptance:
    """Take an acceptance back before its end; findings that it covered are open again.

    Raises:
        AcceptanceNotFound: there is none, or none that the caller may see.
        PreconditionFailed: it was changed in the meantime.
        NotOpen: it is not in force.
    """
    known = await store.get(tx, caller, acceptance_id, lock=True)
    check_version(known.acceptance.version, expected)
    revoked = known.acceptance.revoked(by=caller.subject, at=at, reason=reason)
    ended = await _save(tx, caller, AcceptanceRevoked, KnownAcceptance(revoked, known.owner_team), at)
    await redteam.reopen_accepted(tx, [acceptance_id], at)
    return ended


async def expire(tx: Tx, at: datetime) -> int:
    """End acceptances whose time is over, in a bounded round; returns how many."""
    over = await store.over(tx, at, EXPIRIES_A_ROUND)
    for known in over:
        expired = KnownAcceptance(known.acceptance.expired(at), known.owner_team)
        await _save(tx, GOVERNANCE, AcceptanceExpired, expired, at)
    await redteam.reopen_accepted(tx, [known.acceptance_id for known in over], at)
    return len(over)


async def revoke_on(tx: Tx, asset_ids: Collection[UUID], at: datetime) -> None:
    """Assets were retired: nothing is left to accept."""
    for known in await store.approved_on(tx, asset_ids):
        revoked = known.acceptance.revoked(by=GOVERNANCE.subject, at=at, reason="the asset was retired")
        await _save(tx, GOVERNANCE, AcceptanceRevoked, KnownAcceptance(revoked, known.owner_team), at)


async def _save(
    tx: Tx, caller: Caller, kind: type[AcceptanceEvent], known: KnownAcceptance, at: datetime
) -> KnownAcceptance:
    await store.save(tx, known.acceptance)
    await _announce(tx, caller, kind, known, at)
    return known


async def _announce(tx: Tx, caller: Caller, kind: type[AcceptanceEvent], known: KnownAcceptance, at: datetime) -> None:
    acceptance = known.acceptance
    snapshot = acceptance.snapshot(known.owner_team)
    await outbox.add(tx, kind(version=acceptance.version, occurred_at=at, acceptance=snapshot))
    await audit.record(
        tx,
        caller,
        action=f"acceptance.{acceptance.status}",
        target=str(acceptance.acceptance_id),
        detail={
            "kind": acceptance.kind,
            "asset_id": str(acceptance.asset_id) if acceptance.asset_id else None,
            "expires_at": acceptance.expires_at.isoformat(),
        },
        owner_team=known.owner_team,
    )


# -- decisions ---------------------------------------------------------------------------------------------------------


async def record_decision(tx: Tx, caller: Caller, decision: Decision, at: datetime) -> Decision:
    """Write down what the board decided; the id, the recorder and the time are given here.

    Raises:
        NotFound: what it concerns or supersedes does not exist.
        DoesNotFit: it would be decided in the future.
        Forbidden: the caller is bound to teams.
    """
    demand_organization(caller, "a decision of the board")
    demand_near(decision.decided_on, at.date(), "/decided_on")
    if decision.decided_on > at.date():
        raise DoesNotFit("it cannot be decided in the future", field="/decided_on")
    if decision.asset_id is not None:
        with named("/asset_id"):
            await assets.get(tx, caller, decision.asset_id)
    if decision.acceptance_id is not None:
        with named("/acceptance_id"):
            concerned = await store.get(tx, caller, decision.acceptance_id)
        if decision.asset_id is None:
            decision = replace(decision, asset_id=concerned.acceptance.asset_id)
    if decision.policy_id is not None:
        with named("/policy_id"):
            await policies.get(tx, decision.policy_id)
    if decision.supersedes is not None:
        with named("/supersedes"):
            await store.get_decision(tx, caller, decision.supersedes)
    recorded = replace(decision, decision_id=new_id(), recorded_by=caller.subject, recorded_at=at)
    await store.add_decision(tx, recorded)
    await outbox.add(tx, recorded.event())
    await audit.record(
        tx,
        caller,
        action="decision.recorded",
        target=str(recorded.decision_id),
        detail={"title": recorded.title, "outcome": recorded.outcome},
    )
    return recorded
