"""What callers see, and what they may send."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import ConfigDict, Field, StringConstraints

from services.incidents.domain.evidence import Record
from services.incidents.domain.incident import Incident, Resolution, Step, StepStatus
from services.incidents.domain.playbooks import ActionName
from services.incidents.store.actions import Action, ActionStatus
from services.incidents.store.playbooks import StoredPlaybook
from services.incidents.store.webhooks import DeliveryStatus, Webhook
from shared.contracts.incidents import IncidentCategory, IncidentSeverity, IncidentStatus, Phase
from shared.models import Flag, In, Instant, Out

Text = Annotated[str, Field(max_length=20_000)]
Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300)]
Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2_000)]
Identity = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=512)]


class StepView(Out):
    """A step of the playbook within an incident. `due_at` is null until the step can be worked."""

    step_number: int
    phase: Phase
    action: str
    responsible_role: str
    automated: bool
    automation_script: ActionName | None
    requires_approval: bool
    timeout_minutes: int
    escalation_trigger: str | None
    status: StepStatus
    overdue: bool
    run: int
    due_at: datetime | None
    started_at: datetime | None
    settled_at: datetime | None
    settled_by: str | None
    requested_by: str | None
    approved_by: str | None
    outcome: str

    @classmethod
    def of(cls, step: Step) -> Self:
        shown = {name: getattr(step, name) for name in cls.model_fields if name not in ("step_number", "overdue")}
        return cls(**shown, step_number=step.number, overdue=step.overdue_at is not None and not step.settled)


class TimelineView(Out):
    """One thing that happened. `actor` is a person, or automation, detection, inventory or the clock."""

    at: datetime
    kind: str
    summary: str
    actor: str
    step: int | None
    version: int = Field(description="Version of the incident that this led to.")
    detail: dict[str, Any]


class EvidenceView(Out):
    """A piece of evidence and its place in the chain: hash = SHA-256(previous_hash + canonical JSON of the rest)."""

    evidence_id: UUID
    sequence: int
    kind: str
    title: str
    source: str
    collected_at: datetime
    collected_by: str
    content: Any = Field(description="What was kept; any JSON value.")
    content_sha256: str
    previous_hash: str
    hash: str

    @classmethod
    def of(cls, record: Record) -> Self:
        names = [name for name in cls.model_fields if name not in ("evidence_id", "content")]
        shown = {name: getattr(record, name) for name in names}
        return cls(**shown, evidence_id=record.id, content=json.loads(record.content))


class IncidentSummary(Out):
    """An incident as lists show it."""

    incident_id: UUID
    version: int
    category: IncidentCategory
    severity: IncidentSeverity
    title: str
    description: str
    status: IncidentStatus
    current_phase: Phase
    resolution: Resolution | None
    affected_assets: list[UUID]
    owner_team: str
    owner_teams: list[str]
    session_id: str | None
    actor: str | None
    detected_by: str
    opened_by: str
    assigned_to: str | None
    alert_count: int = Field(description="Alerts that joined.")
    occurrence_count: int = Field(description="How often they were seen in all.")
    occurred_at: datetime = Field(description="First evidence.")
    detected_at: datetime = Field(description="When the program knew.")
    opened_at: datetime
    updated_at: datetime
    contained_at: datetime | None
    resolved_at: datetime | None
    closed_at: datetime | None
    playbook_version: int
    reopened_count: int
    steps_total: int
    steps_done: int
    steps_overdue: int

    @classmethod
    def of(cls, incident: Incident) -> Self:
        return cls(**_shown(incident))


def _shown(incident: Incident) -> dict[str, Any]:
    counted = incident.snapshot()
    own = {"incident_id", "steps_total", "steps_done", "steps_overdue"}
    shown = {name: getattr(incident, name) for name in IncidentSummary.model_fields if name not in own}
    return shown | {
        "incident_id": incident.id,
        "steps_total": counted.steps_total,
        "steps_done": counted.steps_done,
        "steps_overdue": counted.steps_overdue,
    }


class IncidentView(IncidentSummary):
    """An incident with its steps and the latest of its timeline and evidence; all of those under their own paths."""

    sessions: list[str]
    alert_ids: list[UUID] = Field(description="The first fifty.")
    evidence_count: int
    evidence_head: str = Field(description="Hash of the last piece of evidence.")
    steps: list[StepView]
    timeline: list[TimelineView]
    evidence: list[EvidenceView]

    @classmethod
    def whole(cls, incident: Incident, timeline: Sequence[Any], chain: Sequence[Record]) -> Self:
        return cls(
            **_shown(incident),
            sessions=list(incident.sessions),
            alert_ids=list(incident.alert_ids),
            evidence_count=incident.evidence_count,
            evidence_head=incident.evidence_head,
            steps=[StepView.of(step) for step in incident.steps],
            timeline=[TimelineView.model_validate(row) for row in timeline],
            evidence=[EvidenceView.of(record) for record in chain],
        )


class OpenIncident(In):
    """An incident that somebody opens by hand. What is left out comes from the category's playbook."""

    category: IncidentCategory
    title: Title | None = None
    description: Text = ""
    severity: IncidentSeverity | None = None
    affected_assets: Annotated[tuple[UUID, ...], Field(max_length=100)] = ()
    owner_team: Identity | None = Field(default=None, description="Whose it is, where no asset says so.")
    session_id: Identity | None = None
    actor: Identity | None = None
    detected_by: Identity | None = Field(default=None, description="Who or what noticed; you, if left out.")
    occurred_at: Instant | None = Field(
        default=None, description="Time of the first evidence; at most ten years ago, and not after detected_at."
    )
    detected_at: Instant | None = Field(default=None, description="Now, if left out.")


class AmendIncident(In):
    """What to change. Status moves along open, investigating, contained, resolved, closed; backwards is reopening."""

    severity: IncidentSeverity = None  # type: ignore[assignment]  # absent, never null
    title: Title = None  # type: ignore[assignment]
    description: Text = None  # type: ignore[assignment]
    assigned_to: Identity | None = Field(default=None, description="Null takes the assignment away.")
    status: IncidentStatus = None  # type: ignore[assignment]
    reason: Reason = Field(
        default=None,  # type: ignore[assignment]
        description="Needed to reopen, to close as false positive or duplicate, and to pass over unfinished steps.",
    )
    resolution: Resolution = None  # type: ignore[assignment]


class CompleteStep(In):
    """What came of the step."""

    note: Annotated[str, Field(max_length=2_000)] = ""


class SkipStep(In):
    """Why the step is not done."""

    reason: Reason


class ApproveStep(In):
    """Let the step run."""

    note: Annotated[str, Field(max_length=2_000)] = ""


class RetryStep(In):
    """Set the step in motion again."""

    reason: Reason | None = None


class AddEvidence(In):
    """A piece of evidence. It cannot be changed or taken back."""

    kind: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_ -]{0,63}$")] = "note"
    title: Title
    source: Identity = "person"
    content: Any = Field(description="Any JSON value.")


class PlaybookSummary(Out):
    """A playbook as the list shows it."""

    category: IncidentCategory
    title: str
    severity_default: IncidentSeverity
    num_steps: int
    version: int
    author: str
    created_at: datetime

    @classmethod
    def of(cls, stored: StoredPlaybook) -> Self:
        playbook = stored.playbook
        return cls(
            category=playbook.category,
            title=playbook.title,
            severity_default=playbook.severity_default,
            num_steps=len(playbook.steps),
            version=stored.version,
            author=stored.author,
            created_at=stored.created_at,
        )


class CacaoPlaybook(Out):
    """A CACAO 2.0 playbook."""

    model_config = ConfigDict(extra="allow")

    type: Literal["playbook"]
    spec_version: Literal["cacao-2.0"]
    id: str
    name: str
    created_by: str
    created: str
    modified: str
    workflow_start: str
    workflow: dict[str, Any]


class RequestView(Out):
    """A request of an automated action, with the last answer to it."""

    service: str
    method: str
    path: str
    body: Any
    purpose: str
    done: bool
    status: int | None
    answer: Any


class ActionView(Out):
    """Something that automation did, or is trying to do."""

    action_id: UUID
    incident_id: UUID
    step_number: int
    run: int
    action: ActionName
    session_id: str | None = Field(description="Set where a step was extended to a further session.")
    status: ActionStatus
    summary: str
    attempts: int
    error: str | None
    requests: list[RequestView]
    requested_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, action: Action) -> Self:
        return cls(
            action_id=action.id,
            incident_id=action.incident_id,
            step_number=action.step,
            run=action.run,
            action=action.action,
            session_id=action.session_id,
            status=action.status,
            summary=action.summary,
            attempts=action.attempts,
            error=action.error,
            requests=[
                RequestView(
                    service=sent.request.service,
                    method=sent.request.method,
                    path=sent.request.path,
                    body=sent.request.body,
                    purpose=sent.request.purpose,
                    done=sent.done,
                    status=sent.status,
                    answer=sent.answer,
                )
                for sent in action.requests
            ],
            requested_at=action.requested_at,
            finished_at=action.finished_at,
        )


EventType = Literal[
    "incident.opened",
    "incident.updated",
    "incident.contained",
    "incident.resolved",
    "incident.closed",
    "incident.reopened",
    "step.completed",
    "step.overdue",
    "notification.requested",
    "webhook.test",
]
Url = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2_000)]


class CreateWebhook(In):
    """Where to send what. No event types means all of them; `teams` narrows whose incidents it is told of."""

    url: Url
    description: Annotated[str, Field(max_length=500)] = ""
    event_types: Annotated[tuple[EventType, ...], Field(max_length=20)] = ()
    teams: Annotated[list[Identity], Field(min_length=1, max_length=100)] | None = None


class ChangeWebhook(In):
    """What to change; `rotate_secret` gives a new secret, shown once."""

    url: Url = None  # type: ignore[assignment]  # absent, never null
    description: Annotated[str, Field(max_length=500)] = None  # type: ignore[assignment]
    event_types: Annotated[tuple[EventType, ...], Field(max_length=20)] = None  # type: ignore[assignment]
    enabled: Flag = None  # type: ignore[assignment]
    rotate_secret: Flag = False


class WebhookView(Out):
    """A webhook; its secret is shown when it is made and never again."""

    webhook_id: UUID
    version: int
    url: str
    description: str
    event_types: list[str]
    teams: list[str] | None
    enabled: bool
    created_by: str
    created_at: datetime
    updated_at: datetime
    secret: str | None = Field(
        default=None, description="`whsec_` and base64; only in the answer that made or rotated it."
    )

    @classmethod
    def of(cls, webhook: Webhook, secret: str | None = None) -> Self:
        subscription = webhook.subscription
        return cls(
            webhook_id=subscription.id,
            version=webhook.version,
            url=subscription.url,
            description=subscription.description,
            event_types=list(subscription.event_types),
            teams=None if subscription.teams is None else list(subscription.teams),
            enabled=subscription.enabled,
            created_by=subscription.created_by,
            created_at=subscription.created_at,
            updated_at=webhook.updated_at,
            secret=secret,
        )


class DeliveryView(Out):
    """A delivery to a webhook, with the outcome of its latest attempt."""

    delivery_id: UUID
    event_type: str
    incident_id: UUID | None
    status: DeliveryStatus
    attempts: int
    response_status: int | None
    error: str | None
    created_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, row: Any) -> Self:
        names = [name for name in cls.model_fields if name != "delivery_id"]
        return cls(delivery_id=row.id, **{name: getattr(row, name) for name in names})


class TestOwed(Out):
    """A test delivery was queued."""

    delivery_id: UUID
