"""Telemetry of applications: positions in its stream, what was handled lately, sessions' states; traces of alerts."""

from alembic import op

revision = "2026_11_28_0310"
down_revision = "2026_11_22_2345"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """What this release needs; works with the code before and after it."""
    op.execute("ALTER TABLE alert ADD COLUMN trace_id text")
    op.execute("CREATE INDEX asset_copy_name ON asset_copy (name)")
    op.execute(
        """
        CREATE TABLE stream_cursor (
            unit smallint PRIMARY KEY,
            stream_created timestamptz NOT NULL,
            seq bigint NOT NULL
        )
        """
    )
    op.execute(
        """
        CREATE TABLE stream_seen (
            unit smallint NOT NULL,
            chunk bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
            keys bytea NOT NULL,
            at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (unit, chunk)
        )
        """
    )
    op.execute("CREATE INDEX stream_seen_age ON stream_seen (at)")
    op.execute(
        """
        CREATE TABLE session_state (
            unit smallint NOT NULL,
            session_key text NOT NULL,
            interactions bigint NOT NULL,
            seen bytea NOT NULL,
            state bytea NOT NULL,
            updated_at timestamptz NOT NULL,
            PRIMARY KEY (unit, session_key)
        )
        """
    )
    op.execute("COMMENT ON COLUMN stream_seen.keys IS 'of what was handled in one transaction, eight bytes each'")
    op.execute("COMMENT ON COLUMN session_state.seen IS 'digests of the last messages, eight bytes each'")
    op.execute("COMMENT ON COLUMN session_state.state IS 'what trackers keep, in a form of theirs'")
    op.execute("CREATE INDEX session_state_age ON session_state (updated_at)")


def downgrade() -> None:
    """We roll forward."""
    raise NotImplementedError
