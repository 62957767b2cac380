"""Whose incident made an emergency rule, so that each team has its own number of them in an hour."""

from alembic import op

revision = "2026_11_23_0150"
down_revision = "2026_11_22_2345"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """What this release needs; works with the code before and after it.

    The index on claimed_at still serves: an hour has few rules, of however many teams.
    """
    op.execute("ALTER TABLE emergency_rule ADD COLUMN owner_team text NOT NULL DEFAULT ''")


def downgrade() -> None:
    """We roll forward."""
    raise NotImplementedError
