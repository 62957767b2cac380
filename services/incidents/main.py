"""The incidents service, composed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from services.incidents import api, events, jobs
from services.incidents.outbound import Outbound, Reach
from services.incidents.sealing import Seal
from services.incidents.settings import IncidentsSettings
from services.incidents.store import metadata
from services.incidents.store.playbooks import built_in
from shared.commands import command_line
from shared.runtime import Runtime
from shared.service import Periodic, Service


@asynccontextmanager
async def _resources(runtime: Runtime) -> AsyncIterator[None]:
    settings: IncidentsSettings = runtime.settings
    built_in()
    events.responding.policy = settings.policy
    reach = Reach(settings.webhook_allow_loopback, settings.webhook_networks, settings.own_ports)
    outbound = Outbound(reach, timeout_seconds=settings.webhook_timeout_seconds)
    secret = settings.sealing_secret or settings.cursor_secret
    runtime.resources["outbound"] = outbound
    runtime.resources["seal"] = Seal(secret.get_secret_value())
    try:
        yield
    finally:
        await outbound.close()


SERVICE = Service(
    name="incidents",
    title="Incidents",
    description=(
        "Playbooks and the incidents that run them: alerts open or join incidents, automated steps contain, people do "
        "the rest; timeline, evidence chain and dossier; signed webhooks."
    ),
    directory=Path(__file__).parent,
    metadata=metadata,
    routers=api.ROUTERS,
    consumers=events.consumers,
    tasks=jobs.tasks,
    periodic=[
        Periodic("flag overdue steps", 5.0, jobs.flag_overdue_steps),
        Periodic("forget what is past", 3_600.0, jobs.forget_what_is_past),
    ],
    resources=_resources,
)

app = command_line(SERVICE, IncidentsSettings)
