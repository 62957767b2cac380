"""Copies of assets; controls, deployments; policies; charter; acceptances, decisions; red teaming; reviews."""

from alembic import op

from shared import backbone

revision = "2026_11_22_2140"
down_revision = None
branch_labels = None
depends_on = None

_TABLES = (
    """
    CREATE TABLE asset_copy (
        asset_id uuid PRIMARY KEY,
        version bigint NOT NULL,
        name text NOT NULL,
        asset_type text NOT NULL,
        owner_team text NOT NULL,
        data_classification text NOT NULL,
        deployment_env text NOT NULL,
        lifecycle text NOT NULL,
        last_security_review date,
        registered_at timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE asset_risk_copy (
        asset_id uuid PRIMARY KEY,
        version bigint NOT NULL,
        residual_risk_score double precision NOT NULL,
        risk_level text NOT NULL,
        assessed_at timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE control (
        control_id text PRIMARY KEY,
        version bigint NOT NULL,
        body jsonb NOT NULL,
        function text NOT NULL,
        control_type text,
        updated_by text NOT NULL,
        updated_at timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE control_deployment (
        deployment_id uuid PRIMARY KEY,
        version bigint NOT NULL,
        asset_id uuid NOT NULL,
        control_id text NOT NULL,
        control_type text,
        function text NOT NULL,
        status text NOT NULL,
        owner text NOT NULL,
        notes text NOT NULL,
        evidence_days integer NOT NULL,
        evidence_valid_until date,
        evidence_due_on date,
        created_by text NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX control_deployment_by_control ON control_deployment (control_id, deployment_id)",
    "CREATE INDEX control_deployment_evidence ON control_deployment (evidence_due_on) WHERE status = 'operational'",
    """
    CREATE UNIQUE INDEX control_deployment_living ON control_deployment (asset_id, control_id)
    WHERE status <> 'retired'
    """,
    """
    CREATE TABLE evidence (
        evidence_id uuid PRIMARY KEY,
        deployment_id uuid NOT NULL REFERENCES control_deployment (deployment_id),
        summary text NOT NULL,
        reference text NOT NULL,
        sha256 text,
        collected_on date NOT NULL,
        valid_until date NOT NULL,
        recorded_by text NOT NULL,
        recorded_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX evidence_of_deployment ON evidence (deployment_id, evidence_id)",
    """
    CREATE TABLE policy (
        policy_id text PRIMARY KEY,
        latest integer NOT NULL,
        in_force integer,
        created_at timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE policy_version (
        policy_id text NOT NULL REFERENCES policy (policy_id),
        number integer NOT NULL,
        version bigint NOT NULL,
        status text NOT NULL,
        text jsonb NOT NULL,
        authors text[] NOT NULL,
        change_note text NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        submitted_by text,
        submitted_at timestamptz,
        decided_by text,
        decided_at timestamptz,
        decision_note text NOT NULL,
        PRIMARY KEY (policy_id, number)
    )
    """,
    "CREATE UNIQUE INDEX policy_in_force ON policy_version (policy_id) WHERE status = 'approved'",
    "CREATE UNIQUE INDEX policy_in_review ON policy_version (policy_id) WHERE status = 'in_review'",
    """
    CREATE TABLE charter (
        name text NOT NULL,
        version bigint NOT NULL,
        body jsonb NOT NULL,
        changed_by text NOT NULL,
        changed_at timestamptz NOT NULL,
        PRIMARY KEY (name, version)
    )
    """,
    """
    CREATE TABLE acceptance (
        acceptance_id uuid PRIMARY KEY,
        version bigint NOT NULL,
        kind text NOT NULL,
        status text NOT NULL,
        asset_id uuid,
        policy_id text,
        statement_id text,
        control_id text,
        justification text NOT NULL,
        compensating_measures text[] NOT NULL,
        expires_at timestamptz NOT NULL,
        requested_by text NOT NULL,
        requested_at timestamptz NOT NULL,
        requested_score double precision,
        requested_level text,
        accepted_score double precision,
        accepted_level text,
        decided_by text,
        decided_at timestamptz,
        decision_note text NOT NULL,
        decision_id uuid,
        ended_by text,
        ended_at timestamptz,
        end_reason text NOT NULL
    )
    """,
    "CREATE INDEX acceptance_by_asset ON acceptance (asset_id, acceptance_id)",
    "CREATE INDEX acceptance_ending ON acceptance (expires_at) WHERE status IN ('requested', 'approved')",
    """
    CREATE TABLE decision (
        decision_id uuid PRIMARY KEY,
        title text NOT NULL,
        outcome text NOT NULL,
        rationale text NOT NULL,
        conditions text[] NOT NULL,
        participants text[] NOT NULL,
        decided_on date NOT NULL,
        asset_id uuid,
        acceptance_id uuid,
        policy_id text,
        supersedes uuid,
        recorded_by text NOT NULL,
        recorded_at timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE engagement (
        engagement_id uuid PRIMARY KEY,
        version bigint NOT NULL,
        title text NOT NULL,
        objectives text NOT NULL,
        rules text NOT NULL,
        team text NOT NULL,
        lead text NOT NULL,
        asset_ids uuid[] NOT NULL,
        owner_team text NOT NULL,
        status text NOT NULL,
        planned_for date,
        started_on date,
        completed_on date,
        summary text NOT NULL,
        created_by text NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE finding (
        finding_id uuid PRIMARY KEY,
        version bigint NOT NULL,
        engagement_id uuid NOT NULL REFERENCES engagement (engagement_id),
        asset_id uuid,
        owner_team text NOT NULL,
        title text NOT NULL,
        description text NOT NULL,
        severity text NOT NULL,
        status text NOT NULL,
        owasp text[] NOT NULL,
        atlas text[] NOT NULL,
        due_on date NOT NULL,
        owner text NOT NULL,
        remediation text NOT NULL,
        acceptance_id uuid,
        found_by text NOT NULL,
        found_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        remediated_at timestamptz
    )
    """,
    "CREATE INDEX finding_accepted ON finding (acceptance_id) WHERE status = 'accepted'",
    "CREATE INDEX finding_by_asset ON finding (asset_id, finding_id)",
    "CREATE INDEX finding_of_engagement ON finding (engagement_id, finding_id)",
    """
    CREATE TABLE review (
        review_id uuid PRIMARY KEY,
        version bigint NOT NULL,
        kind text NOT NULL,
        target text NOT NULL,
        asset_id uuid,
        status text NOT NULL,
        due_on date NOT NULL,
        note text NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        completed_by text,
        completed_at timestamptz,
        outcome text NOT NULL
    )
    """,
    "CREATE INDEX review_by_asset ON review (asset_id, due_on)",
    "CREATE INDEX review_by_day ON review (due_on, review_id)",
    "CREATE UNIQUE INDEX review_open ON review (kind, target) WHERE status = 'due'",
)


def upgrade() -> None:
    """The backbone's tables and ours."""
    for statement in (*backbone.create_v1(), *_TABLES):
        op.execute(statement)


def downgrade() -> None:
    """We roll forward."""
    raise NotImplementedError
