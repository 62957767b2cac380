"""The metrics service put together."""

from __future__ import annotations

from pathlib import Path

from services.metrics import api, events, store
from services.metrics.settings import MetricsSettings
from shared.commands import command_line
from shared.service import Service

SERVICE = Service(
    name="metrics",
    title="Metrics",
    description=(
        "The program's numbers, its maturity and its reports, built from what the other services announce. "
        "Unknown is null, never zero."
    ),
    directory=Path(__file__).parent,
    metadata=store.metadata,
    routers=api.routers,
    consumers=events.consumers,
    publishes=False,
)

app = command_line(SERVICE, MetricsSettings)
