"""Events leave a service through its outbox: written in the transaction of their cause, published by the relay.

Nothing else publishes. See docs/decisions/0003-one-writer-streams.md for why the stream holds each event exactly once.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from uuid import UUID

import sqlalchemy as sa
import uuid_utils.compat as uuid_utils
from sqlalchemy.dialects.postgresql import BYTEA, TIMESTAMP

from shared import telemetry
from shared.backbone import metadata
from shared.contracts.envelope import Event, encode
from shared.database import Tx, write_together
from shared.errors import TooLarge

outbox_table = sa.Table(
    "outbox",
    metadata,
    sa.Column("seq", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("event_id", sa.Uuid, nullable=False, unique=True),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("aggregate_id", sa.Text, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("payload", BYTEA, nullable=False),
    sa.Column("created_at", TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
    sa.Column("published_at", TIMESTAMP(timezone=True)),
    sa.Index("outbox_unpublished", "seq", postgresql_where=sa.text("published_at IS NULL")),
)

replaying: ContextVar[bool] = ContextVar("replaying", default=False)
"""True while state is rebuilt from history: what was announced once is not announced again."""

EVENT_BYTES = 900 * 1024
"""The server takes messages of one megabyte; an event above that would stop everything behind it."""

COLUMNS = {"event_id": "uuid", "type": "text", "aggregate_id": "text", "version": "bigint", "payload": "bytea"}
"""What `row_of` gives, in its order, with PostgreSQL's types."""
_NAMES = ", ".join(COLUMNS)
_PLACES = ", ".join(f"${number}" for number in range(1, len(COLUMNS) + 1))
_ARRAYS = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(COLUMNS.values(), 1))
_INSERT = f"INSERT INTO outbox ({_NAMES}) VALUES ({_PLACES})"  # noqa: S608  # our own columns
_INSERT_MANY = f"INSERT INTO outbox ({_NAMES}) SELECT * FROM unnest({_ARRAYS})"  # noqa: S608  # our own columns


async def add(tx: Tx, *events: Event) -> None:
    """Announce `events`, in this order, if and when `tx` commits.

    Take the aggregate's row lock before you call this: then the outbox's order is the order of versions.
    """
    await write_together(tx, insertion(events))


def insertion(events: Sequence[Event]) -> list[tuple[str, Sequence[object]]]:
    """What `add` does, as statements for `write_together` with others; none when there is nothing to announce."""
    if not events or replaying.get():
        return []
    rows = [row_of(event) for event in events]
    if len(rows) == 1:
        return [(_INSERT, rows[0])]
    return [(_INSERT_MANY, [list(column) for column in zip(*rows, strict=True)])]


def row_of(event: Event) -> tuple[UUID, str, str, int, bytes]:
    """The event as the outbox holds it: values of COLUMNS.

    Raises:
        TooLarge: the bus would not take it.
    """
    event_id = uuid_utils.uuid7()
    payload = encode(event, event_id=event_id, traceparent=telemetry.traceparent())
    if len(payload) > EVENT_BYTES:
        raise TooLarge(f"what is announced of {event.aggregate_id} may hold at most {EVENT_BYTES} bytes")
    return event_id, event.TYPE, event.aggregate_id, event.version, payload
