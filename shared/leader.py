"""One of a service's replicas at a time does what must not be done twice at once: relay, consume, seal, schedule.

The lock is PostgreSQL's advisory lock, held by a connection of its own. A frozen process loses it after
LOCK_IDLE_SECONDS because it stops pinging; what it then still tries is fenced by cursor and stream sequence.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import asyncpg

from shared import telemetry
from shared.database import Database, is_outage
from shared.errors import Unavailable

LOCK_IDLE_SECONDS = 10
PING_SECONDS = 2.0

_TRY_LOCK = "SELECT pg_try_advisory_lock(hashtext($1))"

Duty = Callable[[], Awaitable[None]]


class Signals:
    """PostgreSQL notifications as events to wait for: hints that something waits, never the only way to learn it."""

    def __init__(self, db: Database, channels: Sequence[str]) -> None:
        self._db = db
        self._events: dict[str, dict[str, asyncio.Event]] = {channel: {} for channel in channels}

    async def run(self) -> None:
        """Listen for ever, reconnecting when the server goes away."""
        while True:
            connection = None
            try:
                connection = await self._db.connect_alone()
                for channel in self._events:
                    await connection.add_listener(channel, self._on_notify)
                # What happened while nobody listened is found by looking once.
                self.wake_all()
                while not connection.is_closed():
                    await asyncio.wait_for(connection.execute("SELECT 1"), 5)
                    await asyncio.sleep(PING_SECONDS)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, asyncio.TimeoutError) as error:
                telemetry.logger().warning("listen_interrupted", error=repr(error))
            finally:
                if connection is not None:
                    connection.terminate()
            await asyncio.sleep(0.5)

    def _on_notify(self, _connection: Any, _pid: int, channel: str, _payload: object) -> None:
        self.wake(channel)

    def wake(self, channel: str) -> None:
        for event in self._events[channel].values():
            event.set()

    def wake_all(self) -> None:
        for channel in self._events:
            self.wake(channel)

    async def wait(self, channel: str, timeout_seconds: float, waiter: str = "") -> None:
        """Until the channel is notified or the time is over, whichever comes first.

        Args:
            waiter: each waiter of a name of its own is woken; what came since its last wait wakes it at once.
        """
        event = self._events[channel].get(waiter)
        if event is None:
            # What was notified before it ever waited is not known: it looks again.
            event = self._events[channel][waiter] = asyncio.Event()
            return
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(event.wait(), timeout_seconds)
        event.clear()


async def keep_doing(name: str, duty: Duty) -> None:
    """Do `duty` for ever: an outage is waited out, any other failure is logged as our fault and tried again."""
    delay = 0.1
    while True:
        started = time.monotonic()
        try:
            await duty()
            delay = 0.1
        except asyncio.CancelledError:
            raise
        except Exception as error:
            # A duty that ends must not end silently, nor take the service's HTTP side with it.
            if isinstance(error, Unavailable) or is_outage(error):
                telemetry.logger().warning("waiting", duty=name, error=repr(error))
            else:
                telemetry.logger().error("duty_failed", duty=name, exc_info=error)
            # What went well for a while and is interrupted anew is taken up at once.
            delay = 0.1 if time.monotonic() - started > 30 else min(delay * 2, 5.0)
            await asyncio.sleep(delay)


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks until they have ended.

    Once is not enough: up to Python 3.11 `asyncio.wait_for` loses a cancellation that comes together with its result.
    """
    while waiting := [task for task in tasks if not task.done()]:
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting, timeout=0.5)
    await asyncio.gather(*tasks, return_exceptions=True)


class Leader:
    """Competes for a service's lock and does the duties while holding it."""

    def __init__(self, db: Database, name: str) -> None:
        self._db = db
        self._name = name
        self.leading = False

    async def run(self, duties: dict[str, Duty]) -> None:
        while True:
            connection = None
            try:
                connection = await self._db.connect_alone(idle_session_timeout=f"{LOCK_IDLE_SECONDS}s")
                # The lock is in other processes' hands; there is no event to wait for.
                while not await connection.fetchval(_TRY_LOCK, f"leader:{self._name}"):  # noqa: ASYNC110
                    await asyncio.sleep(0.5)
                await self._lead(connection, duties)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, asyncio.TimeoutError) as error:
                telemetry.logger().warning("leadership_interrupted", error=repr(error))
            finally:
                if connection is not None:
                    connection.terminate()
            await asyncio.sleep(0.3)

    async def _lead(self, connection: Any, duties: dict[str, Duty]) -> None:
        self.leading = True
        tasks = [asyncio.create_task(keep_doing(name, duty), name=name) for name, duty in duties.items()]
        try:
            while True:
                await asyncio.wait_for(connection.execute("SELECT 1"), 5)
                await asyncio.sleep(PING_SECONDS)
        finally:
            self.leading = False
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
