"""The metrics service put together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from services.metrics import api, events, store
from services.metrics.api.paper import Typesetter
from services.metrics.settings import MetricsSettings
from shared.commands import command_line
from shared.runtime import Runtime
from shared.service import Service


@asynccontextmanager
async def _resources(runtime: Runtime) -> AsyncIterator[None]:
    runtime.resources["typesetter"] = Typesetter(runtime.settings.pdf_seconds)
    yield


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
    resources=_resources,
)

app = command_line(SERVICE, MetricsSettings)
