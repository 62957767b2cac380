"""Risk's tables. All of them are rebuilt by replay: none holds a clock's or a chance's value of its own."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

metadata = sa.MetaData()

_SCORE = sa.Numeric(5, 2)


def _when(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, TIMESTAMP(timezone=True), nullable=nullable)


asset_copy = sa.Table(
    "asset_copy",
    metadata,
    sa.Column("asset_id", sa.Uuid, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("owner_team", sa.Text, nullable=False),
    sa.Column("lifecycle", sa.Text, nullable=False),
    sa.Column("asset_type", sa.Text, nullable=False),
    # What the formula looks at, in the inventory's names; only ever read as a whole.
    sa.Column("subject", JSONB, nullable=False),
    # Where the newest assessment left it: what lists, portfolio and the next assessment need without a join.
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("residual", _SCORE, nullable=False),
    sa.Column("risk_level", sa.Text, nullable=False),
    sa.Column("model_version", sa.Integer, nullable=False),
    _when("accepted_until", nullable=True),
    # Alerts, incidents or a quarantine: its score moves with time.
    sa.Column("active", sa.Boolean, nullable=False),
    # The day on which its review will be old, if that lies ahead.
    sa.Column("review_stale_on", sa.Date),
    sa.Index("asset_copy_level", "risk_level", "asset_id", postgresql_where=sa.text("lifecycle <> 'retired'")),
    sa.Index(
        "asset_copy_team_level",
        "owner_team",
        "risk_level",
        "asset_id",
        postgresql_where=sa.text("lifecycle <> 'retired'"),
    ),
    sa.Index(
        "asset_copy_worst", sa.text("residual DESC"), "asset_id", postgresql_where=sa.text("lifecycle <> 'retired'")
    ),
    sa.Index(
        "asset_copy_team_worst",
        "owner_team",
        sa.text("residual DESC"),
        "asset_id",
        postgresql_where=sa.text("lifecycle <> 'retired'"),
    ),
    sa.Index("asset_copy_active", "asset_id", postgresql_where=sa.text("active")),
    sa.Index("asset_copy_stale", "review_stale_on", postgresql_where=sa.text("review_stale_on IS NOT NULL")),
)

dependency = sa.Table(
    "dependency",
    metadata,
    sa.Column("upstream_id", sa.Uuid, primary_key=True),
    sa.Column("downstream_id", sa.Uuid, primary_key=True),
    # Both ends may declare one dependency, and one may take it back.
    sa.Column("declared_by", sa.Uuid, primary_key=True),
    sa.Index("dependency_declared_by", "declared_by"),
)

control_copy = sa.Table(
    "control_copy",
    metadata,
    sa.Column("deployment_id", sa.Uuid, primary_key=True),
    sa.Column("asset_id", sa.Uuid, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("control_type", sa.Text, nullable=False),
    sa.Column("operational", sa.Boolean, nullable=False),
    sa.Index("control_copy_asset", "asset_id"),
)

acceptance_copy = sa.Table(
    "acceptance_copy",
    metadata,
    sa.Column("acceptance_id", sa.Uuid, primary_key=True),
    sa.Column("asset_id", sa.Uuid, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    _when("expires_at"),
    sa.Index("acceptance_copy_asset", "asset_id"),
)

alert_copy = sa.Table(
    "alert_copy",
    metadata,
    sa.Column("alert_id", sa.Uuid, primary_key=True),
    sa.Column("asset_id", sa.Uuid, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("severity", sa.Text, nullable=False),
    sa.Column("count", sa.BigInteger, nullable=False),
    _when("last_seen"),
    sa.Index("alert_copy_asset", "asset_id"),
)

incident_copy = sa.Table(
    "incident_copy",
    metadata,
    sa.Column("incident_id", sa.Uuid, primary_key=True),
    sa.Column("asset_id", sa.Uuid, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("severity", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    _when("over_since", nullable=True),
    sa.Index("incident_copy_asset", "asset_id"),
)

assessment = sa.Table(
    "assessment",
    metadata,
    sa.Column("asset_id", sa.Uuid, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("assessment_id", sa.Uuid, nullable=False),
    sa.Column("asset_name", sa.Text, nullable=False),
    sa.Column("asset_version", sa.BigInteger, nullable=False),
    sa.Column("inherent", _SCORE, nullable=False),
    sa.Column("control_effectiveness", sa.Numeric(3, 2), nullable=False),
    sa.Column("base_residual", _SCORE, nullable=False),
    sa.Column("residual", _SCORE, nullable=False),
    sa.Column("risk_level", sa.Text, nullable=False),
    sa.Column("previous_residual", _SCORE),
    sa.Column("previous_level", sa.Text),
    sa.Column("factors", JSONB, nullable=False),
    sa.Column("recommendations", JSONB, nullable=False),
    sa.Column("adjustments", JSONB, nullable=False),
    sa.Column("model_version", sa.Integer, nullable=False),
    sa.Column("trigger", sa.Text, nullable=False),
    sa.Column("trigger_event_id", sa.Uuid, nullable=False),
    _when("accepted_until", nullable=True),
    _when("assessed_at"),
)

portfolio_cell = sa.Table(
    "portfolio_cell",
    metadata,
    sa.Column("owner_team", sa.Text, primary_key=True),
    sa.Column("asset_type", sa.Text, primary_key=True),
    sa.Column("risk_level", sa.Text, primary_key=True),
    sa.Column("accepted", sa.Boolean, primary_key=True),
    sa.Column("assets", sa.BigInteger, nullable=False),
    sa.Column("residual_sum", sa.Numeric(14, 2), nullable=False),
)

model_version = sa.Table(
    "model_version",
    metadata,
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("model", JSONB, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("changed_by", sa.Text, nullable=False),
    _when("changed_at"),
    # Progress of scoring the portfolio again with this version.
    sa.Column("rescore_status", sa.Text, nullable=False),
    sa.Column("rescore_total", sa.BigInteger, nullable=False),
    sa.Column("rescore_done", sa.BigInteger, nullable=False),
    sa.Column("rescore_after", sa.Uuid),
    _when("rescore_finished_at", nullable=True),
)

REBUILT: Final = (
    model_version,
    asset_copy,
    dependency,
    control_copy,
    acceptance_copy,
    alert_copy,
    incident_copy,
    assessment,
    portfolio_cell,
)
