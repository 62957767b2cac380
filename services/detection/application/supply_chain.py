"""Alerts for artifacts that should not be there: inventory knows who has them, here it becomes something to work on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import uuid_utils.compat as uuid_utils

from services.detection.application.alerts import Sighting, raise_alerts
from services.detection.domain.rules import Response
from services.detection.domain.verdict import Evidence, Finding
from shared.consumer import Received
from shared.contracts.detection import Decision, Direction, FindingKind, Severity, Verdict
from shared.contracts.incidents import IncidentCategory
from shared.contracts.inventory import ArtifactDenied
from shared.database import Tx

RULE_ID = "denied_model_artifact"
FOLDING = timedelta(hours=1)
"""Several denied files of one asset within it are one alert with a count."""


async def raise_for_denied(tx: Tx, batch: Sequence[Received[ArtifactDenied]]) -> None:
    """An alert for each asset that holds a denied artifact, or depends on one that does."""
    await raise_alerts(tx, [_sighting(received) for received in batch], FOLDING)


def _sighting(received: Received[ArtifactDenied]) -> Sighting:
    event = received.event
    holds = event.asset_id == event.holder_id
    # Whose it is, a team that only depends on it need not be allowed to know.
    where = f"{event.place} has" if holds else f"What it depends on, {len(event.path) - 1} steps up, has"
    shown = f"{where} the denied {event.algorithm} {event.digest[:16]}...: {event.reason}"
    finding = Finding(
        rule_id=RULE_ID,
        rule_version=1,
        title="Denied model artifact" if holds else "Depends on a denied model artifact",
        kind=FindingKind.ANOMALY,
        category=IncidentCategory.MODEL_SUPPLY_CHAIN_COMPROMISE,
        severity=Severity.CRITICAL if holds else Severity.HIGH,
        score=0.95 if holds else 0.8,
        response=Response.FLAG,
        evidence=Evidence("", 0, 0, shown[:500]),
        owasp=("LLM03:2025", "LLM04:2026"),
        atlas=("AML.T0010", "AML.T0010.003"),
    )
    return Sighting(
        finding=finding,
        verdict=Verdict.FLAG,
        decision=Decision.ALLOW,
        inspection_id=uuid_utils.uuid7(),
        asset_id=event.asset_id,
        owner_team=event.owner_team,
        reported_by="inventory",
        session_id=None,
        actor=None,
        model=None,
        direction=Direction.DOCUMENT,
        digest="",
        at=received.time,
        traceparent=received.traceparent,
    )
