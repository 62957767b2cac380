"""What outlives a request: copies of assets, sums of sessions, and the schema."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from uuid import UUID

import asyncpg
import sqlalchemy as sa

from services.detection import store
from services.detection.domain.rules import Metric
from services.detection.domain.sessions import Subject
from services.detection.main import SERVICE
from services.detection.store import activity_amount_table, asset_copy_table
from services.detection.tests.conftest import client_of, memory_of, second_replica
from services.detection.tests.factories import ASSET, ATTACK, an_asset_registered, an_asset_updated, an_input
from shared import migrate
from shared.contracts.inventory import DataClassification, Lifecycle
from shared.testing import Harness, TestServer

CALL = {"session_id": "agent-1", "direction": "tool_call", "tool": {"name": "search"}}


async def test_the_migrations_make_the_tables_that_the_code_has(postgres: TestServer) -> None:
    migrations = SERVICE.directory / "migrations"
    url = await postgres.database("detection", migrations)
    await migrate.check(migrations, url)
    await postgres.drop(url)


async def test_assets_are_copied_and_stale_news_is_skipped(detection: Harness) -> None:
    await detection.deliver(
        an_asset_registered(),
        an_asset_updated(version=3, data_classification=DataClassification.REGULATED, lifecycle=Lifecycle.RETIRED),
        an_asset_updated(version=2, data_classification=DataClassification.PUBLIC),
    )
    async with detection.runtime.db.read() as tx:
        watched = await store.watched(tx, ASSET)
    assert watched is not None
    assert (watched.asset.version, watched.asset.data_classification) == (3, DataClassification.REGULATED)
    assert watched.asset.authorized_tools == {"search", "send_mail"}
    assert (await detection.rebuild())["asset_copy"].identical


async def test_a_thousand_assets_come_in_one_transaction(detection: Harness) -> None:
    events = [an_asset_registered(UUID(int=number)) for number in range(1_000)]
    await detection.deliver(*events, together=True)
    async with detection.runtime.db.read() as tx:
        assert await tx.scalar(sa.select(sa.func.count()).select_from(asset_copy_table)) == 1_000


async def test_a_session_s_sums_survive_a_restart_and_are_shared(detection: Harness, replica: Any) -> None:
    client = detection.client()
    for _ in range(15):
        await client.post("/v1/inspections", json=CALL)
    await memory_of(detection).share_once()
    other = await replica()
    there = client_of(other, detection)
    verdicts = [(await there.post("/v1/inspections", json=CALL)).json()["verdict"] for _ in range(6)]
    assert verdicts == ["allow"] * 5 + ["block"]
    await other.state.runtime.resources["live"].share_once()
    await client.post("/v1/inspections", json=CALL)
    await memory_of(detection).share_once()
    rates = memory_of(detection).sessions.count(
        [Subject("session", "|agent-1")], {Metric.TOOL_CALLS_PER_MINUTE: 1.0}, time.time()
    )
    assert rates[Metric.TOOL_CALLS_PER_MINUTE, "session"] == 23


async def test_a_replica_that_stops_shares_what_it_counted(detection: Harness) -> None:
    async with second_replica(detection) as other, client_of(other, detection) as client:
        for _ in range(20):
            await client.post("/v1/inspections", json=CALL)
    verdict = (await detection.client().post("/v1/inspections", json=CALL)).json()["verdict"]
    assert verdict == "block"


async def test_old_sums_are_forgotten(detection: Harness) -> None:
    await detection.client().post("/v1/inspections", json=CALL)
    await memory_of(detection).share_once()
    async with detection.runtime.db.begin() as tx:
        await store.forget_activity(tx, time.time())
        assert await tx.scalar(sa.select(sa.func.count()).select_from(activity_amount_table)) == 1
        await store.forget_activity(tx, time.time() + 600)
        assert await tx.scalar(sa.select(sa.func.count()).select_from(activity_amount_table)) == 0


async def test_with_the_database_away_ordinary_traffic_goes_on(detection: Harness, postgres: TestServer) -> None:
    client = detection.client()
    await client.post("/v1/inspections", json=an_input(session_id="known"))
    url = detection.runtime.db.dsn
    name = url.rsplit("/", 1)[1]
    admin = await asyncpg.connect(postgres.url)
    try:
        await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        ordinary = await client.post("/v1/inspections", json=an_input(session_id="known"))
        assert (ordinary.status_code, ordinary.json()["verdict"]) == (200, "allow")
        # An alert that cannot be stored is not passed over in silence.
        attack = await client.post("/v1/inspections", json=an_input(ATTACK, session_id="known"))
        assert attack.status_code == 503
        assert "retry-after" in attack.headers
        await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        for _ in range(20):
            again = await client.post("/v1/inspections", json=an_input(ATTACK, session_id="known"))
            if again.status_code == 200:
                break
            await asyncio.sleep(0.1)
        assert again.json()["decision"] == "block"
    finally:
        await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        await admin.close()
    [alert] = (await client.get("/v1/alerts")).json()["items"]
    assert alert["count"] == 1
