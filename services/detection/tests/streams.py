"""Detection on a real NATS, with workers of the stream in this process or as processes of their own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import sqlalchemy as sa
from fastapi import FastAPI
from nats.js import JetStreamContext

from deploy.local.nats import ADMIN, Nats, create_streams
from services.detection.main import SERVICE
from services.detection.settings import DetectionSettings
from services.detection.store.tables import alert_table, session_state_table
from services.detection.stream.worker import StreamWorker
from services.detection.tests.conftest import second_replica
from services.detection.wire import IN_STREAM, STREAM
from shared.leader import end
from shared.testing import Harness, TestServer, eventually, harness


@asynccontextmanager
async def on_a_stream(postgres: TestServer, nats_server: Nats, **settings: Any) -> AsyncIterator[Harness]:
    """Detection connected to NATS, with an empty stream of telemetry; nobody reads it yet."""
    connection = {"nats_url": nats_server.url, "nats_seed_file": nats_server.seed_file("detection")}
    async with harness(SERVICE, DetectionSettings, postgres, **(connection | settings)) as made:
        await made.runtime.bus.open()
        for stream in (IN_STREAM, STREAM):
            await made.runtime.bus.jetstream(f"STREAM.PURGE.{stream}", {})
        yield made


@asynccontextmanager
async def another(detection: Harness) -> AsyncIterator[FastAPI]:
    """A second replica on the same database and stream, with a memory and a worker of its own."""
    async with second_replica(detection) as app:
        await app.state.runtime.bus.open()
        yield app


@asynccontextmanager
async def working(detection: Harness | FastAPI) -> AsyncIterator[StreamWorker]:
    """The worker of a replica in this process, for the length of the block."""
    runtime = detection.runtime if isinstance(detection, Harness) else detection.state.runtime
    worker: StreamWorker = runtime.resources["worker"]
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        await end(task)


async def handled(detection: Harness, timeout_seconds: float = 60.0) -> None:
    """Until all that was published so far has been handled: it leaves the streams then."""

    async def empty() -> bool:
        # In this order: a message is in the second before it leaves the first.
        return not await waiting(detection, IN_STREAM) and not await waiting(detection, STREAM)

    await eventually(empty, timeout_seconds)


@asynccontextmanager
async def administration(nats_server: Nats) -> AsyncIterator[JetStreamContext]:
    """The streams' administrator; afterwards all of them are as they were."""
    seed_file = nats_server.seed_file(ADMIN)
    connection = await nats.connect(nats_server.url, nkeys_seed=str(seed_file))
    try:
        yield connection.jetstream()
    finally:
        await connection.close()
        await create_streams(nats_server.url, seed_file)


async def waiting(detection: Harness, stream: str) -> int:
    """How many messages a stream holds."""
    return int((await detection.runtime.bus.jetstream(f"STREAM.INFO.{stream}"))["state"]["messages"])


async def alerts(detection: Harness, **filters: Any) -> list[Any]:
    async with detection.runtime.db.read() as tx:
        return list(
            (await tx.execute(sa.select(alert_table).filter_by(**filters).order_by(alert_table.c.first_seen))).all()
        )


async def interactions(detection: Harness) -> dict[str, int]:
    """Session -> how many of its interactions were taken in."""
    async with detection.runtime.db.read() as tx:
        rows = await tx.execute(sa.select(session_state_table.c.session_key, session_state_table.c.interactions))
        return {row.session_key.rpartition("|")[2]: row.interactions for row in rows}


class WorkerProcess:
    """`python -m services.detection worker` on the harness's database and NATS."""

    def __init__(self, detection: Harness, log: Path) -> None:
        settings = detection.runtime.settings
        environment = {
            **os.environ,
            "DETECTION_DATABASE_URL": settings.database_url.get_secret_value(),
            "DETECTION_NATS_URL": settings.nats_url,
            "DETECTION_NATS_SEED_FILE": str(settings.nats_seed_file),
            "DETECTION_TRUST_FILE": str(settings.trust_file),
            "DETECTION_CURSOR_SECRET": settings.cursor_secret.get_secret_value(),
        }
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.detection", "worker"], env=environment, stdout=output, stderr=output
            )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
