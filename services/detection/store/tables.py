"""Detection's tables."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, JSONB, TIMESTAMP

metadata = sa.MetaData()
TIME = TIMESTAMP(timezone=True)

rule_table = sa.Table(
    "rule",
    metadata,
    sa.Column("rule_id", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("document", JSONB, nullable=False),
    sa.Column(
        "digest",
        sa.Text,
        nullable=False,
        comment="of the shipped file it was last taken from; empty for rules of one's own",
    ),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("category", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("expires_at", TIME),
    sa.Column("updated_at", TIME, nullable=False),
    sa.Column("updated_by", sa.Text, nullable=False),
)
containment_table = sa.Table(
    "containment",
    metadata,
    sa.Column("containment_id", sa.Uuid, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("target_kind", sa.Text, nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("owner_team", sa.Text, nullable=False),
    sa.Column("created_at", TIME, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("expires_at", TIME),
    sa.Column("lifted_at", TIME),
    sa.Column("lifted_by", sa.Text),
    sa.Column("team", sa.Text, comment="whose traffic it holds for; null everybody's, empty what belongs to no team"),
    sa.Index(
        "containment_in_force_for",
        "target_kind",
        "target",
        "team",
        unique=True,
        postgresql_where=sa.text("lifted_at IS NULL"),
        postgresql_nulls_not_distinct=True,
    ),
)
alert_table = sa.Table(
    "alert",
    metadata,
    sa.Column("alert_id", sa.Uuid, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("change", sa.BigInteger, nullable=False),
    sa.Column("fold_key", sa.Text, nullable=False),
    sa.Column("folding", sa.Boolean, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("category", sa.Text, nullable=False),
    sa.Column("severity", sa.Text, nullable=False),
    sa.Column("verdict", sa.Text, nullable=False),
    sa.Column("decision", sa.Text, nullable=False),
    sa.Column("score", sa.Double, nullable=False),
    sa.Column("rule_id", sa.Text, nullable=False),
    sa.Column("rule_version", sa.Integer, nullable=False),
    sa.Column("owasp", ARRAY(sa.Text), nullable=False),
    sa.Column("atlas", ARRAY(sa.Text), nullable=False),
    sa.Column("asset_id", sa.Uuid),
    sa.Column("owner_team", sa.Text, nullable=False),
    sa.Column("session_id", sa.Text),
    sa.Column("actor", sa.Text),
    sa.Column("model", sa.Text),
    sa.Column("direction", sa.Text, nullable=False),
    sa.Column("excerpt", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("inspection_id", sa.Uuid, nullable=False),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("first_seen", TIME, nullable=False),
    sa.Column("last_seen", TIME, nullable=False),
    sa.Column("disposition", sa.Text),
    sa.Column("disposed_by", sa.Text),
    sa.Column("comment", sa.Text, nullable=False),
    sa.Column("reported_by", sa.Text, nullable=False, server_default=""),
    sa.Column("trace_id", sa.Text),
    sa.Index("alert_fold", "fold_key", unique=True, postgresql_where=sa.text("folding")),
    sa.Index("alert_by_time", "first_seen", "alert_id"),
    sa.Index("alert_by_asset", "asset_id", "first_seen", "alert_id"),
    sa.Index("alert_by_team", "owner_team", "first_seen", "alert_id"),
    sa.Index("alert_by_session", "session_id", "first_seen", "alert_id"),
    sa.Index("alert_by_actor", "actor", "first_seen", "alert_id"),
    sa.Index("alert_by_change", "change"),
)
asset_copy_table = sa.Table(
    "asset_copy",
    metadata,
    sa.Column("asset_id", sa.Uuid, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("owner_team", sa.Text, nullable=False),
    sa.Column("asset_type", sa.Text, nullable=False),
    sa.Column("data_classification", sa.Text, nullable=False),
    sa.Column("lifecycle", sa.Text, nullable=False),
    sa.Column("authorized_tools", sa.Text, nullable=False, comment="a JSON array of names"),
    sa.Index("asset_copy_name", "name"),
)
asset_watch_table = sa.Table(
    "asset_watch",
    metadata,
    sa.Column("asset_id", sa.Uuid, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("mode", sa.Text, nullable=False),
    sa.Column(
        "fragments",
        JSONB,
        nullable=False,
        comment="keyed word hashes of registered prompts; the prompts are not kept",
    ),
    sa.Column("updated_at", TIME, nullable=False),
    sa.Column("updated_by", sa.Text, nullable=False),
)
activity_amount_table = sa.Table(
    "activity_amount",
    metadata,
    sa.Column("subject_by", sa.Text, primary_key=True),
    sa.Column("subject_key", sa.Text, primary_key=True),
    sa.Column("metric", sa.Text, primary_key=True),
    sa.Column("slice", sa.BigInteger, primary_key=True),
    sa.Column("amount", sa.Double, nullable=False),
)
activity_baseline_table = sa.Table(
    "activity_baseline",
    metadata,
    sa.Column("subject_by", sa.Text, primary_key=True),
    sa.Column("subject_key", sa.Text, primary_key=True),
    sa.Column("samples", sa.Double, nullable=False),
    sa.Column("entropy_sum", sa.Double, nullable=False),
    sa.Column("entropy_squares", sa.Double, nullable=False),
    sa.Column("length_sum", sa.Double, nullable=False),
    sa.Column("updated_at", TIME, nullable=False),
    sa.Index("activity_baseline_age", "updated_at"),
)
usage_amount_table = sa.Table(
    "usage_amount",
    metadata,
    sa.Column("subject_by", sa.Text, primary_key=True),
    sa.Column("subject_key", sa.Text, primary_key=True),
    sa.Column("span", sa.Text, primary_key=True),
    sa.Column("slot", sa.BigInteger, primary_key=True, comment="hours or days since the epoch, as span says"),
    sa.Column("tokens", sa.Double, nullable=False),
    sa.Column("cost_usd", sa.Double, nullable=False),
    sa.Column("requests", sa.Double, nullable=False),
    sa.Column("flagged", sa.Double, nullable=False, comment="requests that detectors flagged"),
    sa.Column(
        "alerted", sa.Double, nullable=False, server_default="0", comment="score of the alert that the hour raised"
    ),
    sa.Index("usage_amount_age", "span", "subject_by", "slot"),
)
learned_profile_table = sa.Table(
    "learned_profile",
    metadata,
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("subject_key", sa.Text, primary_key=True),
    sa.Column("state", BYTEA, nullable=False, comment="what trackers keep, in a form of theirs"),
    sa.Column("updated_at", TIME, nullable=False),
    sa.Index("learned_profile_age", "updated_at"),
)
asset_budget_table = sa.Table(
    "asset_budget",
    metadata,
    sa.Column("asset_id", sa.Uuid, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("budgets", JSONB, nullable=False),
    sa.Column("updated_at", TIME, nullable=False),
    sa.Column("updated_by", sa.Text, nullable=False),
)
budget_crossing_table = sa.Table(
    "budget_crossing",
    metadata,
    sa.Column("asset_id", sa.Uuid, primary_key=True),
    sa.Column("period", sa.Text, primary_key=True),
    sa.Column("amount", sa.Text, primary_key=True),
    sa.Column("starts", sa.BigInteger, primary_key=True, comment="first hour of the period, since the epoch"),
    sa.Column("percent", sa.Double, primary_key=True),
    sa.Column("at", TIME, nullable=False),
)
asset_canary_table = sa.Table(
    "asset_canary",
    metadata,
    sa.Column("asset_id", sa.Uuid, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("canaries", sa.Integer, nullable=False),
    sa.Column("marks", JSONB, nullable=False, comment="lengths and keyed hashes; the canaries are not kept"),
    sa.Column("updated_at", TIME, nullable=False),
    sa.Column("updated_by", sa.Text, nullable=False),
)
generation_table = sa.Table(
    "generation",
    metadata,
    sa.Column("singleton", sa.Boolean, sa.CheckConstraint("singleton"), primary_key=True, server_default=sa.true()),
    sa.Column("rules", sa.BigInteger, nullable=False),
    sa.Column("containments", sa.BigInteger, nullable=False),
)
stream_cursor_table = sa.Table(
    "stream_cursor",
    metadata,
    sa.Column("unit", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("stream_created", TIME, nullable=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
)
stream_seen_table = sa.Table(
    "stream_seen",
    metadata,
    sa.Column("unit", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("chunk", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("keys", BYTEA, nullable=False, comment="of what was handled in one transaction, eight bytes each"),
    sa.Column("at", TIME, nullable=False, server_default=sa.func.now()),
    sa.Index("stream_seen_age", "at"),
)
session_state_table = sa.Table(
    "session_state",
    metadata,
    sa.Column("unit", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("session_key", sa.Text, primary_key=True),
    sa.Column("interactions", sa.BigInteger, nullable=False),
    sa.Column("seen", BYTEA, nullable=False, comment="digests of the last messages, eight bytes each"),
    sa.Column("state", BYTEA, nullable=False, comment="what trackers keep, in a form of theirs"),
    sa.Column("updated_at", TIME, nullable=False),
    sa.Index("session_state_age", "updated_at"),
)

alert_change = sa.Sequence("alert_change")
