"""Model cards, kept bills of materials and their scores; digests denied and allowed, who holds them, whom it hurts."""

from alembic import op

revision = "supply_chain"
down_revision = "graph"
branch_labels = None
depends_on = None

_TABLES = (
    """
    CREATE TABLE asset_model_card (
        asset_id uuid PRIMARY KEY,
        version integer NOT NULL,
        declared jsonb NOT NULL,
        inferred jsonb NOT NULL,
        sources jsonb NOT NULL,
        updated_at timestamptz NOT NULL,
        updated_by text NOT NULL
    )
    """,
    "COMMENT ON COLUMN asset_model_card.declared IS 'what a person said; wins'",
    "COMMENT ON COLUMN asset_model_card.inferred IS 'what sources say'",
    "COMMENT ON COLUMN asset_model_card.sources IS 'field -> kind, locator and time'",
    """
    CREATE TABLE bom_document (
        bom_id uuid PRIMARY KEY,
        asset_id uuid,
        number integer NOT NULL,
        origin text NOT NULL,
        owner_team text NOT NULL,
        digest text NOT NULL,
        spec_version text NOT NULL,
        components integer NOT NULL,
        document bytea,
        parts jsonb NOT NULL,
        stored_at timestamptz NOT NULL,
        stored_by text NOT NULL
    )
    """,
    "COMMENT ON COLUMN bom_document.asset_id IS 'whose bill it is; null when it is of nothing that we keep'",
    "COMMENT ON COLUMN bom_document.number IS 'counts the bills of that asset, from 1'",
    "COMMENT ON COLUMN bom_document.owner_team IS 'of the import; an asset''s bill is seen by who sees it'",
    "COMMENT ON COLUMN bom_document.digest IS 'SHA-256 of document, hex'",
    "COMMENT ON COLUMN bom_document.document IS 'as it was sent, byte for byte; null of one that we wrote'",
    "COMMENT ON COLUMN bom_document.parts IS 'its components as far as they are compared'",
    "CREATE UNIQUE INDEX bom_document_by_asset ON bom_document (asset_id, number) WHERE asset_id IS NOT NULL",
    """
    CREATE TABLE bom_score (
        asset_id uuid PRIMARY KEY,
        owner_team text NOT NULL,
        score smallint NOT NULL,
        missing text[] NOT NULL,
        scored_at timestamptz NOT NULL
    )
    """,
    "COMMENT ON COLUMN bom_score.score IS '0 to 100'",
    "COMMENT ON COLUMN bom_score.missing IS 'fields, the most rewarding first'",
    "COMMENT ON COLUMN bom_score.scored_at IS 'last_updated of the asset that was scored'",
    "CREATE INDEX bom_score_lowest ON bom_score (score, asset_id)",
    "CREATE INDEX bom_score_newest ON bom_score (scored_at)",
    "CREATE INDEX bom_score_of_team ON bom_score (owner_team, score, asset_id)",
    """
    CREATE TABLE artifact_digest (
        algorithm text NOT NULL,
        digest text NOT NULL,
        verdict text NOT NULL,
        reason text NOT NULL,
        reference text NOT NULL,
        expires_at timestamptz,
        version integer NOT NULL,
        updated_at timestamptz NOT NULL,
        updated_by text NOT NULL,
        PRIMARY KEY (algorithm, digest)
    )
    """,
    "CREATE INDEX artifact_digest_expiring ON artifact_digest (expires_at) WHERE expires_at IS NOT NULL",
    """
    CREATE TABLE asset_digest (
        asset_id uuid NOT NULL,
        origin text NOT NULL,
        algorithm text NOT NULL,
        digest text NOT NULL,
        place text NOT NULL,
        PRIMARY KEY (asset_id, origin, algorithm, digest)
    )
    """,
    "COMMENT ON COLUMN asset_digest.origin IS 'asset: its integrity; bom: its supplied bill; bom:...: another''s'",
    "COMMENT ON COLUMN asset_digest.place IS 'the file or component'",
    "CREATE INDEX asset_digest_by_digest ON asset_digest (digest, algorithm, asset_id)",
    """
    CREATE TABLE artifact_hit (
        algorithm text NOT NULL,
        digest text NOT NULL,
        asset_id uuid NOT NULL,
        holder_id uuid NOT NULL,
        place text NOT NULL,
        path uuid[] NOT NULL,
        followed boolean NOT NULL,
        found_at timestamptz NOT NULL,
        PRIMARY KEY (algorithm, digest, asset_id)
    )
    """,
    "COMMENT ON COLUMN artifact_hit.path IS 'from the holder to the asset'",
    "COMMENT ON COLUMN artifact_hit.followed IS 'its dependents are hits too'",
    "CREATE INDEX artifact_hit_by_asset ON artifact_hit (asset_id)",
    "CREATE INDEX artifact_hit_by_holder ON artifact_hit (holder_id)",
    "CREATE INDEX artifact_hit_to_follow ON artifact_hit (algorithm, digest) WHERE NOT followed",
    """
    CREATE TABLE artifact_policy (
        team text PRIMARY KEY,
        mode text NOT NULL,
        version integer NOT NULL,
        updated_at timestamptz NOT NULL,
        updated_by text NOT NULL
    )
    """,
    "COMMENT ON COLUMN artifact_policy.team IS 'empty is the whole organisation'",
)

# Which digests an asset has, and which assets depend on which, is written in several ways: one at a time in a single
# statement, by COPY, by a change. Here it cannot be forgotten in one of them. Who writes such a row holds the lock for
# reading, who follows a denied digest holds it alone: neither can miss what the other has not committed yet. A task is
# inserted only where there is one: the trigger behind it wakes workers also for an empty statement. store/artifacts.py
# takes the lock of the same number.
_FUNCTIONS = (
    """
    CREATE FUNCTION digests_of(asset_id uuid, integrity jsonb) RETURNS void LANGUAGE sql AS $$
        DELETE FROM asset_digest held WHERE held.asset_id = $1 AND held.origin = 'asset' AND NOT EXISTS (
            SELECT FROM jsonb_to_recordset($2) AS file (algorithm text, digest text)
            WHERE file.algorithm = held.algorithm AND file.digest = held.digest
        );
        INSERT INTO asset_digest (asset_id, origin, algorithm, digest, place)
        SELECT $1, 'asset', file.algorithm, file.digest, min(file.path)
        FROM jsonb_to_recordset($2) AS file (path text, algorithm text, digest text)
        GROUP BY file.algorithm, file.digest
        ON CONFLICT DO NOTHING
    $$
    """,
    """
    CREATE FUNCTION asset_added() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM digests_of(asset_id, integrity) FROM added WHERE integrity <> '[]'::jsonb;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE FUNCTION asset_integrity_changed() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM digests_of(new.asset_id, new.integrity);
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE FUNCTION digest_held() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NOT EXISTS (SELECT FROM added) THEN RETURN NULL; END IF;
        PERFORM pg_advisory_xact_lock_shared(7235427961773752321);
        IF EXISTS (
            SELECT FROM added JOIN artifact_digest entry USING (algorithm, digest) WHERE entry.verdict = 'denied'
        ) THEN
            INSERT INTO task (id, kind, key, payload, run_at)
            SELECT gen_random_uuid(), 'artifact.follow', gen_random_uuid()::text,
                jsonb_build_object('algorithm', algorithm, 'digest', digest), clock_timestamp()
            FROM (
                SELECT DISTINCT algorithm, digest FROM added JOIN artifact_digest entry USING (algorithm, digest)
                WHERE entry.verdict = 'denied'
            ) AS denied;
        END IF;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE FUNCTION digest_dropped() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        DELETE FROM artifact_hit hit USING dropped
        WHERE hit.holder_id = dropped.asset_id AND hit.algorithm = dropped.algorithm AND hit.digest = dropped.digest
            AND NOT EXISTS (
                SELECT FROM asset_digest held WHERE held.asset_id = dropped.asset_id
                    AND held.algorithm = dropped.algorithm AND held.digest = dropped.digest
            );
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE FUNCTION dependency_added() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NOT EXISTS (SELECT FROM added) THEN RETURN NULL; END IF;
        PERFORM pg_advisory_xact_lock_shared(7235427961773752321);
        IF NOT EXISTS (SELECT FROM artifact_hit WHERE asset_id IN (SELECT upstream_id FROM added)) THEN
            RETURN NULL;
        END IF;
        WITH touched AS (
            SELECT algorithm, digest, asset_id FROM artifact_hit WHERE asset_id IN (SELECT upstream_id FROM added)
            ORDER BY algorithm, digest, asset_id FOR UPDATE
        ), open_again AS (
            UPDATE artifact_hit SET followed = false FROM touched
            WHERE (artifact_hit.algorithm, artifact_hit.digest, artifact_hit.asset_id)
                = (touched.algorithm, touched.digest, touched.asset_id)
        )
        INSERT INTO task (id, kind, key, payload, run_at)
        SELECT gen_random_uuid(), 'artifact.follow', gen_random_uuid()::text,
            jsonb_build_object('algorithm', algorithm, 'digest', digest), clock_timestamp()
        FROM (SELECT DISTINCT algorithm, digest FROM touched) AS denied;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE TRIGGER asset_added AFTER INSERT ON asset REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION asset_added()
    """,
    """
    CREATE TRIGGER asset_integrity_changed AFTER UPDATE OF integrity ON asset
    FOR EACH ROW WHEN (old.integrity IS DISTINCT FROM new.integrity) EXECUTE FUNCTION asset_integrity_changed()
    """,
    """
    CREATE TRIGGER digest_held AFTER INSERT ON asset_digest REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION digest_held()
    """,
    """
    CREATE TRIGGER digest_dropped AFTER DELETE ON asset_digest REFERENCING OLD TABLE AS dropped
    FOR EACH STATEMENT EXECUTE FUNCTION digest_dropped()
    """,
    """
    CREATE TRIGGER dependency_added AFTER INSERT ON dependency REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION dependency_added()
    """,
)


def upgrade() -> None:
    op.execute("SET LOCAL statement_timeout = 0")  # a million assets take longer than what serves may
    for statement in (*_TABLES, *_FUNCTIONS):
        op.execute(statement)
    op.execute("""
        INSERT INTO bom_document (bom_id, asset_id, number, origin, owner_team, digest, spec_version, components,
            document, parts, stored_at, stored_by)
        SELECT gen_random_uuid(), asset_id, 1, 'supplied', '', digest, spec_version, components, document, '{}',
            stored_at, stored_by
        FROM asset_bom
    """)
    op.execute("SELECT digests_of(asset_id, integrity) FROM asset WHERE integrity <> '[]'::jsonb")


def downgrade() -> None:
    """We roll forward."""
    raise NotImplementedError
