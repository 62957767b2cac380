"""Alerts: raised for what is worth a person, folded, and judged."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import uuid_utils.compat as uuid_utils
from opentelemetry.trace import SpanKind

from services.detection.domain.verdict import FLAG_AT, Finding
from services.detection.store import alerts as store
from shared import audit, outbox, telemetry
from shared.auth import Caller
from shared.contracts.detection import (
    AlertDisposed,
    AlertRaised,
    AlertRepeated,
    AlertSnapshot,
    Decision,
    Direction,
    Disposition,
    Severity,
    Verdict,
)
from shared.contracts.incidents import IncidentCategory
from shared.database import Tx
from shared.errors import NotFound
from shared.http import check_version


class NoSuchAlert(NotFound):
    """No such alert, or none that you may know of."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A finding worth a person, with what it was found in; `traceparent` is the span it happened in, or its request."""

    finding: Finding
    verdict: Verdict
    decision: Decision
    inspection_id: UUID
    asset_id: UUID | None
    owner_team: str
    reported_by: str
    session_id: str | None
    actor: str | None
    model: str | None
    direction: Direction
    digest: str
    at: datetime
    traceparent: str | None = None

    @property
    def fold_key(self) -> str:
        """Equal for findings that say the same: one asset and team, reporter, rule, category, and session or actor."""
        whom = f"session {self.session_id}" if self.session_id else f"actor {self.actor}" if self.actor else ""
        # The team too: without an asset, another team's session of the same name is another session. The reporter too:
        # a session is refused in the requests of whoever named it, so each of them has to be known.
        place = (str(self.asset_id), self.owner_team, self.reported_by)
        parts = (*place, self.finding.rule_id, self.finding.category.value, whom)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


_GRAVITY = tuple(Severity)
_ATTACKS = frozenset({IncidentCategory.PROMPT_INJECTION_EXPLOITATION, IncidentCategory.JAILBREAK_BYPASS})


def worth_a_person(findings: Sequence[Finding]) -> list[Finding]:
    """The strongest finding of each category that counts.

    Injection and jailbreak count as one: most attacks are a bit of both, and two incidents for one message are noise. A
    rule for a time, made of the words of one attack, says less of that attack than the rule that found it before: where
    both match, the alert is the one that was raised then, as grave and as certain as the graver of them.
    """
    strongest: dict[str, Finding] = {}
    for finding in sorted(findings, key=lambda one: (one.temporary, -one.score)):
        if not finding.shadow and finding.score >= FLAG_AT:
            group = "attack" if finding.category in _ATTACKS else finding.category.value
            first = strongest.setdefault(group, finding)
            if finding.temporary:
                severity = max(first.severity, finding.severity, key=_GRAVITY.index)
                strongest[group] = replace(first, severity=severity, score=max(first.score, finding.score))
    return list(strongest.values())


async def raise_alerts(tx: Tx, sightings: Sequence[Sighting], folding: timedelta) -> None:
    """Raise an alert for each sighting, or count it in the one it is identical to.

    A repetition is announced when the count passes a power of two: 2, 4, 8, ..., or when it is graver.
    """
    alike: dict[str, list[Sighting]] = {}
    for sighting in sightings:
        alike.setdefault(sighting.fold_key, []).append(sighting)
    new = {key: _alert(same) for key, same in alike.items()}
    await store.lock(tx)
    rows = await store.fold(tx, new, min(sighting.at for sighting in sightings) - folding)
    for key, same in alike.items():
        alert = store.snapshot(rows[key])
        before = alert.count - len(same)
        # Announced under the trace of the request that brought it; several requests share this transaction.
        with telemetry.span("raise alert", SpanKind.INTERNAL, parent=same[0].traceparent):
            if alert.alert_id == new[key].alert_id:
                await outbox.add(tx, AlertRaised(version=alert.version, occurred_at=alert.first_seen, alert=alert))
            elif before.bit_length() != alert.count.bit_length() or rows[key].severity_before != alert.severity:
                await outbox.add(tx, AlertRepeated(version=alert.version, occurred_at=alert.last_seen, alert=alert))


def _alert(same: Sequence[Sighting]) -> AlertSnapshot:
    """A new alert of sightings that fold into one."""
    first = same[0]
    finding = first.finding
    return AlertSnapshot(
        alert_id=uuid_utils.uuid7(),
        version=1,
        title=finding.title,
        kind=finding.kind,
        category=finding.category.value,
        severity=max((one.finding.severity for one in same), key=_GRAVITY.index),
        verdict=first.verdict,
        decision=first.decision,
        score=max(one.finding.score for one in same),
        rule_id=finding.rule_id,
        rule_version=finding.rule_version,
        owasp=finding.owasp,
        atlas=finding.atlas,
        asset_id=first.asset_id,
        owner_team=first.owner_team,
        session_id=first.session_id,
        actor=first.actor,
        model=first.model,
        direction=first.direction,
        excerpt=finding.evidence.excerpt,
        digest=first.digest,
        inspection_id=first.inspection_id,
        count=len(same),
        first_seen=min(one.at for one in same),
        last_seen=max(one.at for one in same),
        reported_by=first.reported_by,
        trace_id=first.traceparent.split("-")[1] if first.traceparent else None,
    )


async def dispose(
    tx: Tx, caller: Caller, alert_id: UUID, expected: int | None, disposition: Disposition | None, comment: str
) -> Any:
    """Say what an alert was; None opens it again. The row as it is now.

    Raises:
        NoSuchAlert, PreconditionFailed
    """
    await store.lock(tx)
    row = await store.get(tx, caller, alert_id, lock=True)
    if row is None:
        raise NoSuchAlert(f"there is no alert {alert_id}")
    check_version(row.version, expected)
    row = await store.dispose(tx, alert_id, disposition.value if disposition else None, caller.subject, comment)
    alert = store.snapshot(row)
    now = datetime.now(UTC)
    await outbox.add(tx, AlertDisposed(version=alert.version, occurred_at=now, alert=alert, actor=caller.subject))
    detail = {"disposition": disposition and disposition.value, "comment": comment}
    await audit.record(
        tx, caller, action="alert.disposed", target=str(alert_id), detail=detail, owner_team=alert.owner_team
    )
    return row
