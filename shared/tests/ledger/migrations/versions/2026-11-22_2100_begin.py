"""The backbone's tables and the ledger's."""

from alembic import op

from shared import backbone

revision = "0001"
down_revision = None


def upgrade() -> None:
    for statement in backbone.create_v1():
        op.execute(statement)
    op.execute("CREATE TABLE entry (id uuid PRIMARY KEY, account text NOT NULL UNIQUE, amount integer NOT NULL)")
    op.execute("CREATE TABLE balance (account text PRIMARY KEY, total bigint NOT NULL, trail text NOT NULL)")
