"""The governance service, composed."""

from __future__ import annotations

from pathlib import Path

from services.governance import api, events, jobs
from services.governance.settings import GovernanceSettings
from services.governance.store.schema import metadata
from shared.commands import command_line
from shared.service import Periodic, Service

SERVICE = Service(
    name="governance",
    title="Governance",
    description=(
        "Who may accept what: policies, roles, risk appetite, acceptances and board decisions; the control library and "
        "what of it is in place; red teaming; reviews that are owed."
    ),
    directory=Path(__file__).parent,
    metadata=metadata,
    routers=api.ROUTERS,
    consumers=events.consumers,
    periodic=[
        Periodic("offer shipped policies", 3_600.0, jobs.offer_shipped_policies),
        Periodic("expire acceptances", 2.0, jobs.expire_acceptances),
        # Evidence is good until the end of a day.
        Periodic("degrade stale controls", 60.0, jobs.degrade_stale_controls),
        Periodic("owe reviews of assets", 10.0, jobs.ReviewSearch()),
    ],
)

app = command_line(SERVICE, GovernanceSettings)
