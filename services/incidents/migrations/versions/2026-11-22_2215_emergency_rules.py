"""Which emergency rules are in force, so that one attack makes one rule however many incidents it opens."""

from alembic import op

revision = "2026_11_22_2215"
down_revision = "2026_11_22_2130"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """What this release needs; works with the code before and after it."""
    op.execute(
        """
        CREATE TABLE emergency_rule (
            fingerprint text PRIMARY KEY,
            generation integer NOT NULL,
            incident_id uuid NOT NULL,
            claimed_at timestamptz NOT NULL,
            expires_at timestamptz NOT NULL,
            in_force_at timestamptz
        )
        """
    )
    op.execute("CREATE INDEX emergency_rule_claimed ON emergency_rule (claimed_at)")


def downgrade() -> None:
    """We roll forward."""
    raise NotImplementedError
