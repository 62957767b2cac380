"""What people do with incidents. Each change is on the timeline and in the audit, and published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.incidents.application.change import Deed, commit
from services.incidents.application.policy import Policy
from services.incidents.domain import lifecycle, steps
from services.incidents.domain.evidence import Record
from services.incidents.domain.incident import AlreadyOpen, Change, Incident, Resolution
from services.incidents.domain.joining import join_keys
from services.incidents.domain.lifecycle import Piece
from services.incidents.store import assets, playbooks
from services.incidents.store import incidents as store
from shared.auth import Caller
from shared.contracts.incidents import IncidentCategory, IncidentSeverity, IncidentStatus
from shared.database import Tx
from shared.errors import Invalid
from shared.http import check_version


class ForeignAsset(Invalid):
    """That asset does not exist, or is none that you may know of."""


class OwnerUnclear(Invalid):
    """It is not clear whose incident this is."""


@dataclass(frozen=True, slots=True)
class NewIncident:
    """An incident that a person opens. `elsewhere` are assets that inventory knows and this service does not yet."""

    category: IncidentCategory
    title: str | None
    description: str
    severity: IncidentSeverity | None
    affected_assets: tuple[UUID, ...]
    owner_team: str | None
    session_id: str | None
    actor: str | None
    detected_by: str | None
    occurred_at: datetime | None
    detected_at: datetime | None
    elsewhere: Mapping[UUID, str]


async def open_by_hand(
    tx: Tx, caller: Caller, wanted: NewIncident, policy: Policy, *, id: UUID, at: datetime
) -> Incident:
    """Open an incident that no alert opened; its playbook starts like any other's.

    Raises:
        ForeignAsset: an affected asset is not known to the caller.
        OwnerUnclear: no asset says whose it is, and the caller's teams do not, either.
        AlreadyOpen: an open incident has the same category, asset and session or actor.
    """
    teams = await _owners(tx, caller, wanted)
    stored = await playbooks.current(tx, wanted.category)
    detected_at = wanted.detected_at or at
    change = lifecycle.open_incident(
        stored.playbook,
        id=id,
        title=wanted.title or stored.playbook.title,
        description=wanted.description,
        severity=wanted.severity or stored.playbook.severity_default,
        affected_assets=wanted.affected_assets,
        owner_teams=teams,
        session_id=wanted.session_id,
        actor=wanted.actor,
        detected_by=wanted.detected_by or caller.subject,
        opened_by=caller.subject,
        playbook_version=stored.version,
        playbook_author=stored.author,
        occurred_at=wanted.occurred_at or detected_at,
        detected_at=detected_at,
        at=at,
    )
    if wanted.session_id or wanted.actor:
        await _claim(tx, wanted, teams, id)
    detail = {"category": wanted.category, "severity": change.incident.severity}
    return await commit(tx, None, change, policy, deed=Deed(caller, "incident.opened", detail))


async def _owners(tx: Tx, caller: Caller, wanted: NewIncident) -> list[str]:
    known = await assets.owners(tx, wanted.affected_assets)
    teams: list[str] = []
    for number, asset_id in enumerate(wanted.affected_assets):
        team = known.get(asset_id, wanted.elsewhere.get(asset_id))
        if team is None or not caller.sees(team):
            raise ForeignAsset(f"there is no asset {asset_id}", field=f"/affected_assets/{number}")
        teams.append(team)
    if wanted.owner_team is not None:
        if not caller.sees(wanted.owner_team):
            raise OwnerUnclear(f"you do not speak for {wanted.owner_team}", field="/owner_team")
        teams.insert(0, wanted.owner_team)
    if not any(teams) and caller.teams is not None:
        if len(caller.teams) != 1:
            raise OwnerUnclear("name the owner_team, or an asset that has one", field="/owner_team")
        teams = list(caller.teams)
    return teams


async def _claim(tx: Tx, wanted: NewIncident, teams: Sequence[str], incident_id: UUID) -> None:
    places: list[tuple[UUID | None, str]] = [(asset_id, "") for asset_id in wanted.affected_assets]
    keys = {
        key
        for asset_id, team in places or [(None, team) for team in teams or ("",)]
        for key in join_keys(wanted.category, asset_id, team, wanted.session_id, wanted.actor)
    }
    free = await store.claim(tx, dict.fromkeys(keys, incident_id))
    if free != keys:
        holders = await store.holders(tx, keys - free)
        other = str(min(holders.values())) if holders else ""
        raise AlreadyOpen("an incident for the same is open already; work on that one", incident_id=other)


@dataclass(frozen=True, slots=True)
class Amendment:
    """What a PATCH asks for; None leaves a field as it is, `unassign` takes the assignment away."""

    severity: IncidentSeverity | None = None
    title: str | None = None
    description: str | None = None
    assigned_to: str | None = None
    unassign: bool = False
    status: IncidentStatus | None = None
    reason: str | None = None
    resolution: Resolution | None = None


async def amend(
    tx: Tx,
    caller: Caller,
    incident_id: UUID,
    wanted: Amendment,
    expected_version: int | None,
    policy: Policy,
    at: datetime,
) -> Incident:
    """Assign, rename, re-rate or move an incident.

    Raises:
        UnknownIncident, PreconditionFailed, and what lifecycle.set_status refuses.
    """
    before = await store.lock(tx, incident_id, caller)
    check_version(before.version, expected_version)
    change = lifecycle.amend(
        before,
        by=caller.subject,
        at=at,
        severity=wanted.severity,
        title=wanted.title,
        description=wanted.description,
        assigned_to=wanted.assigned_to,
        unassign=wanted.unassign,
        reason=wanted.reason,
    )
    if wanted.status is not None:
        moved = lifecycle.set_status(
            change.incident,
            wanted.status,
            by=caller.subject,
            at=at,
            reason=wanted.reason,
            resolution=wanted.resolution,
        )
        change = change.then(moved)
    detail = {"what": sorted({happening.kind for happening in change.happenings}), "reason": wanted.reason}
    return await commit(tx, before, change, policy, deed=Deed(caller, "incident.changed", detail))


async def complete_step(
    tx: Tx, caller: Caller, incident_id: UUID, number: int, outcome: str, policy: Policy, at: datetime
) -> Incident:
    before = await store.lock(tx, incident_id, caller)
    change = steps.complete_step(before, number, by=caller.subject, at=at, outcome=outcome)
    return await _step_changed(tx, caller, before, change, number, "step.completed", policy)


async def skip_step(
    tx: Tx, caller: Caller, incident_id: UUID, number: int, reason: str, policy: Policy, at: datetime
) -> Incident:
    before = await store.lock(tx, incident_id, caller)
    change = steps.skip_step(before, number, by=caller.subject, at=at, reason=reason)
    return await _step_changed(tx, caller, before, change, number, "step.skipped", policy)


async def approve_step(
    tx: Tx, caller: Caller, incident_id: UUID, number: int, note: str, policy: Policy, at: datetime
) -> Incident:
    before = await store.lock(tx, incident_id, caller)
    change = steps.approve_step(before, number, by=caller.subject, at=at, note=note)
    return await _step_changed(tx, caller, before, change, number, "step.approved", policy)


async def retry_step(
    tx: Tx, caller: Caller, incident_id: UUID, number: int, reason: str | None, policy: Policy, at: datetime
) -> Incident:
    before = await store.lock(tx, incident_id, caller)
    change = steps.retry_step(before, number, by=caller.subject, at=at, reason=reason)
    return await _step_changed(tx, caller, before, change, number, "step.retried", policy)


async def _step_changed(
    tx: Tx, caller: Caller, before: Incident, change: Change, number: int, action: str, policy: Policy
) -> Incident:
    return await commit(tx, before, change, policy, deed=Deed(caller, action, {"step": number}))


async def add_evidence(
    tx: Tx, caller: Caller, incident_id: UUID, piece: Piece, policy: Policy, at: datetime
) -> tuple[Incident, Record]:
    """Append to the incident's evidence; also to that of a closed one, for evidence comes late."""
    before = await store.lock(tx, incident_id, caller)
    change, records = lifecycle.collect(before, [piece], by=caller.subject, at=at)
    detail = {"evidence_id": str(piece.id), "sequence": records[0].sequence, "hash": records[0].hash}
    deed = Deed(caller, "evidence.added", detail)
    return await commit(tx, before, change, policy, deed=deed, records=records), records[0]


async def take_owners(tx: Tx, changed: Mapping[UUID, str], policy: Policy, at: datetime) -> None:
    """Assets have other owners than was known: their open incidents are theirs."""
    for before in await store.lock_unended_of_assets(tx, list(changed)):
        known = await assets.owners(tx, before.affected_assets)
        teams = [known[asset_id] for asset_id in before.affected_assets if asset_id in known]
        await commit(tx, before, lifecycle.own(before, teams, by="inventory", at=at), policy)
