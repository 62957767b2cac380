"""Discovery keeps what each source says, by scope; names, links and schedules."""

from alembic import op

revision = "2026_11_28_0820"
down_revision = "2026_11_22_2110"
branch_labels = None
depends_on = None

# Sightings were only which run saw what; they are kept anew by each source's next run, which finds every asset again by
# its registration key.
_STATEMENTS = (
    "SET LOCAL statement_timeout = 0",
    """
    UPDATE asset SET sources = (
        SELECT jsonb_agg(
            CASE WHEN said ->> 'kind' = 'declared' THEN said ELSE said || jsonb_build_object('source', seen.source) END
        )
        FROM jsonb_array_elements(asset.sources) AS said
    )
    FROM (SELECT DISTINCT ON (asset_id) asset_id, source FROM discovery_sighting ORDER BY asset_id, source) AS seen
    WHERE seen.asset_id = asset.asset_id AND asset.sources <> '[]'::jsonb
    """,
    "DROP TABLE discovery_sighting",
    """
    CREATE TABLE discovery_scope (
        source text NOT NULL,
        scope text NOT NULL,
        run_id uuid NOT NULL,
        complete boolean NOT NULL,
        entries integer NOT NULL,
        seconds float8 NOT NULL,
        read_at timestamptz,
        stale_since timestamptz,
        reason text NOT NULL,
        PRIMARY KEY (source, scope)
    )
    """,
    "COMMENT ON COLUMN discovery_scope.scope IS 'one listing, folder or repository'",
    "COMMENT ON COLUMN discovery_scope.run_id IS 'the last run that read it or tried to'",
    "COMMENT ON COLUMN discovery_scope.complete IS 'that run read it to its end'",
    "COMMENT ON COLUMN discovery_scope.entries IS 'when it was last read to its end'",
    "COMMENT ON COLUMN discovery_scope.read_at IS 'when it was last read to its end'",
    "COMMENT ON COLUMN discovery_scope.stale_since IS 'since when it cannot be read to its end'",
    "CREATE INDEX discovery_scope_by_run ON discovery_scope (run_id)",
    """
    CREATE TABLE discovery_sighting (
        source text NOT NULL,
        scope text NOT NULL,
        locator text NOT NULL,
        sighting_id uuid NOT NULL UNIQUE,
        asset_id uuid NOT NULL,
        document jsonb NOT NULL,
        fingerprint bytea NOT NULL,
        observed text[] NOT NULL,
        matched_by text NOT NULL,
        pinned boolean NOT NULL,
        first_seen timestamptz NOT NULL,
        changed_at timestamptz NOT NULL,
        missing_since timestamptz,
        gone_at timestamptz,
        PRIMARY KEY (source, scope, locator)
    )
    """,
    "COMMENT ON COLUMN discovery_sighting.document IS 'claims, links, observations, identities, model card'",
    "COMMENT ON COLUMN discovery_sighting.fingerprint IS 'of the document: equal means nothing to write'",
    "COMMENT ON COLUMN discovery_sighting.observed IS 'kinds of its observations'",
    "COMMENT ON COLUMN discovery_sighting.matched_by IS 'why it is this asset'",
    "COMMENT ON COLUMN discovery_sighting.pinned IS 'a person said which asset it is'",
    "COMMENT ON COLUMN discovery_sighting.missing_since IS 'first complete reading of its scope that lacks it'",
    "CREATE INDEX discovery_sighting_by_asset ON discovery_sighting (asset_id)",
    """
    CREATE INDEX discovery_sighting_observed ON discovery_sighting USING gin (observed)
    WHERE observed <> '{}'::text[]
    """,
    """
    CREATE TABLE discovery_name (
        name text NOT NULL,
        sighting_id uuid NOT NULL,
        PRIMARY KEY (name, sighting_id)
    )
    """,
    "COMMENT ON COLUMN discovery_name.name IS 'a locator or an identity'",
    "CREATE INDEX discovery_name_by_sighting ON discovery_name (sighting_id)",
    """
    CREATE TABLE discovery_link (
        sighting_id uuid NOT NULL,
        relation text NOT NULL,
        target text NOT NULL,
        reverse boolean NOT NULL,
        at_locator text NOT NULL,
        own_id uuid NOT NULL,
        other_id uuid,
        PRIMARY KEY (sighting_id, relation, target, reverse)
    )
    """,
    "COMMENT ON COLUMN discovery_link.target IS 'the other entry''s locator or identity'",
    "COMMENT ON COLUMN discovery_link.reverse IS 'the other entry is the subject'",
    "COMMENT ON COLUMN discovery_link.own_id IS 'asset of the sighting'",
    (
        "COMMENT ON COLUMN discovery_link.other_id IS "
        "'asset that the target turned out to be; null until something has its name'"
    ),
    "CREATE INDEX discovery_link_by_asset ON discovery_link (own_id)",
    "CREATE INDEX discovery_link_by_target ON discovery_link (target)",
    """
    CREATE TABLE discovery_schedule (
        schedule_id uuid PRIMARY KEY,
        source text NOT NULL,
        options jsonb NOT NULL,
        owner_team text NOT NULL,
        every_seconds integer NOT NULL,
        enabled boolean NOT NULL,
        next_at timestamptz NOT NULL,
        last_run_id uuid,
        created_by text NOT NULL,
        created_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX discovery_schedule_due ON discovery_schedule (next_at) WHERE enabled",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
