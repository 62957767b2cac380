"""The risk service, composed."""

from __future__ import annotations

from pathlib import Path

from services.risk import api, events, jobs, store
from services.risk.settings import RiskSettings
from shared.commands import command_line
from shared.service import Periodic, Service

SERVICE = Service(
    name="risk",
    title="Risk",
    description="Assesses every AI asset, again whenever something it depends on changes, and says why.",
    directory=Path(__file__).parent,
    metadata=store.metadata,
    routers=api.ROUTERS,
    consumers=events.consumers,
    periodic=[
        # Looks at one row; often, because somebody may be watching the progress of the model they just changed.
        Periodic("score the portfolio again", 0.5, jobs.rescore_portfolio),
        # Age counts in hours; this often only so that new dependents of an asset under attack show soon.
        Periodic("look at active assets", 300.0, jobs.look_at_active_assets),
        Periodic("look at stale reviews", 300.0, jobs.look_at_stale_reviews),
    ],
)
app = command_line(SERVICE, RiskSettings)
