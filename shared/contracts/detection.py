"""What detection publishes: alerts, containments and rule changes. Never raw traffic."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar
from uuid import UUID

from shared.contracts.envelope import Contract, Event


class Severity(StrEnum):
    """Severity of an alert, lowest first; OCSF severity_id 1 to 5 (`info` is Informational)."""

    INFO = "info"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class FindingKind(StrEnum):
    INJECTION = "injection"
    INDIRECT_INJECTION = "indirect_injection"
    JAILBREAK = "jailbreak"
    PROMPT_LEAK = "prompt_leak"
    EXFILTRATION = "exfiltration"
    SECRET = "secret"
    PII = "pii"
    TOOL_MISUSE = "tool_misuse"
    COST_ABUSE = "cost_abuse"
    ANOMALY = "anomaly"
    CANARY = "canary"
    EVASION = "evasion"


class Direction(StrEnum):
    INPUT = "input"
    OUTPUT = "output"
    TOOL_CALL = "tool_call"
    TOOL_RESULT = "tool_result"
    DOCUMENT = "document"


class Verdict(StrEnum):
    """What the detectors hold of an interaction, whatever the asset's mode makes of it."""

    ALLOW = "allow"
    FLAG = "flag"
    BLOCK = "block"


class Decision(StrEnum):
    """What is applied to an interaction, by the asset's mode."""

    ALLOW = "allow"
    REDACT = "redact"
    BLOCK = "block"


class Disposition(StrEnum):
    """What a person found an alert to be."""

    TRUE_POSITIVE = "true_positive"
    FALSE_POSITIVE = "false_positive"
    BENIGN = "benign"
    DUPLICATE = "duplicate"


class AlertSnapshot(Contract):
    """An alert as it stands. `excerpt` is masked: no secret, no personal data; `digest` is keyed, for equality only.

    `category` is one of the eight incident categories. `severity` weighs the rule's level; `count` folds identical
    findings of one asset, rule and session or actor within a window. `session_id` and `actor` are the sender's words;
    `reported_by` is the sender: the subject of the caller whose request the first of the findings came in; `trace_id`
    is the trace of that: the application's own where it is told.
    """

    alert_id: UUID
    version: int
    title: str
    kind: FindingKind
    category: str
    severity: Severity
    verdict: Verdict
    decision: Decision
    score: float
    rule_id: str
    rule_version: int
    owasp: tuple[str, ...] = ()
    atlas: tuple[str, ...] = ()
    asset_id: UUID | None = None
    owner_team: str = ""
    session_id: str | None = None
    actor: str | None = None
    model: str | None = None
    direction: Direction
    excerpt: str = ""
    digest: str = ""
    inspection_id: UUID
    count: int = 1
    first_seen: datetime
    last_seen: datetime
    disposition: Disposition | None = None
    reported_by: str = ""
    trace_id: str | None = None


class AlertEvent(Event):
    """Something happened to an alert; the snapshot says how it stands now."""

    SUBJECT: ClassVar[str] = "alert.alert_id"

    alert: AlertSnapshot


class AlertRaised(AlertEvent):
    """Detectors found something worth a person. Exactly one per alert_id."""

    TYPE: ClassVar[str] = "ev.detection.alert.raised.v1"


class AlertRepeated(AlertEvent):
    """The same finding came again; announced when the count doubles or it is graver: a storm stays a trickle."""

    TYPE: ClassVar[str] = "ev.detection.alert.repeated.v1"


class AlertDisposed(AlertEvent):
    """A person said what an alert was, or changed their mind."""

    TYPE: ClassVar[str] = "ev.detection.alert.disposed.v1"

    actor: str


ALERT_EVENTS: tuple[type[AlertEvent], ...] = (AlertRaised, AlertRepeated, AlertDisposed)


class ContainmentEvent(Event):
    """A block of an actor, a session or an asset.

    `team` is whose traffic it holds for: None everybody's, "" what belongs to no team. Of an asset it is always None.
    """

    SUBJECT: ClassVar[str] = "containment_id"

    containment_id: UUID
    target_kind: str
    target: str
    reason: str
    actor: str
    owner_team: str = ""
    expires_at: datetime | None = None
    team: str | None = None


class ContainmentApplied(ContainmentEvent):
    """A block came into force."""

    TYPE: ClassVar[str] = "ev.detection.containment.applied.v1"


class ContainmentLifted(ContainmentEvent):
    """A block ended, by a person or by its expiry."""

    TYPE: ClassVar[str] = "ev.detection.containment.lifted.v1"


class RuleChanged(Event):
    """A detection rule was created, changed, disabled or expired."""

    TYPE: ClassVar[str] = "ev.detection.rule.changed.v1"
    SUBJECT: ClassVar[str] = "rule_id"

    rule_id: str
    title: str
    enabled: bool
    change: str
    actor: str
