"""What assets and actors use and usually do, budgets, and canaries."""

from alembic import op

revision = "2026_11_28_0350"
down_revision = "2026_11_28_0320"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    CREATE TABLE usage_amount (
        subject_by text NOT NULL,
        subject_key text NOT NULL,
        span text NOT NULL,
        slot bigint NOT NULL,
        tokens float8 NOT NULL,
        cost_usd float8 NOT NULL,
        requests float8 NOT NULL,
        flagged float8 NOT NULL,
        alerted float8 NOT NULL DEFAULT 0,
        PRIMARY KEY (subject_by, subject_key, span, slot)
    )
    """,
    "COMMENT ON COLUMN usage_amount.slot IS 'hours or days since the epoch, as span says'",
    "COMMENT ON COLUMN usage_amount.flagged IS 'requests that detectors flagged'",
    "COMMENT ON COLUMN usage_amount.alerted IS 'score of the alert that the hour raised'",
    "CREATE INDEX usage_amount_age ON usage_amount (span, subject_by, slot)",
    """
    CREATE TABLE learned_profile (
        kind text NOT NULL,
        subject_key text NOT NULL,
        state bytea NOT NULL,
        updated_at timestamptz NOT NULL,
        PRIMARY KEY (kind, subject_key)
    )
    """,
    "COMMENT ON COLUMN learned_profile.state IS 'what trackers keep, in a form of theirs'",
    "CREATE INDEX learned_profile_age ON learned_profile (updated_at)",
    """
    CREATE TABLE asset_budget (
        asset_id uuid PRIMARY KEY,
        version integer NOT NULL,
        budgets jsonb NOT NULL,
        updated_at timestamptz NOT NULL,
        updated_by text NOT NULL
    )
    """,
    """
    CREATE TABLE budget_crossing (
        asset_id uuid NOT NULL,
        period text NOT NULL,
        amount text NOT NULL,
        starts bigint NOT NULL,
        percent float8 NOT NULL,
        at timestamptz NOT NULL,
        PRIMARY KEY (asset_id, period, amount, starts, percent)
    )
    """,
    "COMMENT ON COLUMN budget_crossing.starts IS 'first hour of the period, since the epoch'",
    """
    CREATE TABLE asset_canary (
        asset_id uuid PRIMARY KEY,
        version integer NOT NULL,
        canaries integer NOT NULL,
        marks jsonb NOT NULL,
        updated_at timestamptz NOT NULL,
        updated_by text NOT NULL
    )
    """,
    "COMMENT ON COLUMN asset_canary.marks IS 'lengths and keyed hashes; the canaries are not kept'",
)


def upgrade() -> None:
    """What this release needs; the code before it does not know of it."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """We roll forward."""
    raise NotImplementedError
