"""The schema: copies of what others own, and what is counted from them."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

from services.metrics.domain.coverage import CELL_COLUMNS
from services.metrics.domain.ledger import COUNTERS

metadata = sa.MetaData()

asset_copy = sa.Table(
    "asset_copy",
    metadata,
    sa.Column("asset_id", sa.Uuid, primary_key=True),
    sa.Column("minute", sa.Integer, nullable=False),
    sa.Column("asset_version", sa.BigInteger, nullable=False),
    sa.Column("team", sa.Text, nullable=False),
    sa.Column("asset_type", sa.Text, nullable=False),
    sa.Column("live", sa.Boolean, nullable=False),
    sa.Column("reviewed_on", sa.Date),
    sa.Column("missing_sbom", sa.Boolean, nullable=False),
    sa.Column("unclassified_data", sa.Boolean, nullable=False),
    sa.Column("public_exposure_high_sensitivity", sa.Boolean, nullable=False),
    sa.Column("assessment_version", sa.BigInteger, nullable=False),
    sa.Column("residual_cents", sa.Integer),
    sa.Column("risk_level", sa.Text),
    sa.Column("deployed", sa.Integer, nullable=False),
    sa.Column("operational", sa.Integer, nullable=False),
)

control_deployment = sa.Table(
    "control_deployment",
    metadata,
    sa.Column("deployment_id", sa.Uuid, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("asset_id", sa.Uuid, nullable=False),
    sa.Column("control_type", sa.Text),
    sa.Column("operational", sa.Boolean, nullable=False),
    sa.Column("present", sa.Boolean, nullable=False),
    sa.Index("control_deployment_asset", "asset_id"),
)

# `steps`: [[number, version, late], ...].
incident = sa.Table(
    "incident",
    metadata,
    sa.Column("incident_id", sa.Uuid, primary_key=True),
    sa.Column("minute", sa.Integer, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("team", sa.Text, nullable=False),
    sa.Column("category", sa.Text),
    sa.Column("occurred_at", TIMESTAMP(timezone=True)),
    sa.Column("detected_at", TIMESTAMP(timezone=True)),
    sa.Column("contained_at", TIMESTAMP(timezone=True)),
    sa.Column("resolved_at", TIMESTAMP(timezone=True)),
    sa.Column("finished", sa.Boolean, nullable=False),
    sa.Column("steps", JSONB, nullable=False),
)

# `steps` is the share that is booked for the thing: [[minute, counter's column, amount], ...]. Kept as booked, so that
# it is taken back as booked, whatever the rules have become since.
entry = sa.Table(
    "entry",
    metadata,
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("minute", sa.Integer, nullable=False),
    sa.Column("team", sa.Text, nullable=False),
    sa.Column("steps", JSONB, nullable=False),
)

# One row for each scope and each minute, hour and day (`span`, in minutes) in which one of its counts changes; `start`
# is the minute at which it begins, counted from 1970.
ledger = sa.Table(
    "ledger",
    metadata,
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("span", sa.Integer, primary_key=True),
    sa.Column("start", sa.Integer, primary_key=True),
    *(sa.Column(counter.column, sa.BigInteger, nullable=False, server_default="0") for counter in COUNTERS),
    # The present minute's rows are written again with every batch: room on the page keeps that a heap-only update.
    postgresql_with={"fillfactor": 50},
)

coverage = sa.Table(
    "coverage",
    metadata,
    sa.Column("team", sa.Text, primary_key=True),
    sa.Column("asset_type", sa.Text, primary_key=True),
    *(sa.Column(column, sa.BigInteger, nullable=False, server_default="0") for column in CELL_COLUMNS),
    postgresql_with={"fillfactor": 50},
)

# Everything here comes from events alone.
REBUILT: tuple[sa.Table, ...] = (asset_copy, control_deployment, incident, entry, ledger, coverage)
