"""Which process reads which unit of the stream: each unit is one process's, and the units are shared out evenly.

A process holds a shared advisory lock that says it takes part, and an exclusive one for each unit that it owns, all on
one connection of its own. How many take part is seen in pg_locks, so nobody needs a list of members: a process that
dies or is cut off loses its locks with its connection, and the others take its units within a second. One that was
frozen and goes on is refused when it moves a cursor.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import asyncpg

from services.detection.wire import UNITS
from shared import telemetry
from shared.database import Database
from shared.leader import LOCK_IDLE_SECONDS, end

LOOK_SECONDS = 0.5
SPACE = 0x54454C45
_MEMBER = 1_000

_TRY = "SELECT pg_try_advisory_lock($1, $2)"
_FREE = "SELECT pg_advisory_unlock($1, $2)"
_JOIN = "SELECT pg_advisory_lock_shared($1, $2)"
_MEMBERS = """
    SELECT count(DISTINCT pid) FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND classid = $1::bigint::oid AND objid = $2::bigint::oid AND objsubid = 2
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""

Read = Callable[[frozenset[int]], Coroutine[Any, Any, None]]


class Fenced(RuntimeError):
    """Another process moved the position of a unit that we took for ours."""


class Ownership:
    """Takes part in reading the stream."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.units: frozenset[int] = frozenset()
        """What this process owns at the moment."""

    async def run(self, read: Read) -> None:
        """Own a fair share of the units and `read` them, for ever; `read` is cancelled and begun anew when they change.

        Raises:
            Exception: as `read`, or the database; then nothing is owned any more.
        """
        try:
            connection = await self._db.connect_alone(idle_session_timeout=f"{LOCK_IDLE_SECONDS}s")
        except asyncpg.PostgresError as error:
            raise ConnectionError(repr(error)) from error
        reading: asyncio.Task[None] | None = None
        held: set[int] = set()
        try:
            await connection.execute(_JOIN, SPACE, _MEMBER)
            while True:
                members = max(1, await connection.fetchval(_MEMBERS, SPACE, _MEMBER, timeout=5))
                share = -(-len(UNITS) // members)
                surplus = sorted(held)[share:]
                if surplus:
                    await _end(reading)
                    reading, self.units = None, frozenset()
                    for unit in surplus:
                        await connection.execute(_FREE, SPACE, unit)
                    held.difference_update(surplus)
                elif len(held) < share:
                    taken = await self._take(connection, held, share)
                    if taken:
                        await _end(reading)
                        reading = None
                        held |= taken
                if reading is None and held:
                    self.units = frozenset(held)
                    telemetry.logger().info("stream_units", units=sorted(held), members=members)
                    reading = asyncio.create_task(read(self.units))
                if reading is None:
                    await asyncio.sleep(LOOK_SECONDS)
                    continue
                done, _ = await asyncio.wait({reading}, timeout=LOOK_SECONDS)
                if done:
                    reading.result()
                    raise RuntimeError("reading the stream ended")
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise ConnectionError(f"the lock's connection is gone: {error!r}") from error
        finally:
            self.units = frozenset()
            await _end(reading)
            connection.terminate()

    async def _take(self, connection: asyncpg.Connection[Any], held: set[int], share: int) -> set[int]:
        taken: set[int] = set()
        free = [unit for unit in UNITS if unit not in held]
        # Two that start at once would otherwise both go for the first.
        random.shuffle(free)
        for unit in free:
            if len(held) + len(taken) >= share:
                break
            if await connection.fetchval(_TRY, SPACE, unit, timeout=5):
                taken.add(unit)
        return taken


async def _end(reading: asyncio.Task[None] | None) -> None:
    if reading is not None:
        await end(reading)
