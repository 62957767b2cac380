"""Whose request an alert came in."""

from alembic import op

revision = "2026_11_22_2335"
down_revision = "2026_11_22_2155"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """What this release needs; works with the code before and after it."""
    op.execute("ALTER TABLE alert ADD COLUMN reported_by text NOT NULL DEFAULT ''")


def downgrade() -> None:
    """We roll forward."""
    raise NotImplementedError
