"""Which pack of rules was brought in last, so that an older one does not take its place."""

from alembic import op

revision = "2026_11_28_0400"
down_revision = "2026_11_28_0350"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A pack of the release before has no revision: its replicas bring it in as they did."""
    op.execute("ALTER TABLE generation ADD COLUMN pack bigint NOT NULL DEFAULT 0")
    op.execute("COMMENT ON COLUMN generation.pack IS 'revision of the newest pack of rules that was brought in'")


def downgrade() -> None:
    """We roll forward."""
    raise NotImplementedError
