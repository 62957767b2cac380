"""The inventory as a process."""

from __future__ import annotations

from pathlib import Path

from services.inventory import api, events, jobs
from services.inventory.cli import add_discovery
from services.inventory.settings import InventorySettings
from services.inventory.store.schema import metadata
from shared.commands import command_line
from shared.service import Periodic, Service

SERVICE = Service(
    name="inventory",
    title="Inventory",
    description="Every AI asset of the organisation, what it depends on, and what is missing about it.",
    directory=Path(__file__).parent,
    metadata=metadata,
    routers=api.routers,
    consumers=events.consumers,
    tasks=jobs.tasks,
    periodic=[
        Periodic("scheduled discovery", 5.0, jobs.start_scheduled_runs),
        Periodic("take expired digests off the list", 5.0, jobs.end_expired_digests),
        Periodic("judge bills of materials", 1.0, jobs.judge_boms),
        Periodic("judge bills of materials that came late", 60.0, jobs.judge_late_boms),
    ],
)
app = command_line(SERVICE, InventorySettings)
add_discovery(app)
