"""The schema.

An incident is one row, its steps inside it as JSON: they are always read and written together, under the row's lock,
so that concurrent changes of one incident queue up and opening one is a single insert. `incident_version` keeps the
whole state after each change, which is what a dossier as of a past time is made of. Timeline, versions and evidence
are only ever added to; a trigger refuses anything else.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, JSONB, TIMESTAMP

metadata = sa.MetaData()

_Time = TIMESTAMP(timezone=True)

playbook_table = sa.Table(
    "playbook",
    metadata,
    sa.Column("category", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("document", JSONB, nullable=False),
    sa.Column("author", sa.Text, nullable=False),
    sa.Column("created_at", _Time, nullable=False),
)

incident_table = sa.Table(
    "incident",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("category", sa.Text, nullable=False),
    sa.Column("severity", sa.Text, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("current_phase", sa.Text, nullable=False),
    sa.Column("affected_assets", ARRAY(sa.Uuid), nullable=False),
    sa.Column("owner_team", sa.Text, nullable=False),
    sa.Column("owner_teams", ARRAY(sa.Text), nullable=False),
    sa.Column("session_id", sa.Text),
    sa.Column("actor", sa.Text),
    sa.Column("sessions", ARRAY(sa.Text), nullable=False),
    # Pairs of a session and the subject in whose requests it was named.
    sa.Column("reports", JSONB, nullable=False, server_default="[]"),
    sa.Column("detected_by", sa.Text, nullable=False),
    sa.Column("opened_by", sa.Text, nullable=False),
    sa.Column("assigned_to", sa.Text),
    sa.Column("playbook_version", sa.Integer, nullable=False),
    sa.Column("playbook_author", sa.Text, nullable=False),
    sa.Column("alert_ids", ARRAY(sa.Uuid), nullable=False),
    sa.Column("alert_count", sa.BigInteger, nullable=False),
    sa.Column("occurrence_count", sa.BigInteger, nullable=False),
    sa.Column("alert_severity", sa.Text),
    sa.Column("occurred_at", _Time, nullable=False),
    sa.Column("detected_at", _Time, nullable=False),
    sa.Column("opened_at", _Time, nullable=False),
    sa.Column("last_alert_at", _Time),
    sa.Column("updated_at", _Time, nullable=False),
    sa.Column("contained_at", _Time),
    sa.Column("resolved_at", _Time),
    sa.Column("closed_at", _Time),
    sa.Column("resolution", sa.Text),
    sa.Column("reopened_count", sa.Integer, nullable=False),
    sa.Column("evidence_count", sa.Integer, nullable=False),
    sa.Column("evidence_head", sa.Text, nullable=False),
    sa.Column("steps", JSONB, nullable=False),
    # When the next step becomes overdue; null when none can.
    sa.Column("next_due_at", _Time),
    sa.Index("incident_newest", sa.text("opened_at DESC"), sa.text("id DESC")),
    sa.Index("incident_by_status", "status", sa.text("opened_at DESC"), sa.text("id DESC")),
    sa.Index("incident_by_category", "category", sa.text("opened_at DESC"), sa.text("id DESC")),
    sa.Index("incident_by_assets", "affected_assets", postgresql_using="gin"),
    sa.Index("incident_by_owners", "owner_teams", postgresql_using="gin"),
    sa.Index("incident_by_actor", "actor", sa.text("opened_at DESC"), postgresql_where=sa.text("actor IS NOT NULL")),
    sa.Index("incident_due", "next_due_at", postgresql_where=sa.text("next_due_at IS NOT NULL")),
)

incident_version_table = sa.Table(
    "incident_version",
    metadata,
    sa.Column("incident_id", sa.Uuid, sa.ForeignKey("incident.id"), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("at", _Time, nullable=False),
    sa.Column("state", JSONB, nullable=False),
)

join_key_table = sa.Table(
    "join_key",
    metadata,
    # Deferred, since a key is claimed before its incident is written: whoever claims first opens.
    sa.Column(
        "incident_id",
        sa.Uuid,
        sa.ForeignKey("incident.id", deferrable=True, initially="DEFERRED"),
        primary_key=True,
    ),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("held", sa.Boolean, nullable=False, server_default=sa.true()),
    # Never two open incidents for one story, whoever opens them and however often.
    sa.Index("join_key_held", "key", unique=True, postgresql_where=sa.text("held")),
)

alert_table = sa.Table(
    "alert",
    metadata,
    sa.Column("alert_id", sa.Uuid, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("incident_id", sa.Uuid, sa.ForeignKey("incident.id", deferrable=True, initially="DEFERRED")),
    sa.Column("keys", ARRAY(sa.Text), nullable=False),
    sa.Column("severity", sa.Text, nullable=False),
    sa.Column("count", sa.BigInteger, nullable=False),
    sa.Column("disposition", sa.Text),
    sa.Column("last_seen", _Time, nullable=False),
    sa.Column("snapshot", JSONB, nullable=False),
    sa.Index("alert_by_incident", "incident_id", "alert_id"),
    sa.Index("alert_waiting", "keys", postgresql_using="gin", postgresql_where=sa.text("incident_id IS NULL")),
)

timeline_table = sa.Table(
    "timeline",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("incident_id", sa.Uuid, sa.ForeignKey("incident.id"), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("at", _Time, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("summary", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("step", sa.Integer),
    sa.Column("detail", JSONB, nullable=False),
    sa.Index("timeline_by_incident", "incident_id", "id"),
)

evidence_table = sa.Table(
    "evidence",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("incident_id", sa.Uuid, sa.ForeignKey("incident.id"), nullable=False),
    sa.Column("sequence", sa.Integer, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    # Canonical JSON as text: JSONB would write some numbers in another way than they were hashed in.
    sa.Column("content", sa.Text, nullable=False),
    sa.Column("content_sha256", sa.Text, nullable=False),
    sa.Column("collected_at", _Time, nullable=False),
    sa.Column("collected_by", sa.Text, nullable=False),
    sa.Column("previous_hash", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
    sa.UniqueConstraint("incident_id", "sequence"),
)

action_table = sa.Table(
    "action",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("incident_id", sa.Uuid, sa.ForeignKey("incident.id"), nullable=False),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("run", sa.Integer, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    # Set when the action extends a step to a further session; its outcome then does not settle the step.
    sa.Column("session_id", sa.Text),
    sa.Column("key", sa.Text, nullable=False, unique=True),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("summary", sa.Text, nullable=False),
    sa.Column("requests", JSONB, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("error", sa.Text),
    sa.Column("requested_at", _Time, nullable=False),
    sa.Column("finished_at", _Time),
    sa.Index("action_newest", sa.text("requested_at DESC"), sa.text("id DESC")),
    sa.Index("action_by_incident", "incident_id", sa.text("requested_at DESC"), sa.text("id DESC")),
)

emergency_rule_table = sa.Table(
    "emergency_rule",
    metadata,
    sa.Column("fingerprint", sa.Text, primary_key=True),
    # Counts up when the rule is made anew after it expired; part of its id at detection.
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("incident_id", sa.Uuid, nullable=False),
    sa.Column("claimed_at", _Time, nullable=False),
    sa.Column("expires_at", _Time, nullable=False),
    # Null until detection confirmed it.
    sa.Column("in_force_at", _Time),
    # Of the incident that made it; empty when that had no team.
    sa.Column("owner_team", sa.Text, nullable=False, server_default=""),
    sa.Index("emergency_rule_claimed", "claimed_at"),
)

asset_copy_table = sa.Table(
    "asset_copy",
    metadata,
    sa.Column("asset_id", sa.Uuid, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("asset_type", sa.Text, nullable=False),
    sa.Column("owner_team", sa.Text, nullable=False),
    sa.Column("data_classification", sa.Text, nullable=False),
    sa.Column("deployment_env", sa.Text, nullable=False),
    sa.Column("lifecycle", sa.Text, nullable=False),
)

webhook_table = sa.Table(
    "webhook",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("event_types", ARRAY(sa.Text), nullable=False),
    sa.Column("teams", ARRAY(sa.Text)),
    sa.Column("enabled", sa.Boolean, nullable=False),
    # AES-256-GCM under the service's sealing key, bound to the webhook's id.
    sa.Column("sealed_secret", BYTEA, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("created_at", _Time, nullable=False),
    sa.Column("updated_at", _Time, nullable=False),
    sa.Index("webhook_newest", sa.text("created_at DESC"), sa.text("id DESC")),
)

delivery_table = sa.Table(
    "delivery",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("webhook_id", sa.Uuid, sa.ForeignKey("webhook.id", ondelete="CASCADE"), nullable=False),
    sa.Column("event_type", sa.Text, nullable=False),
    sa.Column("incident_id", sa.Uuid),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("response_status", sa.Integer),
    sa.Column("error", sa.Text),
    sa.Column("created_at", _Time, nullable=False),
    sa.Column("finished_at", _Time),
    sa.Index("delivery_by_webhook", "webhook_id", sa.text("created_at DESC"), sa.text("id DESC")),
)
