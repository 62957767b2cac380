"""Copies of what an asset's risk depends on, its assessments, the portfolio and the scoring model."""

from alembic import op

from shared import backbone

revision = "0001_assessments"
down_revision = None
branch_labels = None
depends_on = None

_TABLES = (
    """
    CREATE TABLE asset_copy (
        asset_id uuid PRIMARY KEY,
        version bigint NOT NULL,
        name text NOT NULL,
        owner_team text NOT NULL,
        lifecycle text NOT NULL,
        asset_type text NOT NULL,
        subject jsonb NOT NULL,
        number integer NOT NULL,
        residual numeric(5, 2) NOT NULL,
        risk_level text NOT NULL,
        model_version integer NOT NULL,
        accepted_until timestamptz,
        active boolean NOT NULL,
        review_stale_on date
    )
    """,
    "CREATE INDEX asset_copy_level ON asset_copy (risk_level, asset_id) WHERE lifecycle <> 'retired'",
    """
    CREATE INDEX asset_copy_team_level ON asset_copy (owner_team, risk_level, asset_id)
        WHERE lifecycle <> 'retired'
    """,
    "CREATE INDEX asset_copy_worst ON asset_copy (residual DESC, asset_id) WHERE lifecycle <> 'retired'",
    """
    CREATE INDEX asset_copy_team_worst ON asset_copy (owner_team, residual DESC, asset_id)
        WHERE lifecycle <> 'retired'
    """,
    "CREATE INDEX asset_copy_active ON asset_copy (asset_id) WHERE active",
    "CREATE INDEX asset_copy_stale ON asset_copy (review_stale_on) WHERE review_stale_on IS NOT NULL",
    """
    CREATE TABLE dependency (
        upstream_id uuid NOT NULL,
        downstream_id uuid NOT NULL,
        declared_by uuid NOT NULL,
        PRIMARY KEY (upstream_id, downstream_id, declared_by)
    )
    """,
    "CREATE INDEX dependency_declared_by ON dependency (declared_by)",
    """
    CREATE TABLE control_copy (
        deployment_id uuid PRIMARY KEY,
        asset_id uuid NOT NULL,
        version bigint NOT NULL,
        control_type text NOT NULL,
        operational boolean NOT NULL
    )
    """,
    "CREATE INDEX control_copy_asset ON control_copy (asset_id)",
    """
    CREATE TABLE acceptance_copy (
        acceptance_id uuid PRIMARY KEY,
        asset_id uuid NOT NULL,
        version bigint NOT NULL,
        expires_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX acceptance_copy_asset ON acceptance_copy (asset_id)",
    """
    CREATE TABLE alert_copy (
        alert_id uuid PRIMARY KEY,
        asset_id uuid NOT NULL,
        version bigint NOT NULL,
        severity text NOT NULL,
        count bigint NOT NULL,
        last_seen timestamptz NOT NULL
    )
    """,
    "CREATE INDEX alert_copy_asset ON alert_copy (asset_id)",
    """
    CREATE TABLE incident_copy (
        incident_id uuid NOT NULL,
        asset_id uuid NOT NULL,
        version bigint NOT NULL,
        severity text NOT NULL,
        status text NOT NULL,
        over_since timestamptz,
        PRIMARY KEY (incident_id, asset_id)
    )
    """,
    "CREATE INDEX incident_copy_asset ON incident_copy (asset_id)",
    """
    CREATE TABLE assessment (
        asset_id uuid NOT NULL,
        number integer NOT NULL,
        assessment_id uuid NOT NULL,
        asset_name text NOT NULL,
        asset_version bigint NOT NULL,
        inherent numeric(5, 2) NOT NULL,
        control_effectiveness numeric(3, 2) NOT NULL,
        base_residual numeric(5, 2) NOT NULL,
        residual numeric(5, 2) NOT NULL,
        risk_level text NOT NULL,
        previous_residual numeric(5, 2),
        previous_level text,
        factors jsonb NOT NULL,
        recommendations jsonb NOT NULL,
        adjustments jsonb NOT NULL,
        model_version integer NOT NULL,
        trigger text NOT NULL,
        trigger_event_id uuid NOT NULL,
        accepted_until timestamptz,
        assessed_at timestamptz NOT NULL,
        PRIMARY KEY (asset_id, number)
    )
    """,
    """
    CREATE TABLE portfolio_cell (
        owner_team text NOT NULL,
        asset_type text NOT NULL,
        risk_level text NOT NULL,
        accepted boolean NOT NULL,
        assets bigint NOT NULL,
        residual_sum numeric(14, 2) NOT NULL,
        PRIMARY KEY (owner_team, asset_type, risk_level, accepted)
    )
    """,
    """
    CREATE TABLE model_version (
        version integer PRIMARY KEY,
        model jsonb NOT NULL,
        note text NOT NULL,
        changed_by text NOT NULL,
        changed_at timestamptz NOT NULL,
        rescore_status text NOT NULL,
        rescore_total bigint NOT NULL,
        rescore_done bigint NOT NULL,
        rescore_after uuid,
        rescore_finished_at timestamptz
    )
    """,
)


def upgrade() -> None:
    """The first revision."""
    for statement in (*backbone.create_v1(), *_TABLES):
        op.execute(statement)


def downgrade() -> None:
    """We roll forward."""
    raise NotImplementedError
