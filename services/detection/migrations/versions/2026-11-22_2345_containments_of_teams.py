"""Whose traffic a containment holds for, and one in force for each target and team."""

from alembic import op

revision = "2026_11_22_2345"
down_revision = "2026_11_22_2335"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """What this release needs. Code before it enforces what stands, for everybody, and can add no containment: the
    index that it names has to go, so that one team's block does not keep another's out.

    No code before it was released. Where it runs all the same, its replicas answer POST /v1/containments with 500 ("no
    unique or exclusion constraint matching the ON CONFLICT specification") until the last of them is replaced.
    """
    op.execute("ALTER TABLE containment ADD COLUMN team text")
    op.execute(
        "COMMENT ON COLUMN containment.team IS"
        " 'whose traffic it holds for; null everybody''s, empty what belongs to no team'"
    )
    op.execute(
        """
        CREATE UNIQUE INDEX containment_in_force_for ON containment (target_kind, target, team) NULLS NOT DISTINCT
        WHERE lifted_at IS NULL
        """
    )
    op.execute("DROP INDEX containment_in_force")


def downgrade() -> None:
    """We roll forward."""
    raise NotImplementedError
