"""Which subject named which session, so that a session is revoked for those alone who did."""

from alembic import op

revision = "2026_11_22_2345"
down_revision = "2026_11_22_2215"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """What this release needs; works with the code before and after it."""
    op.execute("ALTER TABLE incident ADD COLUMN reports jsonb NOT NULL DEFAULT '[]'")


def downgrade() -> None:
    """We roll forward."""
    raise NotImplementedError
