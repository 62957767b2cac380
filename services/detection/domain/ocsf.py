"""Alerts as OCSF 1.8.0 Detection Findings (class 2004), with the profile ai_operation.

ATLAS techniques are in finding_info.attacks, OWASP entries in finding_info.tags; times are epoch milliseconds.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from shared.contracts.detection import AlertSnapshot, Decision, Disposition, Severity

CLASS_UID = 2004
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


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def detection_finding(alert: AlertSnapshot, status: str) -> dict[str, Any]:
    """One alert as a finding; activity 1 Create while it stands as raised, 2 Update after it repeated, 3 Close."""
    closed = status == "disposed"
    activity = 3 if closed else 1 if alert.version == 1 else 2
    severity_id, severity = _SEVERITY[alert.severity]
    disposition_id, disposition = _DISPOSITION[alert.decision]
    finding: dict[str, Any] = {
        "activity_id": activity,
        "category_uid": 2,
        "class_uid": CLASS_UID,
        "type_uid": CLASS_UID * 100 + activity,
        "severity_id": severity_id,
        "severity": severity,
        "status_id": 4 if closed else 1,
        "time": _milliseconds(alert.last_seen),
        "start_time": _milliseconds(alert.first_seen),
        "end_time": _milliseconds(alert.last_seen),
        "count": alert.count,
        "is_alert": True,
        "confidence_score": round(alert.score * 100),
        "action_id": 2 if alert.decision is Decision.BLOCK else 1,
        "disposition_id": disposition_id,
        "disposition": disposition,
        "metadata": {
            "version": "1.8.0",
            "product": {"name": "Colonnade", "vendor_name": "Colonnade", "feature": {"name": "detection"}},
            "profiles": ["ai_operation", "security_control"],
            "uid": str(alert.inspection_id),
        },
        "finding_info": {
            "uid": str(alert.alert_id),
            "title": alert.title,
            "types": [alert.kind.value, alert.category],
            "created_time": _milliseconds(alert.first_seen),
            "last_seen_time": _milliseconds(alert.last_seen),
            "analytic": {"type_id": 1, "uid": alert.rule_id, "version": str(alert.rule_version), "name": alert.title},
            "attacks": [{"technique": {"uid": technique}} for technique in alert.atlas],
            "tags": [{"name": "owasp", "values": list(alert.owasp)}],
        },
        "evidences": [{"data": {"excerpt": alert.excerpt, "digest": alert.digest, "direction": alert.direction.value}}],
    }
    if alert.asset_id is not None:
        finding["resources"] = [{"uid": str(alert.asset_id), "type": "AI asset", "group": {"name": alert.owner_team}}]
    if alert.model:
        finding["ai_model"] = {"name": alert.model, "ai_provider": "unknown"}
    if alert.actor:
        finding["actor"] = {"user": {"name": alert.actor}}
    if alert.session_id:
        finding.setdefault("actor", {})["session"] = {"uid": alert.session_id}
    if alert.disposition is not None:
        finding["verdict_id"], finding["verdict"] = _VERDICT[alert.disposition]
    return finding
