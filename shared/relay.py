"""From outbox to stream: in order, once each.

Only this service's relay writes to its stream, and every message says which sequence it expects to follow
(Nats-Expected-Last-Sequence). So a relay that was frozen and wakes up beside its successor is refused by the server,
and after an unclear end the tail of the stream tells which rows did arrive: nothing is published twice, whatever the
server's duplicate window. Consecutive rows of one type travel as one message (a CloudEvents JSON batch), since the
server syncs to disk once a message. docs/decisions/0003-one-writer-streams.md has the figures.
"""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import nats.errors
import orjson
import sqlalchemy as sa
from nats.aio.msg import Msg
from sqlalchemy.dialects.postgresql import TIMESTAMP, insert

from shared import telemetry
from shared.backbone import metadata
from shared.bus import Bus, StreamError
from shared.contracts.envelope import decode
from shared.database import Database, driver
from shared.errors import Unavailable
from shared.outbox import outbox_table

relay_state = sa.Table(
    "relay_state",
    metadata,
    sa.Column("stream", sa.Text, primary_key=True),
    sa.Column("stream_created", TIMESTAMP(timezone=True), nullable=False),
    sa.Column("last_seq", sa.BigInteger, nullable=False),
)

ROWS_A_ROUND = 2_000
EVENTS_A_MESSAGE = 200
MESSAGE_BYTES = 256 * 1024
ACK_TIMEOUT_SECONDS = 5.0
PUBLISHED_KEPT_DAYS = 30


_CONFIRM = """
    WITH state AS (UPDATE relay_state SET last_seq = $3 WHERE stream = $2)
    UPDATE outbox SET published_at = now() WHERE seq = ANY($1::bigint[])
"""


class StreamLost(RuntimeError):
    """The stream is not the one this service wrote to: it was wiped or restored from an older copy.

    Publishing goes on only after `replay --from-outbox` has filled it again, or the events between would be missing.
    """


class _Fenced(Exception):
    """Some message was not stored where we expected it; the stream's tail has to be read."""


class Relay:
    """Publishes one service's outbox. Run one at a time a service (shared/leader.py sees to it)."""

    def __init__(self, db: Database, bus: Bus, stream: str) -> None:
        self._db = db
        self._bus = bus
        self._stream = stream
        self._last_seq: int | None = None
        self._acks: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._inbox = ""
        self._client: Any = None
        self.halted: str | None = None
        """Why nothing is published, when only a person can help."""
        self.forged: str | None = None
        """Set when the stream was found to hold events that this service did not publish."""

    async def relay_once(self) -> int:
        """Publish what waits, at most ROWS_A_ROUND rows; returns how many rows are now published.

        Raises:
            Unavailable: bus or acknowledgement missing; nothing is lost, call again.
            StreamLost: the stream went back in time.
        """
        if self._last_seq is None:
            await self._recover()
        async with self._db.read() as tx:
            waiting = (
                sa.select(outbox_table.c.seq, outbox_table.c.event_id, outbox_table.c.type, outbox_table.c.payload)
                .where(outbox_table.c.published_at.is_(None))
                .order_by(outbox_table.c.seq)
                .limit(ROWS_A_ROUND)
            )
            rows = (await tx.execute(waiting)).all()
        telemetry.OUTBOX_PENDING.labels(self._stream.lower()).set(len(rows))
        if not rows:
            return 0
        assert self._last_seq is not None
        try:
            last_seq = await self._publish(rows, self._last_seq)
        except (_Fenced, Unavailable, StreamError, nats.errors.Error, OSError, asyncio.TimeoutError) as error:
            self._last_seq = None
            raise Unavailable(f"publishing was interrupted: {error!r}") from error
        # Until it is confirmed, the stream's tail says better than we do what was published.
        self._last_seq = None
        await self._confirm([row.seq for row in rows], last_seq)
        self._last_seq = last_seq
        telemetry.EVENTS_PUBLISHED.labels(self._stream.lower()).inc(len(rows))
        return len(rows)

    async def _publish(self, rows: Sequence[Any], last_seq: int) -> int:
        client = await self._subscribed()
        expected: list[tuple[asyncio.Future[dict[str, Any]], int]] = []
        loop = asyncio.get_running_loop()
        try:
            for group in _messages(rows):
                token = str(last_seq)
                future: asyncio.Future[dict[str, Any]] = loop.create_future()
                self._acks[token] = future
                single = len(group) == 1
                await client.publish(
                    group[0].type,
                    group[0].payload if single else b"[" + b",".join(row.payload for row in group) + b"]",
                    reply=f"{self._inbox}.{token}",
                    headers={
                        "Nats-Msg-Id": str(group[0].event_id),
                        "Nats-Expected-Stream": self._stream,
                        "Nats-Expected-Last-Sequence": str(last_seq),
                        "Content-Type": f"application/cloudevents{'' if single else '-batch'}+json",
                    },
                )
                last_seq += 1
                expected.append((future, last_seq))
            # nats-py's own futures have no time limit, so an acknowledgement that is lost would be waited for for ever.
            acks = await asyncio.wait_for(asyncio.gather(*(future for future, _ in expected)), ACK_TIMEOUT_SECONDS)
            for ack, (_, seq) in zip(acks, expected, strict=True):
                if "error" in ack or ack.get("duplicate") or ack.get("seq") != seq:
                    raise _Fenced(f"expected sequence {seq}, got {ack}")
            return last_seq
        finally:
            for future, _ in expected:
                future.cancel()
            self._acks.clear()

    async def _subscribed(self) -> Any:
        client = self._bus.client
        if client is not self._client:
            self._client = client
            self._inbox = client.new_inbox()

            async def on_ack(message: Msg) -> None:
                future = self._acks.get(message.subject.rsplit(".", 1)[1])
                if future is not None and not future.done():
                    future.set_result(orjson.loads(message.data) if message.data else {"error": "no responders"})

            await client.subscribe(f"{self._inbox}.*", cb=on_ack)
        return client

    async def _confirm(self, seqs: list[int], last_seq: int) -> None:
        async with self._db.statement() as tx:
            connection = await driver(tx)
            await connection.execute(_CONFIRM, seqs, self._stream, last_seq)

    async def _recover(self) -> None:
        """Learn from the stream which rows arrived since the last confirmed message."""
        info = await self._bus.jetstream(f"STREAM.INFO.{self._stream}")
        created = datetime.fromisoformat(info["created"])
        stream_last = int(info["state"]["last_seq"])
        async with self._db.begin() as tx:
            await tx.execute(
                insert(relay_state)
                .values(stream=self._stream, stream_created=created, last_seq=stream_last)
                .on_conflict_do_nothing()
            )
            state = (await tx.execute(sa.select(relay_state).filter_by(stream=self._stream))).one()
        if abs((state.stream_created - created).total_seconds()) > 0.001 or stream_last < state.last_seq:
            self.halted = f"stream {self._stream} was wiped or restored; run `replay --from-outbox`"
            raise StreamLost(self.halted)
        arrived: list[UUID] = []
        for seq in range(state.last_seq + 1, stream_last + 1):
            message = await self._bus.jetstream(f"STREAM.MSG.GET.{self._stream}", {"seq": seq})
            arrived += [event.id for event in decode(b64decode(message["message"]["data"]))]
        async with self._db.begin() as tx:
            if arrived:
                mine = sa.select(outbox_table.c.event_id).where(outbox_table.c.event_id.in_(arrived))
                foreign = set(arrived) - set(await tx.scalars(mine))
                if foreign:
                    # The server lets only us publish here; somebody found a way round it.
                    self.forged = f"stream {self._stream} holds {len(foreign)} events that are not ours"
                    telemetry.logger().error("foreign_events", stream=self._stream, events=[str(e) for e in foreign])
                mark = outbox_table.update().where(outbox_table.c.event_id.in_(arrived))
                await tx.execute(mark.where(outbox_table.c.published_at.is_(None)).values(published_at=sa.func.now()))
            await tx.execute(relay_state.update().filter_by(stream=self._stream).values(last_seq=stream_last))
        self.halted = None
        self._last_seq = stream_last

    async def adopt_stream(self) -> int:
        """Take the stream as it is now as ours and publish every kept row again: after it was wiped.

        Returns how many rows will be published. Consumers notice the new stream and are reset with `replay`.
        """
        info = await self._bus.jetstream(f"STREAM.INFO.{self._stream}")
        async with self._db.begin() as tx:
            await tx.execute(relay_state.delete().filter_by(stream=self._stream))
            await tx.execute(
                relay_state.insert().values(
                    stream=self._stream,
                    stream_created=datetime.fromisoformat(info["created"]),
                    last_seq=int(info["state"]["last_seq"]),
                )
            )
            again = await tx.execute(outbox_table.update().values(published_at=None))
        self._last_seq = None
        self.halted = None
        return again.rowcount

    async def prune(self) -> None:
        """Drop rows published more than PUBLISHED_KEPT_DAYS ago; the stream keeps the events.

        By sequence from the oldest on, some at a time: a look that finds nothing old reads a handful of rows.
        """
        age = sa.func.now() - sa.text(f"interval '{PUBLISHED_KEPT_DAYS} days'")
        oldest = sa.select(outbox_table.c.seq, outbox_table.c.published_at).order_by(outbox_table.c.seq).limit(5_000)
        page = oldest.subquery()
        while True:
            async with self._db.begin() as tx:
                old = sa.select(page.c.seq).where(page.c.published_at < age)
                gone = await tx.execute(outbox_table.delete().where(outbox_table.c.seq.in_(old)))
            if gone.rowcount < 5_000:
                return


def _messages(rows: Sequence[Any]) -> Iterator[list[Any]]:
    """Consecutive rows of one type, as many as one message may hold."""
    group: list[Any] = []
    size = 0
    for row in rows:
        full = len(group) >= EVENTS_A_MESSAGE or size + len(row.payload) > MESSAGE_BYTES
        if group and (full or row.type != group[0].type):
            yield group
            group, size = [], 0
        group.append(row)
        size += len(row.payload)
    if group:
        yield group
