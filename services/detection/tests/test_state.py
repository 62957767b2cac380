"""What outlives a request: copies of assets, sums of sessions, and the schema."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import sqlalchemy as sa

from services.detection.domain.rules import Metric
from services.detection.domain.sessions import Subject
from services.detection.main import SERVICE
from services.detection.settings import DetectionSettings
from services.detection.store import activity, assets
from services.detection.store.tables import activity_amount_table, asset_copy_table
from services.detection.tests.conftest import client_of, memory_of, second_replica
from services.detection.tests.factories import ASSET, ATTACK, an_asset_registered, an_asset_updated, an_input
from shared import migrate
from shared.contracts.inventory import DataClassification, Lifecycle
from shared.testing import Harness, TestServer, eventually, harness

CALL = {"session_id": "agent-1", "direction": "tool_call", "tool": {"name": "search"}}


async def test_the_migrations_make_the_tables_that_the_code_has(postgres: TestServer) -> None:
    migrations = SERVICE.directory / "migrations"
    url = await postgres.database("detection", migrations)
    await migrate.check(migrations, url)
    await postgres.drop(url)


async def test_an_index_is_built_while_alerts_are_raised_and_again_after_a_try_that_failed(
    postgres: TestServer,
) -> None:
    migrations = SERVICE.directory / "migrations"
    url = await postgres.database("detection", migrations)
    writing, broken = await asyncpg.connect(url), await asyncpg.connect(url)
    await broken.execute("DROP INDEX alert_by_rule")
    # As a build leaves it that was interrupted.
    await broken.execute("CREATE INDEX alert_by_rule ON alert (rule_id, first_seen)")
    await broken.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'alert_by_rule'::regclass")
    await broken.execute("UPDATE alembic_version SET version_num = '2026_11_28_0400'")
    # Whoever writes to the table meanwhile is waited for, and nobody waits for the index.
    running = writing.transaction()
    await running.start()
    await writing.execute("LOCK TABLE alert IN ROW EXCLUSIVE MODE")
    building = asyncio.create_task(migrate.upgrade(migrations, url))

    async def waits() -> bool:
        return bool(
            await broken.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'virtualxid'")
        )

    await eventually(waits)
    await broken.execute("UPDATE alert SET comment = '' WHERE false")
    await running.commit()
    await building
    valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'alert_by_rule'::regclass"
    assert await broken.fetchval(valid) is True
    await migrate.check(migrations, url)
    await writing.close()
    await broken.close()
    await postgres.drop(url)


async def test_a_later_release_may_add_columns_while_this_one_runs(detection: Harness) -> None:
    await detection.deliver(an_asset_registered())
    client, memory = detection.client(), memory_of(detection)
    migrating = await detection.runtime.db.connect_alone()

    async def attack() -> None:
        body = an_input(ATTACK, session_id="s", asset_id=str(ASSET), usage={"input_tokens": 5})
        assert (await client.post("/v1/inspections", json=body)).status_code == 200

    async def share() -> None:
        await memory.share_once(everything=True)

    # Twice, so that every statement is prepared; then each is the first to meet the new columns, since the one that
    # stumbles has its connection prepare all of them anew.
    for number, step in enumerate((attack, share, attack, share, attack, share)):
        if number >= 4:
            for table in SERVICE.metadata.sorted_tables:
                await migrating.execute(f"ALTER TABLE {table.name} ADD COLUMN of_a_later_release_{number} text")
        await step()
    await migrating.close()


async def test_assets_are_copied_and_stale_news_is_skipped(detection: Harness) -> None:
    await detection.deliver(
        an_asset_registered(),
        an_asset_updated(version=3, data_classification=DataClassification.REGULATED, lifecycle=Lifecycle.RETIRED),
        an_asset_updated(version=2, data_classification=DataClassification.PUBLIC),
    )
    async with detection.runtime.db.read() as tx:
        watched = await assets.watched(tx, ASSET)
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
        [Subject("session", "@|agent-1")], {Metric.TOOL_CALLS_PER_MINUTE: 1.0}, time.time()
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
        await activity.forget(tx, time.time())
        assert await tx.scalar(sa.select(sa.func.count()).select_from(activity_amount_table)) == 1
        await activity.forget(tx, time.time() + 600)
        assert await tx.scalar(sa.select(sa.func.count()).select_from(activity_amount_table)) == 0


class Severable:
    """A way to the test server that can be cut: connections break, new ones are refused."""

    def __init__(self, server: TestServer) -> None:
        self._server = server
        self._real = ""
        self._listener: asyncio.Server | None = None
        self._port = 0
        self._open: set[asyncio.StreamWriter] = set()

    async def database(self, name: str, migrations: Path) -> str:
        self._real = await self._server.database(name, migrations)
        await self.join()
        return str(sa.make_url(self._real).set(port=self._port).render_as_string(hide_password=False))

    async def drop(self, _url: str) -> None:
        await self.cut()
        await self._server.drop(self._real)

    async def join(self) -> None:
        self._listener = await asyncio.start_server(self._pass_on, "127.0.0.1", self._port)
        self._port = self._listener.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        if self._listener is not None:
            self._listener.close()
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()
        await asyncio.sleep(0.05)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        real = sa.make_url(self._real)
        there, back = await asyncio.open_connection(real.host, real.port)
        self._open |= {writer, back}

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            with suppress(ConnectionError):
                while data := await source.read(65_536):
                    target.write(data)
                    await target.drain()
            target.close()

        await asyncio.gather(copy(reader, back), copy(there, writer))


async def test_with_the_database_away_ordinary_traffic_goes_on(postgres: TestServer) -> None:
    server = Severable(postgres)
    async with harness(SERVICE, DetectionSettings, server) as detection:  # type: ignore[arg-type]  # the same methods
        await detection.deliver(an_asset_registered())
        client = detection.client()
        known = {"session_id": "known", "asset_id": str(ASSET)}
        await client.post("/v1/inspections", json=an_input(**known))
        await server.cut()
        ordinary = await client.post("/v1/inspections", json=an_input(**known))
        assert (ordinary.status_code, ordinary.json()["verdict"]) == (200, "allow")
        stranger = await client.post("/v1/inspections", json=an_input(session_id="never seen"))
        assert stranger.status_code == 200
        # An alert that cannot be stored is not passed over in silence.
        attack = await client.post("/v1/inspections", json=an_input(ATTACK, **known))
        assert attack.status_code == 503
        assert "retry-after" in attack.headers
        await server.join()
        for _ in range(20):
            again = await client.post("/v1/inspections", json=an_input(ATTACK, **known))
            if again.status_code == 200:
                break
            await asyncio.sleep(0.1)
        assert again.json()["decision"] == "block"
        [alert] = (await client.get("/v1/alerts")).json()["items"]
        assert alert["count"] == 1
