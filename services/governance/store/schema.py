"""The tables.

Only the two copies of assets are rebuilt from events; everything else is governance's own record.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP

from shared.paging import PageRequest

metadata = sa.MetaData()

_INSTANT = TIMESTAMP(timezone=True)

asset_table = sa.Table(
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
    sa.Column("last_security_review", sa.Date),
    sa.Column("registered_at", _INSTANT, nullable=False),
)
# Apart from the asset's copy because it comes from another stream, which may be ahead of inventory's.
asset_risk_table = sa.Table(
    "asset_risk_copy",
    metadata,
    sa.Column("asset_id", sa.Uuid, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("residual_risk_score", sa.Double, nullable=False),
    sa.Column("risk_level", sa.Text, nullable=False),
    sa.Column("assessed_at", _INSTANT, nullable=False),
)
REBUILT = (asset_table, asset_risk_table)

control_table = sa.Table(
    "control",
    metadata,
    sa.Column("control_id", sa.Text, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("body", JSONB, nullable=False),
    sa.Column("function", sa.Text, nullable=False),
    sa.Column("control_type", sa.Text),
    sa.Column("updated_by", sa.Text, nullable=False),
    sa.Column("updated_at", _INSTANT, nullable=False),
)
deployment_table = sa.Table(
    "control_deployment",
    metadata,
    sa.Column("deployment_id", sa.Uuid, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("asset_id", sa.Uuid, nullable=False),
    sa.Column("control_id", sa.Text, nullable=False),
    sa.Column("control_type", sa.Text),
    sa.Column("function", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("notes", sa.Text, nullable=False),
    sa.Column("evidence_days", sa.Integer, nullable=False),
    sa.Column("evidence_valid_until", sa.Date),
    sa.Column("evidence_due_on", sa.Date),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("created_at", _INSTANT, nullable=False),
    sa.Column("updated_at", _INSTANT, nullable=False),
    sa.Index(
        "control_deployment_living",
        "asset_id",
        "control_id",
        unique=True,
        postgresql_where=sa.text("status <> 'retired'"),
    ),
    sa.Index("control_deployment_by_control", "control_id", "deployment_id"),
    sa.Index("control_deployment_evidence", "evidence_due_on", postgresql_where=sa.text("status = 'operational'")),
)
evidence_table = sa.Table(
    "evidence",
    metadata,
    sa.Column("evidence_id", sa.Uuid, primary_key=True),
    sa.Column("deployment_id", sa.Uuid, sa.ForeignKey("control_deployment.deployment_id"), nullable=False),
    sa.Column("summary", sa.Text, nullable=False),
    sa.Column("reference", sa.Text, nullable=False),
    sa.Column("sha256", sa.Text),
    sa.Column("collected_on", sa.Date, nullable=False),
    sa.Column("valid_until", sa.Date, nullable=False),
    sa.Column("recorded_by", sa.Text, nullable=False),
    sa.Column("recorded_at", _INSTANT, nullable=False),
    sa.Index("evidence_of_deployment", "deployment_id", "evidence_id"),
)
policy_table = sa.Table(
    "policy",
    metadata,
    sa.Column("policy_id", sa.Text, primary_key=True),
    sa.Column("latest", sa.Integer, nullable=False),
    sa.Column("in_force", sa.Integer),
    sa.Column("created_at", _INSTANT, nullable=False),
)
policy_version_table = sa.Table(
    "policy_version",
    metadata,
    sa.Column("policy_id", sa.Text, sa.ForeignKey("policy.policy_id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("text", JSONB, nullable=False),
    sa.Column("authors", ARRAY(sa.Text), nullable=False),
    sa.Column("change_note", sa.Text, nullable=False),
    sa.Column("created_at", _INSTANT, nullable=False),
    sa.Column("updated_at", _INSTANT, nullable=False),
    sa.Column("submitted_by", sa.Text),
    sa.Column("submitted_at", _INSTANT),
    sa.Column("decided_by", sa.Text),
    sa.Column("decided_at", _INSTANT),
    sa.Column("decision_note", sa.Text, nullable=False),
    sa.Index("policy_in_force", "policy_id", unique=True, postgresql_where=sa.text("status = 'approved'")),
    sa.Index("policy_in_review", "policy_id", unique=True, postgresql_where=sa.text("status = 'in_review'")),
)
# The RACI matrix and the risk appetite, every version. Without a row the shipped one is in force, as version 1.
charter_table = sa.Table(
    "charter",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("body", JSONB, nullable=False),
    sa.Column("changed_by", sa.Text, nullable=False),
    sa.Column("changed_at", _INSTANT, nullable=False),
)
acceptance_table = sa.Table(
    "acceptance",
    metadata,
    sa.Column("acceptance_id", sa.Uuid, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("asset_id", sa.Uuid),
    sa.Column("policy_id", sa.Text),
    sa.Column("statement_id", sa.Text),
    sa.Column("control_id", sa.Text),
    sa.Column("justification", sa.Text, nullable=False),
    sa.Column("compensating_measures", ARRAY(sa.Text), nullable=False),
    sa.Column("expires_at", _INSTANT, nullable=False),
    sa.Column("requested_by", sa.Text, nullable=False),
    sa.Column("requested_at", _INSTANT, nullable=False),
    sa.Column("requested_score", sa.Double),
    sa.Column("requested_level", sa.Text),
    sa.Column("accepted_score", sa.Double),
    sa.Column("accepted_level", sa.Text),
    sa.Column("decided_by", sa.Text),
    sa.Column("decided_at", _INSTANT),
    sa.Column("decision_note", sa.Text, nullable=False),
    sa.Column("decision_id", sa.Uuid),
    sa.Column("ended_by", sa.Text),
    sa.Column("ended_at", _INSTANT),
    sa.Column("end_reason", sa.Text, nullable=False),
    sa.Index("acceptance_by_asset", "asset_id", "acceptance_id"),
    sa.Index("acceptance_ending", "expires_at", postgresql_where=sa.text("status IN ('requested', 'approved')")),
)
decision_table = sa.Table(
    "decision",
    metadata,
    sa.Column("decision_id", sa.Uuid, primary_key=True),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("rationale", sa.Text, nullable=False),
    sa.Column("conditions", ARRAY(sa.Text), nullable=False),
    sa.Column("participants", ARRAY(sa.Text), nullable=False),
    sa.Column("decided_on", sa.Date, nullable=False),
    sa.Column("asset_id", sa.Uuid),
    sa.Column("acceptance_id", sa.Uuid),
    sa.Column("policy_id", sa.Text),
    sa.Column("supersedes", sa.Uuid),
    sa.Column("recorded_by", sa.Text, nullable=False),
    sa.Column("recorded_at", _INSTANT, nullable=False),
)
engagement_table = sa.Table(
    "engagement",
    metadata,
    sa.Column("engagement_id", sa.Uuid, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("objectives", sa.Text, nullable=False),
    sa.Column("rules", sa.Text, nullable=False),
    sa.Column("team", sa.Text, nullable=False),
    sa.Column("lead", sa.Text, nullable=False),
    sa.Column("asset_ids", ARRAY(sa.Uuid), nullable=False),
    sa.Column("owner_team", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("planned_for", sa.Date),
    sa.Column("started_on", sa.Date),
    sa.Column("completed_on", sa.Date),
    sa.Column("summary", sa.Text, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("created_at", _INSTANT, nullable=False),
    sa.Column("updated_at", _INSTANT, nullable=False),
)
finding_table = sa.Table(
    "finding",
    metadata,
    sa.Column("finding_id", sa.Uuid, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("engagement_id", sa.Uuid, sa.ForeignKey("engagement.engagement_id"), nullable=False),
    sa.Column("asset_id", sa.Uuid),
    sa.Column("owner_team", sa.Text, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("severity", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("owasp", ARRAY(sa.Text), nullable=False),
    sa.Column("atlas", ARRAY(sa.Text), nullable=False),
    sa.Column("due_on", sa.Date, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("remediation", sa.Text, nullable=False),
    sa.Column("acceptance_id", sa.Uuid),
    sa.Column("found_by", sa.Text, nullable=False),
    sa.Column("found_at", _INSTANT, nullable=False),
    sa.Column("updated_at", _INSTANT, nullable=False),
    sa.Column("remediated_at", _INSTANT),
    sa.Index("finding_of_engagement", "engagement_id", "finding_id"),
    sa.Index("finding_by_asset", "asset_id", "finding_id"),
    sa.Index("finding_accepted", "acceptance_id", postgresql_where=sa.text("status = 'accepted'")),
)
review_table = sa.Table(
    "review",
    metadata,
    sa.Column("review_id", sa.Uuid, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("asset_id", sa.Uuid),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("due_on", sa.Date, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("created_at", _INSTANT, nullable=False),
    sa.Column("updated_at", _INSTANT, nullable=False),
    sa.Column("completed_by", sa.Text),
    sa.Column("completed_at", _INSTANT),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Index("review_open", "kind", "target", unique=True, postgresql_where=sa.text("status = 'due'")),
    sa.Index("review_by_day", "due_on", "review_id"),
    sa.Index("review_by_asset", "asset_id", "due_on"),
)


def newest_first(statement: sa.Select[Any], key: sa.ColumnElement[Any], page: PageRequest) -> sa.Select[Any]:
    """`statement` as a page by descending UUIDv7 `key`, which is the order of creation; one row more than asked for."""
    if page.after is not None:
        statement = statement.where(key < UUID(page.after[0]))
    return statement.order_by(key.desc()).limit(page.limit + 1)


def fields(value: Any, *, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """A flat dataclass as column values."""
    return {
        name: list(found) if isinstance(found := getattr(value, name), tuple) else found
        for name in value.__slots__
        if name not in without
    }
