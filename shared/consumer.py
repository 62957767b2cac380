"""Events in: state built from streams, exactly once and in order.

The position in each stream lies in the consumer's own database and moves in the transaction of the effects. So a
crash anywhere repeats nothing and loses nothing, and there is nothing to acknowledge. One loop a service applies
everything, one transaction after another; the journal records in which order, which is what lets `rebuild` give the
same tables again. A batch is as large as what waits: one event when quiet, hundreds in a storm.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID, uuid5

import sqlalchemy as sa
from opentelemetry.trace import SpanKind
from pydantic import ValidationError
from sqlalchemy.dialects.postgresql import BYTEA, JSONB, TIMESTAMP, insert

from shared import telemetry
from shared.backbone import metadata
from shared.bus import Bus
from shared.contracts.envelope import Envelope, Event, Malformed, decode, source_of, stream_of
from shared.database import Database, Tx, driver, is_outage, storable
from shared.feed import Feed, Message
from shared.outbox import replaying

E = TypeVar("E", bound=Event)
Handler = Callable[[Tx, Sequence["Received[Any]"]], Awaitable[None]]
Command = Callable[[Tx, dict[str, Any], datetime], Awaitable[None]]

cursor_table = sa.Table(
    "consumer_cursor",
    metadata,
    sa.Column("consumer", sa.Text, primary_key=True),
    sa.Column("stream", sa.Text, primary_key=True),
    sa.Column("stream_created", TIMESTAMP(timezone=True), nullable=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
)
journal_table = sa.Table(
    "consumer_journal",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("consumer", sa.Text, nullable=False),
    sa.Column("stream", sa.Text),
    sa.Column("first_seq", sa.BigInteger),
    sa.Column("last_seq", sa.BigInteger),
    sa.Column("command", sa.Text),
    sa.Column("payload", JSONB),
    sa.Column("at", TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
)
dead_letter_table = sa.Table(
    "dead_letter",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("consumer", sa.Text, nullable=False),
    sa.Column("stream", sa.Text, nullable=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("event_id", sa.Uuid),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("payload", BYTEA, nullable=False),
    sa.Column("error_class", sa.Text, nullable=False),
    sa.Column("error", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("status", sa.Text, nullable=False, server_default="dead"),
    sa.Column("reason", sa.Text),
    sa.Column("died_at", TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
    sa.Column("resolved_at", TIMESTAMP(timezone=True)),
    sa.UniqueConstraint("consumer", "stream", "seq", "position"),
)

ATTEMPTS = 3
OUTAGES_AT_ONE_PLACE = 10
EVENTS_A_TRANSACTION = 1_000
ENTRIES_A_PAGE = 1_000
_DEAD_LETTER_NAMESPACE = UUID("7c0f1c3e-7a1f-4f0e-9b0a-6d0b8f6f2b11")


_LOCK = "SELECT pg_advisory_xact_lock(hashtext($1))"
# The lock is in the same statement; what it writes comes after it, since the one needs the other's row.
_CLAIM = """
    WITH locked AS MATERIALIZED (SELECT pg_advisory_xact_lock(hashtext('journal:' || $1))),
    moved AS (
        UPDATE consumer_cursor SET seq = $5 FROM locked WHERE consumer = $1 AND stream = $2 AND seq = $3 RETURNING 1
    )
    INSERT INTO consumer_journal (consumer, stream, first_seq, last_seq) SELECT $1, $2, $4, $5 FROM moved RETURNING id
"""


class Fenced(RuntimeError):
    """Another consumer moved the cursor; what we were about to apply is theirs."""


class StreamReset(RuntimeError):
    """The stream is not the one our cursor belongs to; `replay` starts over on the new one."""


@dataclass(frozen=True, slots=True)
class Received(Generic[E]):
    """One event as it arrived.

    Attributes:
        event: the contract, validated.
        id: the CloudEvent's id; derive ids of rebuilt rows from it (uuid5), never from chance.
        time: when it happened at the producer; rebuilt rows take their times from it, never from the clock.
        stream, sequence: the message that carried it.
        position: its place in that message.
    """

    event: E
    id: UUID
    time: datetime
    stream: str
    sequence: int
    position: int
    traceparent: str | None

    @property
    def type(self) -> str:
        return self.event.TYPE


class Tape(Protocol):
    """Stored messages, to be read again."""

    async def read(self, stream: str, first: int, last: int) -> Sequence[Message]:
        """The messages from sequence `first` to `last`; called with rising sequences for each stream."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """Digests of a table before and after it was rebuilt."""

    before: str
    after: str

    @property
    def identical(self) -> bool:
        return self.before == self.after


class Consumers:
    """What one service makes of the events it hears.

    Args:
        name: the service; keys cursors, journal and dead letters.
        rebuilt: tables that hold nothing but what events and journalled commands made, parents before children.
        linger_seconds: how long to gather more events while there are only those nobody waits for.
        urgent: types that end the gathering at once, since the next step of the loop waits for us; None is all.
    """

    def __init__(
        self,
        name: str,
        *,
        rebuilt: Sequence[sa.Table] = (),
        linger_seconds: float = 0.0,
        urgent: Sequence[type[Event]] | None = None,
    ) -> None:
        self.name = name
        self.rebuilt = tuple(rebuilt)
        self.linger_seconds = linger_seconds
        self._urgent = None if urgent is None else frozenset(one.TYPE for one in urgent)
        self._types: dict[str, type[Event]] = {}
        self._handlers: dict[str, Handler] = {}
        self._commands: dict[str, Command] = {}
        self._failed_at: tuple[str, int] | None = None
        self._failures = 0
        self.halted: str | None = None
        """Why nothing is consumed, when only a person can help."""

    def on(self, *types: type[Event]) -> Callable[[Handler], Handler]:
        """Register a handler for runs of events of these types; it gets them in order, several at a time."""

        def register(handler: Handler) -> Handler:
            for event_type in types:
                if event_type.TYPE in self._handlers:
                    raise ValueError(f"{self.name} handles {event_type.TYPE} twice")
                self._types[event_type.TYPE] = event_type
                self._handlers[event_type.TYPE] = handler
            return handler

        return register

    def command(self, name: str) -> Callable[[Command], Command]:
        """Register what a journalled command does to rebuilt tables; it gets its payload and the time it was given."""

        def register(command: Command) -> Command:
            self._commands[name] = command
            return command

        return register

    async def execute(self, tx: Tx, name: str, payload: dict[str, Any]) -> None:
        """Do a command now, and write it down so that a rebuild does it again at this place."""
        await _lock_journal(tx, self.name)
        at = datetime.now(UTC)
        await tx.execute(journal_table.insert().values(consumer=self.name, command=name, payload=payload, at=at))
        await self._commands[name](tx, payload, at)

    @property
    def subjects(self) -> dict[str, list[str]]:
        """Stream -> types wanted from it."""
        return {stream: sorted(types) for stream, types in groupby(sorted(self._types, key=stream_of), key=stream_of)}

    # -- running -------------------------------------------------------------------------------------------------

    async def run(self, db: Database, bus: Bus) -> None:
        """Apply events as they come, until cancelled or interrupted.

        Raises:
            Fenced: another replica took over.
            StreamReset: a stream was wiped; nothing more is applied until `replay`.
        """
        positions = {stream: await self._position(db, bus, stream) for stream in self.subjects}
        self.halted = None
        async with Feed(bus, {s: (positions[s], t) for s, t in self.subjects.items()}) as feed:
            while True:
                messages = await feed.next(EVENTS_A_TRANSACTION, self.linger_seconds, self._urgent)
                await self.apply(db, messages, positions)
                for message in messages:
                    positions[message.stream] = message.sequence

    async def _position(self, db: Database, bus: Bus, stream: str) -> int:
        info = await bus.jetstream(f"STREAM.INFO.{stream}")
        created = datetime.fromisoformat(info["created"])
        async with db.begin() as tx:
            first = insert(cursor_table).values(consumer=self.name, stream=stream, stream_created=created, seq=0)
            await tx.execute(first.on_conflict_do_nothing())
            cursor = (await tx.execute(sa.select(cursor_table).filter_by(consumer=self.name, stream=stream))).one()
        changed = abs((cursor.stream_created - created).total_seconds()) > 0.001
        if changed or int(info["state"]["last_seq"]) < cursor.seq:
            self.halted = f"stream {stream} was wiped or restored; run `replay --consumer {self.name}`"
            raise StreamReset(self.halted)
        return int(cursor.seq)

    async def apply(self, db: Database, messages: Sequence[Message], positions: dict[str, int]) -> None:
        """Apply `messages` in one transaction; should one of them be poison, one by one, setting the poison aside."""
        about: dict[str, str | int] = {"messaging.system": "nats", "messaging.batch.message_count": len(messages)}
        with telemetry.span(f"consume {self.name}", SpanKind.CONSUMER, parent=_parent(messages), **about):
            try:
                async with db.begin() as tx:
                    await self._claim(tx, messages, positions)
                    await self._handle(tx, [event for message in messages for event in self._read(message)])
            except (Fenced, asyncio.CancelledError):
                raise
            except Exception as error:
                # Whatever a handler raises is an outage, which is waited out, or poison, which is set aside. What looks
                # like an outage again and again at one place, while the database answers others, is poison.
                if is_outage(error) and not await self._keeps_failing(db, messages[0]):
                    raise
                telemetry.logger().warning("batch_failed", consumer=self.name, error=repr(error))
                await self._isolate(db, messages, dict(positions))
        newest = max(message.published_at for message in messages)
        telemetry.EVENT_LAG.labels(self.name).set(max(0.0, time.time() - newest))
        for message in messages:
            telemetry.EVENTS_CONSUMED.labels(self.name, message.stream).inc()

    async def _keeps_failing(self, db: Database, message: Message) -> bool:
        place = (message.stream, message.sequence)
        self._failures = self._failures + 1 if self._failed_at == place else 1
        self._failed_at = place
        if self._failures < OUTAGES_AT_ONE_PLACE:
            return False
        try:
            async with db.statement() as connection:
                await connection.execute(sa.text("SELECT 1"))
        except Exception as error:
            if is_outage(error):
                return False
            raise
        self._failures = 0
        return True

    async def _claim(self, tx: Tx, messages: Sequence[Message], positions: dict[str, int]) -> None:
        """Move the cursors and write the journal, or learn that somebody else did."""
        connection = await driver(tx)
        at = dict(positions)
        for stream, run in groupby(messages, key=lambda message: message.stream):
            sequences = [message.sequence for message in run]
            # A run at a time, so that the journal has them in the order in which they are applied.
            claimed = await connection.fetchval(_CLAIM, self.name, stream, at[stream], sequences[0], sequences[-1])
            if claimed is None:
                raise Fenced(f"the cursor of {self.name} on {stream} is not at {at[stream]}")
            at[stream] = sequences[-1]

    def _read(self, message: Message, skip: frozenset[int] = frozenset()) -> list[Received[Any]]:
        received = []
        for position, envelope in enumerate(decode(message.payload)):
            if position not in skip:
                received.append(self._validate(message, envelope, position))
        return received

    def _validate(self, message: Message, envelope: Envelope, position: int) -> Received[Any]:
        if stream_of(envelope.type) != message.stream or envelope.source != f"/colonnade/{source_of(envelope.type)}":
            raise Malformed(f"{envelope.type} from {envelope.source} does not belong in {message.stream}")
        try:
            event = self._types[envelope.type].model_validate(envelope.data)
        except KeyError as error:
            raise Malformed(f"{envelope.type} is not a type that {self.name} knows") from error
        except ValidationError as error:
            raise Malformed(f"{envelope.type}: {error}") from error
        return Received(
            event, envelope.id, envelope.time, message.stream, message.sequence, position, envelope.traceparent
        )

    async def _handle(self, tx: Tx, events: Sequence[Received[Any]]) -> None:
        for handler, run in groupby(events, key=lambda received: self._handlers[received.type]):
            await handler(tx, list(run))

    async def _isolate(self, db: Database, messages: Sequence[Message], positions: dict[str, int]) -> None:
        for message in messages:
            async with db.begin() as tx:
                await self._claim(tx, [message], positions)
                try:
                    envelopes = decode(message.payload)
                except Malformed as error:
                    await self._bury(tx, message, 0, None, message.payload, error, 1)
                    envelopes = []
                for position, envelope in enumerate(envelopes):
                    await self._try(tx, message, envelope, position)
            positions[message.stream] = message.sequence

    async def _try(self, tx: Tx, message: Message, envelope: Envelope, position: int) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with tx.begin_nested():
                    await self._handle(tx, [self._validate(message, envelope, position)])
                return
            except Exception as error:
                if is_outage(error) and (tx.closed or tx.invalidated):
                    raise
                if attempt == ATTEMPTS or isinstance(error, Malformed):
                    await self._bury(tx, message, position, envelope, message.payload, error, attempt)
                    return

    async def _bury(
        self,
        tx: Tx,
        message: Message,
        position: int,
        envelope: Envelope | None,
        payload: bytes,
        error: Exception,
        attempts: int,
    ) -> None:
        telemetry.EVENTS_DEAD.labels(self.name).inc()
        telemetry.logger().error(
            "event_dead_lettered", consumer=self.name, stream=message.stream, seq=message.sequence, exc_info=error
        )
        buried = insert(dead_letter_table).values(
            id=uuid5(_DEAD_LETTER_NAMESPACE, f"{self.name}/{message.stream}/{message.sequence}/{position}"),
            consumer=self.name,
            stream=message.stream,
            seq=message.sequence,
            position=position,
            event_id=envelope.id if envelope else None,
            type=envelope.type if envelope else message.subject,
            payload=payload,
            error_class=type(error).__name__,
            error=storable(str(error), 4_000),
            attempts=attempts,
        )
        await tx.execute(buried.on_conflict_do_nothing())

    # -- dead letters --------------------------------------------------------------------------------------------

    async def replay_dead_letter(self, tx: Tx, letter: Any) -> None:
        """Apply a dead letter now; journalled, so that a rebuild does it at this place too.

        Raises:
            Exception: whatever the handler raises; the letter stays dead.
        """
        await _lock_journal(tx, self.name)
        at = datetime.now(UTC)
        where = {"stream": letter.stream, "seq": letter.seq, "position": letter.position}
        await tx.execute(
            journal_table.insert().values(consumer=self.name, command="_dead_letter", payload=where, at=at)
        )
        await self._apply_letter(tx, letter)
        await tx.execute(
            dead_letter_table.update().filter_by(id=letter.id).values(status="replayed", resolved_at=sa.func.now())
        )

    async def _apply_letter(self, tx: Tx, letter: Any) -> None:
        message = Message(letter.stream, letter.seq, letter.type, bytes(letter.payload), 0.0)
        envelope = decode(message.payload)[letter.position]
        await self._handle(tx, [self._validate(message, envelope, letter.position)])

    # -- rebuilding ----------------------------------------------------------------------------------------------

    async def rebuild(self, db: Database, tape: Tape, progress: Callable[[int, int], None]) -> dict[str, Rebuilt]:
        """Empty the rebuilt tables and fill them again from the streams, in the order of the journal.

        One transaction: readers see the old tables until the new ones are complete, and a kill changes nothing. The
        running consumer waits meanwhile. Nothing is announced or acted upon again.

        Args:
            tape: gives the stored messages again, stream by stream in order.
            progress: told how many of how many journal entries are done.
        """
        token = replaying.set(True)
        try:
            async with db.begin() as tx:
                for limit in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
                    await tx.execute(sa.text(f"SET LOCAL {limit} = 0"))
                await _lock_journal(tx, self.name)
                before = await self.digests(tx)
                for table in reversed(self.rebuilt):
                    await tx.execute(table.delete())
                total = sa.select(sa.func.count()).select_from(journal_table).filter_by(consumer=self.name)
                entries = int(await tx.scalar(total) or 0)
                dead = await self._dead_positions(tx)
                done = 0
                async for entry in self._journal(tx):
                    await self._redo(tx, tape, entry, dead)
                    done += 1
                    progress(done, entries)
                after = await self.digests(tx)
        finally:
            replaying.reset(token)
        return {name: Rebuilt(before[name], after[name]) for name in before}

    async def _journal(self, tx: Tx) -> AsyncIterator[Any]:
        """The entries in order, a page at a time: years of them do not fit into memory."""
        after = 0
        while True:
            page = sa.select(journal_table).filter_by(consumer=self.name).where(journal_table.c.id > after)
            entries = (await tx.execute(page.order_by(journal_table.c.id).limit(ENTRIES_A_PAGE))).all()
            for entry in entries:
                yield entry
            if len(entries) < ENTRIES_A_PAGE:
                return
            after = entries[-1].id

    async def _dead_positions(self, tx: Tx) -> dict[tuple[str, int], frozenset[int]]:
        dead: dict[tuple[str, int], set[int]] = {}
        for letter in await tx.execute(sa.select(dead_letter_table).filter_by(consumer=self.name)):
            dead.setdefault((letter.stream, letter.seq), set()).add(letter.position)
        return {place: frozenset(positions) for place, positions in dead.items()}

    async def _redo(self, tx: Tx, tape: Tape, entry: Any, dead: dict[tuple[str, int], frozenset[int]]) -> None:
        if entry.command == "_dead_letter":
            letter = (await tx.execute(sa.select(dead_letter_table).filter_by(**entry.payload))).one()
            await self._apply_letter(tx, letter)
        elif entry.command is not None:
            await self._commands[entry.command](tx, entry.payload, entry.at)
        else:
            events: list[Received[Any]] = []
            for message in await tape.read(entry.stream, entry.first_seq, entry.last_seq):
                skipped = dead.get((message.stream, message.sequence), frozenset())
                if not skipped or _decodes(message.payload):
                    events += self._read(message, skipped)
            await self._handle(tx, events)

    async def digests(self, tx: Tx) -> dict[str, str]:
        """Row count and order-free 128-bit sum of row hashes of each rebuilt table."""
        found = {}
        for table in self.rebuilt:
            line = sa.cast(sa.literal_column(table.name), sa.Text)
            hashes = [
                sa.func.coalesce(sa.func.sum(sa.cast(sa.func.hashtextextended(line, seed), sa.Numeric)), 0)
                for seed in (0, 1)
            ]
            row = (await tx.execute(sa.select(sa.func.count(), *hashes).select_from(table))).one()
            mask = (1 << 64) - 1
            found[table.name] = f"{row[0]} rows {int(row[1]) & mask:016x}{int(row[2]) & mask:016x}"
        return found


def _decodes(payload: bytes) -> bool:
    try:
        decode(payload)
    except Malformed:
        return False
    return True


def _parent(messages: Sequence[Message]) -> str | None:
    """The trace a lone event came from; a batch of many has no one parent."""
    if len(messages) != 1:
        return None
    try:
        events = decode(messages[0].payload)
    except Malformed:
        return None
    return events[0].traceparent if len(events) == 1 else None


async def _lock_journal(tx: Tx, name: str) -> None:
    """Everything that changes rebuilt tables takes this lock, so that the journal's order is the order of effects."""
    await (await driver(tx)).execute(_LOCK, f"journal:{name}")
