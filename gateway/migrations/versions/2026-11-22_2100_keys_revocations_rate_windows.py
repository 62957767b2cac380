"""Keys, revocations and rate windows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from shared import backbone

revision = "gateway_0001"
down_revision = None
branch_labels = None
depends_on = None

_TIME = postgresql.TIMESTAMP(timezone=True)
_TEXTS = postgresql.ARRAY(sa.Text)


def upgrade() -> None:
    for statement in backbone.create_v1():
        op.execute(statement)
    op.create_table(
        "access_state",
        sa.Column("singleton", sa.Boolean, sa.CheckConstraint("singleton"), primary_key=True, server_default=sa.true()),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    op.execute("INSERT INTO access_state (version) VALUES (0)")
    op.create_table(
        "api_key",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("digest", postgresql.BYTEA, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("roles", _TEXTS, nullable=False),
        sa.Column("scopes", _TEXTS),
        sa.Column("teams", _TEXTS),
        sa.Column("quota", sa.Integer),
        sa.Column("window_seconds", sa.Integer),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("expires_at", _TIME),
        sa.Column("revoked_at", _TIME),
        sa.Column("rotated_from", sa.Text),
        sa.Column("last_used_at", _TIME),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    op.create_index("api_key_version", "api_key", ["version"])
    op.create_index("api_key_page", "api_key", ["created_at", "id"])
    op.create_table(
        "revocation",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("expires_at", _TIME),
        sa.Column("lifted_at", _TIME),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    op.create_index("revocation_version", "revocation", ["version"])
    op.create_index("revocation_page", "revocation", ["created_at", "id"])
    op.create_index(
        "revocation_in_force",
        "revocation",
        ["kind", "value"],
        unique=True,
        postgresql_where=sa.text("lifted_at IS NULL"),
    )
    op.create_table(
        "rate_window",
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("window_seconds", sa.Integer, nullable=False),
        sa.Column("quota", sa.BigInteger, nullable=False),
        sa.Column("used", sa.BigInteger, nullable=False),
        sa.Column("granted", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    raise NotImplementedError("we roll forward")
