"""${message}"""

from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    """What this release needs; works with the code before and after it."""
    ${upgrades if upgrades else "raise NotImplementedError"}


def downgrade() -> None:
    """We roll forward."""
    raise NotImplementedError
