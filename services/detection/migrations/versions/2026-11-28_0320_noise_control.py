"""Profiles and fail modes of assets, suppressions, what rules did in each version, trials of rules and kept attacks."""

from alembic import op

revision = "2026_11_28_0320"
down_revision = "2026_11_28_0310"
branch_labels = None
depends_on = None

_STATEMENTS = (
    "ALTER TABLE asset_watch ADD COLUMN profile text, ADD COLUMN fail_mode text",
    "COMMENT ON COLUMN asset_watch.profile IS 'null: the installation''s default'",
    "COMMENT ON COLUMN asset_watch.fail_mode IS 'null: the installation''s default'",
    "ALTER TABLE alert ADD COLUMN judged_widely boolean",
    "COMMENT ON COLUMN alert.judged_widely IS 'whether its disposition is an organisation-wide caller''s'",
    "ALTER TABLE generation ADD COLUMN suppressions bigint NOT NULL DEFAULT 1",
    """
    ALTER TABLE rule
        ADD COLUMN on_trial boolean NOT NULL DEFAULT false,
        ADD COLUMN judged_from integer NOT NULL DEFAULT 1,
        ADD COLUMN stated_rate double precision,
        ADD COLUMN status_reason jsonb
    """,
    "COMMENT ON COLUMN rule.on_trial IS 'in shadow, or disabled out of it: it decides only after promotion'",
    "COMMENT ON COLUMN rule.judged_from IS 'first version it is judged by'",
    "COMMENT ON COLUMN rule.stated_rate IS 'false-positive rate that its promotion stated'",
    "COMMENT ON COLUMN rule.status_reason IS 'what last changed its status, with the figures that did'",
    "UPDATE rule SET on_trial = true WHERE status = 'shadow'",
    "UPDATE rule SET judged_from = version",
    """
    CREATE TABLE rule_version (
        rule_id text NOT NULL,
        version integer NOT NULL,
        since bigint NOT NULL,
        status text NOT NULL,
        directions text[] NOT NULL,
        asset_types text[] NOT NULL,
        asset_ids text[] NOT NULL,
        written_at timestamptz NOT NULL,
        PRIMARY KEY (rule_id, version)
    )
    """,
    "COMMENT ON COLUMN rule_version.since IS 'the generation of rules that it came with'",
    """
    INSERT INTO rule_version
    SELECT
        rule_id,
        version,
        (SELECT rules FROM generation),
        status,
        ARRAY(SELECT jsonb_array_elements_text(document #> '{scope,directions}')),
        ARRAY(SELECT jsonb_array_elements_text(document #> '{scope,asset_types}')),
        ARRAY(SELECT jsonb_array_elements_text(document #> '{scope,asset_ids}')),
        updated_at
    FROM rule
    """,
    """
    CREATE TABLE rule_traffic (
        generation bigint NOT NULL,
        slice bigint NOT NULL,
        directions text NOT NULL,
        asset_type text NOT NULL,
        asset_id text NOT NULL,
        benign boolean NOT NULL,
        inspected bigint NOT NULL,
        PRIMARY KEY (generation, slice, directions, asset_type, asset_id, benign)
    )
    """,
    "COMMENT ON COLUMN rule_traffic.slice IS 'hours since the epoch'",
    "COMMENT ON COLUMN rule_traffic.directions IS 'separated by commas'",
    "COMMENT ON COLUMN rule_traffic.asset_id IS 'of assets that a rule is for, else empty'",
    "CREATE INDEX rule_traffic_age ON rule_traffic (slice)",
    """
    CREATE TABLE rule_fired (
        rule_id text NOT NULL,
        version integer NOT NULL,
        slice bigint NOT NULL,
        benign boolean NOT NULL,
        fired bigint NOT NULL,
        PRIMARY KEY (rule_id, version, slice, benign)
    )
    """,
    "COMMENT ON COLUMN rule_fired.slice IS 'hours since the epoch'",
    "CREATE INDEX rule_fired_age ON rule_fired (slice)",
    """
    CREATE TABLE regression_case (
        case_id uuid PRIMARY KEY,
        rule_id text NOT NULL,
        owner_team text NOT NULL,
        alert_id uuid,
        direction text NOT NULL,
        text text NOT NULL,
        created_at timestamptz NOT NULL,
        created_by text NOT NULL,
        released_at timestamptz,
        released_by text,
        released_because text
    )
    """,
    "COMMENT ON COLUMN regression_case.text IS 'the attack, secrets and personal data masked'",
    "COMMENT ON COLUMN regression_case.released_at IS 'since when the rule need not match it any more'",
    "CREATE INDEX regression_case_by_rule ON regression_case (rule_id)",
    """
    CREATE TABLE suppression (
        suppression_id uuid PRIMARY KEY,
        version integer NOT NULL,
        rule_id text,
        kind text,
        category text,
        asset_id uuid,
        session_id text,
        actor text,
        digest text,
        pattern text,
        team text,
        owner_team text NOT NULL,
        owner text NOT NULL,
        reason text NOT NULL,
        created_at timestamptz NOT NULL,
        created_by text NOT NULL,
        expires_at timestamptz NOT NULL,
        ended_at timestamptz,
        ended_by text,
        hits bigint NOT NULL DEFAULT 0,
        last_hit_at timestamptz
    )
    """,
    """
    COMMENT ON COLUMN suppression.team IS
        'whose traffic it holds for; null everybody''s, empty what belongs to no team'
    """,
    "COMMENT ON COLUMN suppression.owner_team IS 'the team that answers for it'",
    "CREATE INDEX suppression_in_force ON suppression (expires_at) WHERE ended_at IS NULL",
    "CREATE INDEX suppression_by_time ON suppression (created_at, suppression_id)",
)


def upgrade() -> None:
    """Rules that stand keep their status. Replicas of the release before write no versions of rules: figures of what
    they write begin with the next change."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """We roll forward."""
    raise NotImplementedError
