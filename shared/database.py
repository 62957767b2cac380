"""PostgreSQL through SQLAlchemy Core and asyncpg, with the time limits that keep one bad statement from spreading."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any

import asyncpg
import orjson
import sqlalchemy.event
import sqlalchemy.exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

Tx = AsyncConnection
"""A connection inside a transaction that somebody above us opened and will end."""

STATEMENT_TIMEOUT_MS = 5_000
STATEMENT_SECONDS = 6.0
"""After this we stop waiting ourselves: a server that is frozen or cut off does not end its own statements."""
LOCK_TIMEOUT_MS = 2_000
IDLE_IN_TRANSACTION_TIMEOUT_MS = 10_000


def asyncpg_dsn(url: str) -> str:
    """The URL as asyncpg itself takes it."""
    return url.replace("postgresql+asyncpg://", "postgresql://", 1)


def is_outage(error: BaseException) -> bool:
    """True when the database could not be reached or was too busy: the statement may be tried again.

    An error of the statement itself (a constraint, bad data, a bug) is none.
    """
    if isinstance(error, sqlalchemy.exc.TimeoutError | ConnectionError | asyncio.TimeoutError):
        return True
    if isinstance(error, sqlalchemy.exc.DBAPIError):
        if error.connection_invalidated:
            return True
        return error.orig is not None and is_outage(error.orig.__cause__ or error.orig)
    if isinstance(error, asyncpg.InterfaceError):
        # asyncpg's word for a connection that is closed or was closed under a running statement.
        return "closed" in str(error) or "released" in str(error) or "terminated" in str(error)
    if isinstance(error, asyncpg.ObjectNotInPrerequisiteStateError) and "not currently accepting" in str(error):
        # What a database says while it is being renamed, restored or dropped.
        return True
    return isinstance(
        error,
        asyncpg.PostgresConnectionError
        | asyncpg.CannotConnectNowError
        | asyncpg.TooManyConnectionsError
        | asyncpg.AdminShutdownError
        | asyncpg.CrashShutdownError
        | asyncpg.IdleInTransactionSessionTimeoutError
        | asyncpg.QueryCanceledError
        | asyncpg.LockNotAvailableError
        | asyncpg.DeadlockDetectedError
        | asyncpg.SerializationError
        | asyncpg.DiskFullError
        | asyncpg.InternalClientError
        | OSError,
    )


def storable(text: str, limit: int) -> str:
    """A text as PostgreSQL can hold it: without NUL and lone surrogates, and not longer than `limit`."""
    return text[:limit].replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def cause_of(error: BaseException) -> BaseException:
    """The driver's own exception below SQLAlchemy's wrapping, for telling constraints apart."""
    if isinstance(error, sqlalchemy.exc.DBAPIError) and error.orig is not None:
        return error.orig.__cause__ or error.orig
    return error


class _Connection(asyncpg.Connection):
    """A connection that ends when a statement on it is given up.

    asyncpg would ask the server to cancel and use the connection again. But a server that did not answer in time does,
    later, what it was sent: a BEGIN that was given up opens a transaction that nobody knows of, and all that follows
    on the connection, transactions that seem to commit among it, would be part of that one and lost with it.
    """

    _loop: asyncio.AbstractEventLoop

    def _cancel_current_command(self, waiter: asyncio.Future[None], *_: object) -> None:
        # Not at once: the protocol is in the middle of giving up. What waits for it is woken after this.
        self._loop.call_soon(self.terminate)
        if not waiter.done():
            waiter.set_result(None)


class Database:
    """One service's database: a pool, and transactions on it."""

    def __init__(
        self, url: str, *, name: str, pool_size: int = 8, statement_seconds: float | None = STATEMENT_SECONDS
    ) -> None:
        self.dsn = asyncpg_dsn(url)
        self.name = name
        self.engine: AsyncEngine = create_async_engine(
            self.dsn.replace("postgresql://", "postgresql+asyncpg://", 1),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=3,
            # No pre-ping: it would cost every statement a round trip. See `_refuse_unless_fresh`.
            pool_pre_ping=False,
            json_serializer=lambda value: orjson.dumps(value).decode(),
            json_deserializer=orjson.loads,
            connect_args={
                "timeout": 3,
                "command_timeout": statement_seconds,
                "connection_class": _Connection,
                "server_settings": {
                    "application_name": name,
                    "jit": "off",
                    "statement_timeout": str(STATEMENT_TIMEOUT_MS),
                    "lock_timeout": str(LOCK_TIMEOUT_MS),
                    "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_TIMEOUT_MS),
                    # A statement whose client has gone ends within a second.
                    "client_connection_check_interval": "1000",
                },
            },
        )
        sqlalchemy.event.listen(self.engine.sync_engine, "checkout", _refuse_unless_fresh)
        self._each_alone = self.engine.execution_options(isolation_level="AUTOCOMMIT")

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Tx]:
        """A transaction: committed at the end of the block, rolled back by any exception."""
        async with self.engine.begin() as tx:
            try:
                yield tx
            except (asyncpg.InterfaceError, asyncpg.PostgresError, OSError):
                await _give_up_if_closed(tx)
                raise

    @asynccontextmanager
    async def statement(self) -> AsyncIterator[Tx]:
        """A connection on which each statement is a transaction of its own: one round trip instead of three."""
        async with self._each_alone.connect() as connection:
            try:
                yield connection
            except (asyncpg.InterfaceError, asyncpg.PostgresError, OSError):
                await _give_up_if_closed(connection)
                raise

    read = statement
    """The same, for queries."""

    async def connect_alone(self, **server_settings: str) -> asyncpg.Connection[Any]:
        """A connection outside the pool, for locks and LISTEN; the caller closes it."""
        return await asyncpg.connect(
            self.dsn, timeout=3, server_settings={"application_name": f"{self.name}-alone", **server_settings}
        )

    async def close(self) -> None:
        await self.engine.dispose()


def _refuse_unless_fresh(adapter: Any, _record: object, _fairy: object) -> None:
    """Let nobody get a connection that the server has ended meanwhile, or one in the middle of a transaction.

    The socket tells asyncpg at once, so this costs nothing. The pool then opens another, and drops the others of the
    same age at their next use: after a restart of PostgreSQL no caller pays for the old connections.
    """
    connection = adapter._connection
    if connection.is_closed():
        raise sqlalchemy.exc.InvalidatePoolError
    if connection.is_in_transaction() or connection._top_xact is not None:
        raise sqlalchemy.exc.DisconnectionError("it is in a transaction that nobody ended")


async def _give_up_if_closed(connection: AsyncConnection) -> None:
    """Tell SQLAlchemy that a connection is gone when that was raised below `driver()`, past it.

    Otherwise it would go back to the pool, and everybody who gets it from there would fail.
    """
    if connection.closed or connection.invalidated:
        return
    adapter: Any = (await connection.get_raw_connection()).dbapi_connection
    if adapter._connection.is_closed():
        await connection.invalidate()


async def driver(tx: Tx) -> asyncpg.Connection[Any]:
    """asyncpg's connection under `tx`, for COPY, arrays and executemany, which SQLAlchemy does not reach.

    SQLAlchemy sends BEGIN with the first statement that goes through it; one that goes past it must not be the first,
    or it would commit by itself. So the transaction is started here, through the adapter's own (private) method.
    """
    raw = await tx.get_raw_connection()
    adapter: Any = raw.dbapi_connection
    if adapter._transaction is None and not adapter._connection.is_closed():
        await adapter._start_transaction()
    return adapter._connection  # type: ignore[no-any-return]  # SQLAlchemy types every driver's connection as Any


async def write_together(tx: Tx, statements: Sequence[tuple[str, Sequence[object]]]) -> None:
    """Do several statements that write in one round trip, each as a common table expression of one.

    They see the same snapshot and not one another's effects, in no certain order: no row may be two statements' to
    write.

    Args:
        statements: (SQL with $1, $2, ..., its values) each.
    """
    if not statements:
        return
    values = [value for _, own in statements for value in own]
    sql = _joined(tuple((statement, len(own)) for statement, own in statements))
    await (await driver(tx)).execute(sql, *values)


@lru_cache(maxsize=256)
def _joined(statements: tuple[tuple[str, int], ...]) -> str:
    """The same statements as one, their parameters numbered on."""
    if len(statements) == 1:
        return statements[0][0]
    parts, before = [], 0
    for number, (statement, count) in enumerate(statements):
        parts.append(f"part_{number} AS ({_numbered_on(statement, before)})")
        before += count
    return f"WITH {', '.join(parts)} SELECT"


def _numbered_on(statement: str, by: int) -> str:
    return re.sub(r"\$(\d+)", lambda place: f"${int(place[1]) + by}", statement)
