"""The program's numbers: copies of what others own, the ledger and coverage."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

from shared import backbone

revision = "2026_11_22_2110"
down_revision = None
branch_labels = None
depends_on = None

COUNTERS = (
    "assets",
    "reviewed",
    "stale",
    "missing_sbom",
    "unclassified_data",
    "no_owner",
    "public_exposure_high_sensitivity",
    "gap_free",
    "assessed",
    "critical",
    "high",
    "residual_cents",
    "deployed",
    "operational",
    "controlled",
    "risk_acceptances",
    "policy_exceptions",
    "incidents_month",
    "incidents_prompt_injection_exploitation",
    "incidents_data_exfiltration_via_model",
    "incidents_model_supply_chain_compromise",
    "incidents_agent_unauthorized_actions",
    "incidents_training_data_poisoning",
    "incidents_model_denial_of_service",
    "incidents_pii_leakage_in_output",
    "incidents_jailbreak_bypass",
    "detect_count",
    "detect_milliseconds",
    "contain_count",
    "contain_milliseconds",
    "resolve_count",
    "resolve_milliseconds",
    "engagements_year",
    "findings",
    "findings_remediated",
    "actions_tracked",
    "overdue_steps",
    "overdue_reviews",
    "overdue_findings",
    "policies",
    "appetite",
    "decisions",
    "alerts_month",
    "alerts_judged",
    "alerts_true",
)
CELL_COLUMNS = (
    "assets",
    "reviewed",
    "assessed",
    "controlled",
    "with_input_filtering",
    "with_output_filtering",
    "with_rate_limiting",
    "with_authentication",
    "with_encryption_at_rest",
    "with_encryption_in_transit",
    "with_monitoring",
    "with_guardrails",
    "with_access_logging",
    "with_network_isolation",
)


def upgrade() -> None:
    for statement in backbone.create_v1():
        op.execute(statement)
    op.create_table(
        "asset_copy",
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
    op.create_table(
        "control_deployment",
        sa.Column("deployment_id", sa.Uuid, primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("asset_id", sa.Uuid, nullable=False),
        sa.Column("control_type", sa.Text),
        sa.Column("operational", sa.Boolean, nullable=False),
        sa.Column("present", sa.Boolean, nullable=False),
    )
    op.create_index("control_deployment_asset", "control_deployment", ["asset_id"])
    op.create_table(
        "incident",
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
    op.create_table(
        "entry",
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("minute", sa.Integer, nullable=False),
        sa.Column("team", sa.Text, nullable=False),
        sa.Column("steps", JSONB, nullable=False),
    )
    op.create_table(
        "ledger",
        sa.Column("scope", sa.Text, primary_key=True),
        sa.Column("span", sa.Integer, primary_key=True),
        sa.Column("start", sa.Integer, primary_key=True),
        *(sa.Column(name, sa.BigInteger, nullable=False, server_default="0") for name in COUNTERS),
        postgresql_with={"fillfactor": 50},
    )
    op.create_table(
        "coverage",
        sa.Column("team", sa.Text, primary_key=True),
        sa.Column("asset_type", sa.Text, primary_key=True),
        *(sa.Column(name, sa.BigInteger, nullable=False, server_default="0") for name in CELL_COLUMNS),
        postgresql_with={"fillfactor": 50},
    )


def downgrade() -> None:
    raise NotImplementedError("we roll forward")
