"""Alerts as OCSF 1.8.0 Detection Findings (class 2004), with the profiles ai_operation, security_control and trace.

ATLAS techniques are in finding_info.attacks and, as the profile asks, in attacks; OWASP entries in finding_info.tags;
who is behind it in evidences. Times are epoch milliseconds.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from services.detection.domain.taxonomy import ATLAS
from shared.contracts.detection import AlertSnapshot, Decision, Direction, Disposition, FindingKind, Severity

CLASS_UID = 2004
_ACTIVITY = {1: "Create", 2: "Update", 3: "Close"}
_SEVERITY = {
    Severity.INFO: (1, "Informational"),
    Severity.LOW: (2, "Low"),
    Severity.MEDIUM: (3, "Medium"),
    Severity.HIGH: (4, "High"),
    Severity.CRITICAL: (5, "Critical"),
}
_DISPOSITION = {Decision.ALLOW: (1, "Allowed"), Decision.BLOCK: (2, "Blocked"), Decision.REDACT: (11, "Corrected")}
_VERDICT = {
    Disposition.FALSE_POSITIVE: (1, "False Positive"),
    Disposition.TRUE_POSITIVE: (2, "True Positive"),
    Disposition.BENIGN: (5, "Benign"),
    Disposition.DUPLICATE: (10, "Duplicate"),
}
_ROLE = {
    Direction.INPUT: (1, "User"),
    Direction.OUTPUT: (2, "Assistant"),
    Direction.TOOL_CALL: (4, "Agent"),
    Direction.TOOL_RESULT: (3, "Tool"),
    Direction.DOCUMENT: (6, "Retriever"),
}
_ANALYTIC = {FindingKind.ANOMALY: (3, "Statistical"), FindingKind.COST_ABUSE: (2, "Behavioral")}


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def detection_finding(alert: AlertSnapshot, status: str, comment: str = "") -> dict[str, Any]:
    """One alert as a finding; activity 1 Create while it stands as raised, 2 Update after it repeated, 3 Close.

    Status: 1 New, and once judged 3 Suppressed when it was no matter (false positive or benign) and 4 Resolved else.
    """
    closed = status == "disposed"
    activity = 3 if closed else 1 if alert.version == 1 else 2
    no_matter = alert.disposition in (Disposition.FALSE_POSITIVE, Disposition.BENIGN)
    status_id, status_name = (1, "New") if not closed else (3, "Suppressed") if no_matter else (4, "Resolved")
    severity_id, severity = _SEVERITY[alert.severity]
    disposition_id, disposition = _DISPOSITION[alert.decision]
    confidence_id, confidence = (
        (3, "High") if alert.score >= 0.75 else (2, "Medium") if alert.score >= 0.5 else (1, "Low")
    )
    role_id, role = _ROLE[alert.direction]
    analytic_id, analytic = _ANALYTIC.get(alert.kind, (1, "Rule"))
    denied = alert.decision is Decision.BLOCK
    attacks = [
        {"technique": {"uid": one, "name": ATLAS.get(one, one)}, "version": "MITRE ATLAS"} for one in alert.atlas
    ]
    first_seen, last_seen = _milliseconds(alert.first_seen), _milliseconds(alert.last_seen)
    shown = {"excerpt": alert.excerpt, "digest": alert.digest, "direction": alert.direction.value}
    evidence: dict[str, Any] = {"data": shown, "name": alert.direction.value, "uid": str(alert.inspection_id)}
    finding: dict[str, Any] = {
        "activity_id": activity,
        "activity_name": _ACTIVITY[activity],
        "category_uid": 2,
        "category_name": "Findings",
        "class_uid": CLASS_UID,
        "class_name": "Detection Finding",
        "type_uid": CLASS_UID * 100 + activity,
        "type_name": f"Detection Finding: {_ACTIVITY[activity]}",
        "severity_id": severity_id,
        "severity": severity,
        "status_id": status_id,
        "status": status_name,
        "time": first_seen,
        "start_time": first_seen,
        "end_time": last_seen,
        "count": alert.count,
        "message": alert.title,
        "is_alert": not closed,
        "confidence_id": confidence_id,
        "confidence": confidence,
        "confidence_score": round(alert.score * 100),
        "action_id": 2 if denied else 1,
        "action": "Denied" if denied else "Allowed",
        "disposition_id": disposition_id,
        "disposition": disposition,
        "metadata": {
            "version": "1.8.0",
            "product": {"name": "Colonnade", "vendor_name": "Colonnade", "feature": {"name": "detection"}},
            "profiles": [
                "ai_operation",
                "security_control",
                *(["trace"] if alert.trace_id else []),
                *(["incident"] if alert.disposition else []),
            ],
            "uid": f"{alert.alert_id}:{alert.version}",
            "correlation_uid": str(alert.alert_id),
        },
        "finding_info": {
            "uid": str(alert.alert_id),
            "title": alert.title,
            "desc": f"{alert.title}: {alert.excerpt}" if alert.excerpt else alert.title,
            "types": [alert.kind.value, alert.category],
            "created_time": first_seen,
            "first_seen_time": first_seen,
            "last_seen_time": last_seen,
            "modified_time": last_seen,
            "analytic": {
                "type_id": analytic_id,
                "type": analytic,
                "uid": alert.rule_id,
                "version": str(alert.rule_version),
                "name": alert.title,
                "category": alert.kind.value,
            },
            "attacks": attacks,
            "tags": [{"name": "owasp", "values": list(alert.owasp)}] if alert.owasp else [],
        },
        "attacks": attacks,
        "evidences": [evidence],
        "message_context": {
            "ai_role_id": role_id,
            "ai_role": role,
            "service": {"name": alert.reported_by or "unknown"},
            **({"uid": alert.session_id} if alert.session_id else {}),
        },
    }
    if alert.asset_id is not None:
        resource: dict[str, Any] = {"uid": str(alert.asset_id), "type": "AI asset"}
        finding["resources"] = [resource | ({"group": {"name": alert.owner_team}} if alert.owner_team else {})]
    if alert.trace_id:
        finding["trace"] = {"uid": alert.trace_id}
    if alert.model:
        finding["ai_model"] = {"name": alert.model, "ai_provider": "unknown"}
    actor: dict[str, Any] = {"user": {"name": alert.actor}} if alert.actor else {}
    if alert.session_id:
        actor["session"] = {"uid": alert.session_id}
    if actor:
        evidence["actor"] = actor
    if alert.disposition is not None:
        finding["verdict_id"], finding["verdict"] = _VERDICT[alert.disposition]
    if comment:
        finding["comment"] = comment
    return finding
