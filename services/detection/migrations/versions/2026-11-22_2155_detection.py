"""Rules, alerts, containments, assets with their settings, and what sessions did lately."""

from alembic import op

from shared import backbone

revision = "2026_11_22_2155"
down_revision = None
branch_labels = None
depends_on = None

_TABLES = (
    """
    CREATE TABLE rule (
        rule_id text PRIMARY KEY,
        version integer NOT NULL,
        origin text NOT NULL,
        document jsonb NOT NULL,
        digest text NOT NULL,
        kind text NOT NULL,
        category text NOT NULL,
        status text NOT NULL,
        expires_at timestamptz,
        updated_at timestamptz NOT NULL,
        updated_by text NOT NULL
    )
    """,
    "COMMENT ON COLUMN rule.digest IS 'of the shipped file it was last taken from; empty for rules of one''s own'",
    """
    CREATE TABLE containment (
        containment_id uuid PRIMARY KEY,
        version integer NOT NULL,
        target_kind text NOT NULL,
        target text NOT NULL,
        reason text NOT NULL,
        owner_team text NOT NULL,
        created_at timestamptz NOT NULL,
        created_by text NOT NULL,
        expires_at timestamptz,
        lifted_at timestamptz,
        lifted_by text
    )
    """,
    "CREATE UNIQUE INDEX containment_in_force ON containment (target_kind, target) WHERE lifted_at IS NULL",
    """
    CREATE TABLE alert (
        alert_id uuid PRIMARY KEY,
        version integer NOT NULL,
        change bigint NOT NULL,
        fold_key text NOT NULL,
        folding boolean NOT NULL,
        status text NOT NULL,
        title text NOT NULL,
        kind text NOT NULL,
        category text NOT NULL,
        severity text NOT NULL,
        verdict text NOT NULL,
        decision text NOT NULL,
        score double precision NOT NULL,
        rule_id text NOT NULL,
        rule_version integer NOT NULL,
        owasp text[] NOT NULL,
        atlas text[] NOT NULL,
        asset_id uuid,
        owner_team text NOT NULL,
        session_id text,
        actor text,
        model text,
        direction text NOT NULL,
        excerpt text NOT NULL,
        digest text NOT NULL,
        inspection_id uuid NOT NULL,
        count integer NOT NULL,
        first_seen timestamptz NOT NULL,
        last_seen timestamptz NOT NULL,
        disposition text,
        disposed_by text,
        comment text NOT NULL
    )
    """,
    "CREATE SEQUENCE alert_change OWNED BY alert.change",
    "CREATE UNIQUE INDEX alert_fold ON alert (fold_key) WHERE folding",
    "CREATE INDEX alert_by_time ON alert (first_seen, alert_id)",
    "CREATE INDEX alert_by_asset ON alert (asset_id, first_seen, alert_id)",
    "CREATE INDEX alert_by_team ON alert (owner_team, first_seen, alert_id)",
    "CREATE INDEX alert_by_session ON alert (session_id, first_seen, alert_id)",
    "CREATE INDEX alert_by_actor ON alert (actor, first_seen, alert_id)",
    "CREATE INDEX alert_by_change ON alert (change)",
    """
    CREATE TRIGGER alert_changed AFTER INSERT OR UPDATE ON alert
    FOR EACH STATEMENT EXECUTE FUNCTION notify_channel('alert')
    """,
    """
    CREATE TABLE asset_copy (
        asset_id uuid PRIMARY KEY,
        version integer NOT NULL,
        name text NOT NULL,
        owner_team text NOT NULL,
        asset_type text NOT NULL,
        data_classification text NOT NULL,
        lifecycle text NOT NULL,
        authorized_tools text NOT NULL
    )
    """,
    "COMMENT ON COLUMN asset_copy.authorized_tools IS 'a JSON array of names'",
    """
    CREATE TABLE asset_watch (
        asset_id uuid PRIMARY KEY,
        version integer NOT NULL,
        mode text NOT NULL,
        fragments jsonb NOT NULL,
        updated_at timestamptz NOT NULL,
        updated_by text NOT NULL
    )
    """,
    "COMMENT ON COLUMN asset_watch.fragments IS 'keyed word hashes of registered prompts; the prompts are not kept'",
    """
    CREATE TABLE activity_amount (
        subject_by text NOT NULL,
        subject_key text NOT NULL,
        metric text NOT NULL,
        slice bigint NOT NULL,
        amount double precision NOT NULL,
        PRIMARY KEY (subject_by, subject_key, metric, slice)
    )
    """,
    """
    CREATE TABLE activity_baseline (
        subject_by text NOT NULL,
        subject_key text NOT NULL,
        samples double precision NOT NULL,
        entropy_sum double precision NOT NULL,
        entropy_squares double precision NOT NULL,
        length_sum double precision NOT NULL,
        updated_at timestamptz NOT NULL,
        PRIMARY KEY (subject_by, subject_key)
    )
    """,
    "CREATE INDEX activity_baseline_age ON activity_baseline (updated_at)",
    # Replicas ask for this one row several times a second and reload what moved.
    """
    CREATE TABLE generation (
        singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
        rules bigint NOT NULL,
        containments bigint NOT NULL
    )
    """,
    "INSERT INTO generation VALUES (true, 1, 1)",
    """
    CREATE TRIGGER generation_moved AFTER UPDATE ON generation
    FOR EACH STATEMENT EXECUTE FUNCTION notify_channel('generation')
    """,
)


def upgrade() -> None:
    for statement in (*backbone.create_v1(), *_TABLES):
        op.execute(statement)
