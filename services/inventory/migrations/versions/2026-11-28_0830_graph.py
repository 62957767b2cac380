"""Edges have a relation, a source, a locator and a time; what they said before is depends_on."""

from alembic import op

revision = "graph"
down_revision = "2026_11_28_0820"
branch_labels = None
depends_on = None

_DEPENDENCY = (
    # A table of many edges takes its time once; nothing reads it meanwhile.
    "SET LOCAL statement_timeout = 0",
    "ALTER TABLE dependency RENAME TO dependency_before",
    """
    CREATE TABLE dependency (
        edge_id uuid NOT NULL DEFAULT uuidv7(),
        upstream_id uuid NOT NULL,
        downstream_id uuid NOT NULL,
        relation text NOT NULL,
        source text NOT NULL,
        locator text NOT NULL,
        valid_from timestamptz NOT NULL,
        valid_to timestamptz
    )
    """,
    """
    INSERT INTO dependency (upstream_id, downstream_id, relation, source, locator, valid_from)
    SELECT upstream_id, downstream_id, 'depends_on',
           CASE WHEN declared_by = downstream_id THEN 'upstream_assets' ELSE 'downstream_assets' END, '',
           coalesce(asset.registered_date, now())
    FROM dependency_before LEFT JOIN asset ON asset_id = declared_by
    """,
    "DROP TABLE dependency_before",
    "ALTER TABLE dependency ADD CONSTRAINT dependency_pkey PRIMARY KEY (edge_id)",
    (
        "CREATE UNIQUE INDEX dependency_now ON dependency (downstream_id, upstream_id, relation, source) "
        "WHERE valid_to IS NULL"
    ),
    ("CREATE INDEX dependency_by_upstream ON dependency (upstream_id, downstream_id, relation) WHERE valid_to IS NULL"),
    "CREATE INDEX dependency_closed_by_upstream ON dependency (upstream_id) WHERE valid_to IS NOT NULL",
    "CREATE INDEX dependency_closed_by_downstream ON dependency (downstream_id) WHERE valid_to IS NOT NULL",
    "CREATE INDEX dependency_opened ON dependency (valid_from, edge_id)",
    "CREATE INDEX dependency_closed ON dependency (valid_to, edge_id) WHERE valid_to IS NOT NULL",
    "COMMENT ON COLUMN dependency.upstream_id IS 'harm comes from it'",
    "COMMENT ON COLUMN dependency.downstream_id IS 'harm reaches it'",
    "COMMENT ON COLUMN dependency.source IS 'the record, person or discovery source that says so'",
    "COMMENT ON COLUMN dependency.valid_to IS 'null while it holds'",
)

_COMBINATIONS = (
    (
        "CREATE INDEX asset_public ON asset (asset_id) INCLUDE (asset_type) "
        "WHERE network_exposure = 'public' AND lifecycle = 'active'"
    ),
    (
        "CREATE INDEX asset_unproven_model ON asset (asset_id) "
        "WHERE asset_type IN ('foundation_model', 'fine_tuned_model', 'embedding_model') "
        "AND deployment_env = 'production' AND model_provider IS NULL AND source_url IS NULL "
        "AND integrity = '[]'::jsonb"
    ),
    "CREATE INDEX asset_by_registered ON asset (registered_date, asset_id)",
    "CREATE INDEX asset_by_retired ON asset (last_updated, asset_id) WHERE lifecycle = 'retired'",
    (
        "CREATE INDEX dependency_exposing ON dependency (upstream_id) "
        "WHERE relation = 'exposes_credential' AND valid_to IS NULL"
    ),
)

_PROJECTIONS = (
    """
    CREATE TABLE control_copy (
        deployment_id uuid PRIMARY KEY,
        version bigint NOT NULL,
        asset_id uuid NOT NULL,
        control_id text NOT NULL,
        control_type text,
        status text NOT NULL,
        operational boolean NOT NULL,
        evidence_valid_until date,
        removed boolean NOT NULL
    )
    """,
    "CREATE INDEX control_copy_by_asset ON control_copy (asset_id)",
    """
    CREATE TABLE acceptance_copy (
        acceptance_id uuid PRIMARY KEY,
        version bigint NOT NULL,
        asset_id uuid NOT NULL,
        in_force boolean NOT NULL,
        expires_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX acceptance_copy_by_asset ON acceptance_copy (asset_id)",
    """
    CREATE TABLE incident_copy (
        incident_id uuid PRIMARY KEY,
        version bigint NOT NULL,
        category text NOT NULL,
        severity text NOT NULL,
        status text NOT NULL,
        affected_assets uuid[] NOT NULL
    )
    """,
    (
        "CREATE INDEX incident_copy_unresolved ON incident_copy USING gin (affected_assets) "
        "WHERE status NOT IN ('resolved', 'closed')"
    ),
    "CREATE TABLE appetite_copy (appetite text PRIMARY KEY, version bigint NOT NULL, ceilings jsonb NOT NULL)",
    "COMMENT ON COLUMN appetite_copy.ceilings IS 'class -> environment -> highest residual score'",
)


def upgrade() -> None:
    """What this release needs."""
    op.execute("SET LOCAL statement_timeout = 0")  # a million assets take longer than what serves may
    for statement in (*_DEPENDENCY, *_COMBINATIONS, *_PROJECTIONS):
        op.execute(statement)


def downgrade() -> None:
    """We roll forward."""
    raise NotImplementedError
