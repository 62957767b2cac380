"""An index of alerts by rule, for its record; on a table of any size, so while it is in use."""

from shared.migrate import build_index

revision = "2026_11_28_0410"
down_revision = "2026_11_28_0400"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Databases that made it with an earlier revision have it already."""
    build_index("alert_by_rule", "alert (rule_id, first_seen)")


def downgrade() -> None:
    """We roll forward."""
    raise NotImplementedError
