"""Delivery on a real NATS and a real PostgreSQL: nothing lost, doubled or out of order."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from deploy.local.nats import Nats
from shared import outbox
from shared.consumer import Consumers, StreamReset, cursor_table
from shared.errors import Unavailable
from shared.outbox import outbox_table
from shared.relay import Relay, StreamLost, relay_state
from shared.testing import Harness, TestServer, eventually, harness
from shared.tests.ledger.service import LEDGER, EntryAdded, LedgerSettings, balance_table, consumers


@pytest.fixture
async def ledger(postgres: TestServer, nats_server: Nats) -> AsyncIterator[Harness]:
    """The ledger connected to NATS, its consumer placed at the stream's present end."""
    connection = {"nats_url": nats_server.url, "nats_seed_file": nats_server.seed_file("metrics")}
    async with harness(LEDGER, LedgerSettings, postgres, **connection) as made:
        await made.runtime.bus.open()
        info = await made.runtime.bus.jetstream("STREAM.INFO.METRICS")
        created = datetime.fromisoformat(info["created"])
        end = info["state"]["last_seq"]
        async with made.runtime.db.begin() as tx:
            cursor = {"consumer": "metrics", "stream": "METRICS", "stream_created": created, "seq": end}
            await tx.execute(cursor_table.insert().values(**cursor))
        yield made


async def announce(ledger: Harness, *amounts: int, account: str = "a") -> None:
    async with ledger.runtime.db.begin() as tx:
        events = [EntryAdded(version=1, occurred_at=datetime.now(UTC), account=account, amount=n) for n in amounts]
        await outbox.add(tx, *events)


async def trail(ledger: Harness) -> str:
    async with ledger.runtime.db.read() as tx:
        return str(await tx.scalar(sa.select(balance_table.c.trail).filter_by(account="a")) or "")


async def stored(ledger: Harness) -> int:
    return int((await ledger.runtime.bus.jetstream("STREAM.INFO.METRICS"))["state"]["last_seq"])


def relay_of(ledger: Harness) -> Relay:
    assert ledger.runtime.relay is not None
    return ledger.runtime.relay


async def test_events_arrive_in_order_and_a_storm_travels_in_batches(ledger: Harness) -> None:
    before = await stored(ledger)
    await announce(ledger, *range(1000))
    assert await relay_of(ledger).relay_once() == 1000
    assert await stored(ledger) == before + 5
    running = asyncio.create_task(consumers.run(ledger.runtime.db, ledger.runtime.bus))
    expected = "".join(f"+{n}" for n in range(1000))

    async def arrived() -> bool:
        return await trail(ledger) == expected

    await eventually(arrived)
    await announce(ledger, 7)
    await relay_of(ledger).relay_once()
    expected += "+7"
    await eventually(arrived)
    running.cancel()


async def test_a_relay_killed_before_it_confirmed_publishes_nothing_twice(ledger: Harness) -> None:
    await announce(ledger, 1, 2, 3)
    await relay_of(ledger).relay_once()
    after = await stored(ledger)
    async with ledger.runtime.db.begin() as tx:
        # What a kill between acknowledgement and confirmation leaves behind.
        await tx.execute(outbox_table.update().values(published_at=None))
        await tx.execute(relay_state.update().values(last_seq=after - 1))
    successor = Relay(ledger.runtime.db, ledger.runtime.bus, "METRICS")
    assert await successor.relay_once() == 0
    assert await stored(ledger) == after


async def test_a_frozen_relay_that_wakes_up_is_refused_by_the_stream(ledger: Harness) -> None:
    await announce(ledger, 1)
    zombie = relay_of(ledger)
    await zombie.relay_once()
    successor = Relay(ledger.runtime.db, ledger.runtime.bus, "METRICS")
    await announce(ledger, 2)
    await successor.relay_once()
    after = await stored(ledger)
    async with ledger.runtime.db.begin() as tx:
        # The zombie read this row before it froze.
        await tx.execute(outbox_table.update().values(published_at=None))
    with pytest.raises(Unavailable):
        await zombie.relay_once()
    assert await stored(ledger) == after


async def test_a_row_that_commits_late_is_not_skipped(ledger: Harness) -> None:
    async with ledger.runtime.db.begin() as slow:
        event = EntryAdded(version=1, occurred_at=datetime.now(UTC), account="slow", amount=1)
        await outbox.add(slow, event)
        await announce(ledger, 1, 2, 3)
        assert await relay_of(ledger).relay_once() == 3
    assert await relay_of(ledger).relay_once() == 1


async def test_a_wiped_stream_halts_both_ends_instead_of_losing_events(ledger: Harness) -> None:
    await announce(ledger, 1)
    await relay_of(ledger).relay_once()
    async with ledger.runtime.db.begin() as tx:
        later = {"last_seq": relay_state.c.last_seq + 1000}
        await tx.execute(relay_state.update().values(**later))
        await tx.execute(cursor_table.update().values(seq=cursor_table.c.seq + 1000))
    with pytest.raises(StreamLost):
        await Relay(ledger.runtime.db, ledger.runtime.bus, "METRICS").relay_once()
    with pytest.raises(StreamReset):
        await consumers.run(ledger.runtime.db, ledger.runtime.bus)
    assert "replay" in str(consumers.halted)
    consumers.halted = None


async def test_a_service_cannot_publish_what_another_owns(ledger: Harness) -> None:
    await ledger.runtime.bus.client.publish("ev.inventory.asset.registered.v1", b"{}")
    await ledger.runtime.bus.client.flush()

    async def denied() -> bool:
        return ledger.runtime.bus.denied is not None

    await eventually(denied)
    ledger.runtime.bus.denied = None


async def test_a_consumer_reads_only_the_types_it_asked_for() -> None:
    picky = Consumers("picky")
    picky.on(EntryAdded)(lambda tx, batch: asyncio.sleep(0))
    assert picky.subjects == {"METRICS": [EntryAdded.TYPE]}
