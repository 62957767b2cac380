"""The detection service, composed."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import sqlalchemy as sa
import typer

from services.detection import api, events, pack
from services.detection.application import containments, rules, suppressions
from services.detection.application.live import Live
from services.detection.application.sessions import Observations, SessionStates
from services.detection.application.tracking import Tracking
from services.detection.application.trials import Trials
from services.detection.domain.assets import Handling
from services.detection.publisher import Publisher
from services.detection.settings import DetectionSettings
from services.detection.store import activity, metadata, stream, tally, usage
from services.detection.stream.worker import StreamWorker
from shared import telemetry
from shared.commands import command_line, serve
from shared.database import is_outage
from shared.runtime import Runtime
from shared.service import Periodic, Service, create_app, running, runtime_of

RETRY_SECONDS = 1.0


@asynccontextmanager
async def live(runtime: Runtime) -> AsyncIterator[None]:
    """The replica's memory, filled; waits for the database as long as it takes."""
    settings: DetectionSettings = runtime.settings
    key = hmac.digest(settings.cursor_secret.get_secret_value().encode(), b"content digests", "sha256")
    publisher = Publisher(runtime.bus)
    tracking = Tracking(settings.remembered_subjects)
    memory = Live(
        runtime.db,
        key,
        tracking=tracking,
        states=SessionStates(runtime.db, tracking, settings.tracked_sessions),
        observations=Observations(publisher),
        assets=settings.remembered_assets,
        subjects=settings.remembered_subjects,
        folding=timedelta(minutes=settings.folding_minutes),
        asset_wait=timedelta(seconds=settings.asset_wait_seconds),
        handling=Handling(profile=settings.default_profile, fail_mode=settings.default_fail_mode),
        deadline=timedelta(seconds=settings.deadline_seconds),
    )
    runtime.resources["live"] = memory
    trials = runtime.resources["trials"] = Trials()
    runtime.resources["publisher"] = publisher
    runtime.resources["worker"] = StreamWorker(runtime, memory, publisher)
    compiling = asyncio.create_task(asyncio.to_thread(pack.compiled))
    while True:
        try:
            await bring_in_pack(runtime)
            await compiling
            await memory.load()
            break
        except Exception as error:
            if not is_outage(error):
                raise
            telemetry.logger().warning("waiting", duty="load rules", error=repr(error))
            await asyncio.sleep(RETRY_SECONDS)
    yield
    try:
        await memory.share_once(everything=True)
        await memory.write_down_tally()
    except Exception as error:
        # What was counted in the last second is all that it costs.
        telemetry.logger().warning("activity_not_shared", error=repr(error))
    memory.close()
    trials.close()


async def bring_in_pack(runtime: Runtime, *, older: bool = False) -> int:
    """`take_over_pack`, one process at a time."""
    async with runtime.db.begin() as tx:
        await tx.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext("detection pack"))))
        return await rules.take_over_pack(tx, datetime.now(UTC), older=older)


async def follow(runtime: Runtime) -> None:
    memory: Live = runtime.resources["live"]
    await memory.follow(runtime)


async def share(runtime: Runtime) -> None:
    memory: Live = runtime.resources["live"]
    await memory.share(runtime)


async def hear(runtime: Runtime) -> None:
    memory: Live = runtime.resources["live"]
    await memory.hear_alerts(runtime)


async def work_stream(runtime: Runtime) -> None:
    worker: StreamWorker = runtime.resources["worker"]
    if not runtime.settings.stream_worker:
        await runtime.stopping.wait()
        return
    await worker.run()


async def tell_owners(runtime: Runtime) -> None:
    memory: Live = runtime.resources["live"]
    await memory.observations.run()


async def expire(runtime: Runtime) -> None:
    now = datetime.now(UTC)
    # A transaction each: one for all would hold the generations' row while it waits for a rule that is being changed.
    for what in (containments, rules, suppressions):
        async with runtime.db.begin() as tx:
            await what.expire(tx, now)


async def forget(runtime: Runtime) -> None:
    async with runtime.db.begin() as tx:
        await activity.forget(tx, time.time())
        await usage.forget(tx, time.time())
        await stream.forget(tx)
        await tally.forget(tx, time.time())


SERVICE = Service(
    name="detection",
    title="Detection",
    description="Inspects what passes between people, models and tools, and raises alerts.",
    directory=Path(__file__).parent,
    metadata=metadata,
    routers=api.ROUTERS,
    consumers=events.consumers,
    channels=["generation", "alert"],
    resources=live,
    background={
        "follow rules and containments": follow,
        "share activity": share,
        "hear alerts": hear,
        "work the telemetry stream": work_stream,
        "tell owners of sessions": tell_owners,
    },
    periodic=[
        Periodic("end what expired", 1.0, expire),
        Periodic("forget old activity", 60.0, forget),
    ],
)
WORKER = replace(
    SERVICE,
    description="Works the telemetry stream.",
    routers=(),
    consumers=None,
    publishes=False,
    leads=False,
    uses_bus=True,
    periodic=(),
    background={
        "follow rules and containments": follow,
        "share activity": share,
        "work the telemetry stream": work_stream,
    },
)
"""A process that only works the stream: more of them, more throughput. It answers for its health and its metrics."""
app = command_line(SERVICE, DetectionSettings)


@app.command("worker")
def worker_command(
    port: Annotated[int, typer.Option(help="Where it answers for its health and its metrics; 0 is any.")] = 0,
) -> None:
    """Only work the telemetry stream; as many processes as there is to do."""
    settings = DetectionSettings().model_copy(update={"stream_worker": True, "bind_port": port})
    serve(create_app(WORKER, settings), settings)


@app.command("take-over-pack")
def take_over_pack_command() -> None:
    """Put this release's rules in force, also over those of a later one: after going back to it."""

    async def work() -> int:
        runtime = runtime_of(SERVICE, DetectionSettings(), statement_seconds=None)
        async with running(SERVICE, runtime, background=False, resources=False):
            return await bring_in_pack(runtime, older=True)

    typer.echo(f"{asyncio.run(work())} rules written; revision {pack.revision()} is in force")


@app.command("revise-pack")
def revise_pack_command() -> None:
    """Raise the pack's revision after a change of its rules; once for each release that changes some."""
    typer.echo(f"the pack's revision is {pack.revise()}")
