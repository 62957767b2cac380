"""Assets, their risk, dependencies, changes and bills of materials; discovery runs and sightings."""

from alembic import op

from shared import backbone

revision = "2026_11_22_2110"
down_revision = None
branch_labels = None
depends_on = None

_TABLES = (
    """
    CREATE TABLE asset (
        asset_id uuid PRIMARY KEY,
        version integer NOT NULL,
        name text NOT NULL,
        asset_type text NOT NULL,
        description text NOT NULL,
        owner_team text NOT NULL,
        owner_email text NOT NULL,
        data_classification text NOT NULL,
        deployment_env text NOT NULL,
        regulatory_scope text[] NOT NULL,
        model_provider text,
        model_name text,
        model_version text,
        is_self_hosted boolean NOT NULL,
        parameter_count text,
        source_url text,
        license_type text,
        last_security_review date,
        sbom_available boolean NOT NULL,
        api_endpoint text,
        cloud_provider text,
        cloud_region text,
        network_exposure text NOT NULL,
        upstream_assets uuid[] NOT NULL,
        downstream_assets uuid[] NOT NULL,
        purpose text NOT NULL,
        authorized_tools text[] NOT NULL,
        integrity jsonb NOT NULL,
        sources jsonb NOT NULL,
        lifecycle text NOT NULL,
        compliance_status text NOT NULL,
        registered_date timestamptz NOT NULL,
        registered_by text NOT NULL,
        last_updated timestamptz NOT NULL,
        duplicate_key bytea NOT NULL
    )
    """,
    """
    CREATE TABLE asset_risk (
        asset_id uuid PRIMARY KEY,
        version bigint NOT NULL,
        risk_score double precision NOT NULL,
        risk_level text NOT NULL,
        assessed_at timestamptz NOT NULL,
        owner_team text NOT NULL
    )
    """,
    "COMMENT ON COLUMN asset_risk.owner_team IS 'always the asset''s, so that a team''s riskiest are found'",
    "COMMENT ON COLUMN asset_risk.version IS 'of the assessments, risk''s own count'",
    """
    CREATE TABLE dependency (
        downstream_id uuid NOT NULL,
        upstream_id uuid NOT NULL,
        declared_by uuid NOT NULL,
        PRIMARY KEY (downstream_id, upstream_id, declared_by)
    )
    """,
    "COMMENT ON COLUMN dependency.downstream_id IS 'depends on the other'",
    "COMMENT ON COLUMN dependency.declared_by IS 'the end whose record says so'",
    """
    CREATE TABLE asset_change (
        asset_id uuid NOT NULL,
        version integer NOT NULL,
        at timestamptz NOT NULL,
        actor text NOT NULL,
        action text NOT NULL,
        detail jsonb NOT NULL,
        changes jsonb NOT NULL,
        PRIMARY KEY (asset_id, version)
    )
    """,
    "COMMENT ON COLUMN asset_change.version IS 'the version that this change made'",
    """
    CREATE TABLE asset_bom (
        asset_id uuid PRIMARY KEY,
        document bytea NOT NULL,
        digest text NOT NULL,
        spec_version text NOT NULL,
        components integer NOT NULL,
        stored_at timestamptz NOT NULL,
        stored_by text NOT NULL
    )
    """,
    "COMMENT ON COLUMN asset_bom.document IS 'as it was sent, byte for byte'",
    "COMMENT ON COLUMN asset_bom.digest IS 'SHA-256 of document, hex'",
    """
    CREATE TABLE discovery_run (
        run_id uuid PRIMARY KEY,
        source text NOT NULL,
        options jsonb NOT NULL,
        owner_team text NOT NULL,
        status text NOT NULL,
        counts jsonb NOT NULL,
        problems jsonb NOT NULL,
        requested_by text NOT NULL,
        requested_at timestamptz NOT NULL,
        finished_at timestamptz
    )
    """,
    """
    CREATE TABLE discovery_sighting (
        source text NOT NULL,
        locator text NOT NULL,
        scope text NOT NULL,
        asset_id uuid NOT NULL,
        run_id uuid NOT NULL,
        gone boolean NOT NULL,
        PRIMARY KEY (source, locator)
    )
    """,
    "COMMENT ON COLUMN discovery_sighting.scope IS 'the listing or folder in which it was seen'",
    "COMMENT ON COLUMN discovery_sighting.run_id IS 'the last run that saw it'",
)

_INDEXES = (
    "CREATE UNIQUE INDEX asset_duplicate_key ON asset (duplicate_key) WHERE lifecycle <> 'retired'",
    "CREATE INDEX asset_by_asset_type ON asset (asset_type, asset_id)",
    "CREATE INDEX asset_by_data_classification ON asset (data_classification, asset_id)",
    "CREATE INDEX asset_by_owner_team ON asset (owner_team, asset_id)",
    "CREATE INDEX asset_by_deployment_env ON asset (deployment_env, asset_id)",
    "CREATE INDEX asset_by_network_exposure ON asset (network_exposure, asset_id)",
    "CREATE INDEX asset_by_model_provider ON asset (model_provider, asset_id) WHERE model_provider IS NOT NULL",
    "CREATE INDEX asset_by_cloud_provider ON asset (cloud_provider, asset_id) WHERE cloud_provider IS NOT NULL",
    "CREATE INDEX asset_by_lifecycle ON asset (lifecycle, asset_id) WHERE lifecycle <> 'active'",
    "CREATE INDEX asset_unreviewed ON asset (asset_id) WHERE compliance_status = 'unreviewed'",
    "CREATE INDEX asset_by_last_updated ON asset (last_updated, asset_id)",
    "CREATE INDEX asset_by_name_prefix ON asset (lower(name) text_pattern_ops, asset_id)",
    "CREATE INDEX asset_by_name_part ON asset USING gin (lower(name) gin_trgm_ops)",
    "CREATE INDEX asset_scope_none ON asset (asset_id) WHERE regulatory_scope @> '{none}'::text[]",
    "CREATE INDEX asset_scope_gdpr ON asset (asset_id) WHERE regulatory_scope @> '{gdpr}'::text[]",
    "CREATE INDEX asset_scope_hipaa ON asset (asset_id) WHERE regulatory_scope @> '{hipaa}'::text[]",
    "CREATE INDEX asset_scope_sox ON asset (asset_id) WHERE regulatory_scope @> '{sox}'::text[]",
    (
        "CREATE INDEX asset_scope_eu_ai_act_high_risk ON asset (asset_id) "
        "WHERE regulatory_scope @> '{eu_ai_act_high_risk}'::text[]"
    ),
    (
        "CREATE INDEX asset_scope_eu_ai_act_limited_risk ON asset (asset_id) "
        "WHERE regulatory_scope @> '{eu_ai_act_limited_risk}'::text[]"
    ),
    "CREATE INDEX asset_scope_pci_dss ON asset (asset_id) WHERE regulatory_scope @> '{pci_dss}'::text[]",
    "CREATE INDEX asset_scope_ccpa ON asset (asset_id) WHERE regulatory_scope @> '{ccpa}'::text[]",
    "CREATE INDEX asset_by_review ON asset (last_security_review, asset_id) WHERE last_security_review IS NOT NULL",
    "CREATE INDEX asset_gap_missing_sbom ON asset (asset_id) WHERE is_self_hosted AND NOT sbom_available",
    (
        "CREATE INDEX asset_gap_unclassified_data ON asset (asset_id) WHERE data_classification = 'internal' "
        "AND regulatory_scope <> '{}'::text[] AND regulatory_scope <> '{none}'::text[]"
    ),
    (
        "CREATE INDEX asset_gap_public_exposure_high_sensitivity ON asset (asset_id) WHERE network_exposure = 'public' "
        "AND data_classification IN ('confidential', 'restricted', 'regulated')"
    ),
    "CREATE INDEX asset_risk_by_score ON asset_risk (risk_score, asset_id)",
    "CREATE INDEX asset_risk_by_team ON asset_risk (owner_team, risk_score, asset_id)",
    "CREATE INDEX asset_risk_by_level ON asset_risk (risk_level, asset_id)",
    "CREATE INDEX dependency_by_upstream ON dependency (upstream_id, downstream_id)",
    "CREATE INDEX dependency_by_declarer ON dependency (declared_by)",
    "CREATE INDEX discovery_sighting_by_scope ON discovery_sighting (source, scope)",
)


def upgrade() -> None:
    """The first release."""
    for statement in backbone.create_v1():
        op.execute(statement)
    # pg_trgm comes with PostgreSQL and is trusted: the database's owner may install it.
    op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    for statement in (*_TABLES, *_INDEXES):
        op.execute(statement)


def downgrade() -> None:
    """We roll forward."""
    raise NotImplementedError
