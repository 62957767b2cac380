"""A revoked session may be refused to one subject alone."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "gateway_0002"
down_revision = "gateway_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("revocation", sa.Column("subject", sa.Text))
    op.create_index(
        "revocation_in_force_for",
        "revocation",
        ["kind", "value", "subject"],
        unique=True,
        postgresql_where=sa.text("lifted_at IS NULL"),
        postgresql_nulls_not_distinct=True,
    )
    # It would refuse the second subject's; whoever still runs the code before keeps to one by its lock (next_version).
    op.drop_index("revocation_in_force", "revocation")


def downgrade() -> None:
    raise NotImplementedError("we roll forward")
