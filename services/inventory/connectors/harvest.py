"""What a connector reports to while it looks, and what keeps a failed look from being taken for an empty estate.

A connector reads scopes: one listing in one account and region, one folder, one repository. Within a scope it adds what
it finds. A scope that ends without a failure is complete, and only there does "not seen" mean "gone"; one that failed,
was refused or was cut short is stale, with the reason, and changes nothing else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol

from services.inventory.domain.claims import Found, storable
from services.inventory.domain.discovery import Problem
from services.inventory.domain.secrets import without_secrets

BATCH = 200
NAME_LIMIT_BYTES = 2_000
"""Longest name that an index takes; nothing that a platform calls something is longer."""
LAST_WORDS_SECONDS = 3.0
PROBLEMS_LIMIT = 1_000
"""Most problems that one run tells one by one; the rest are counted."""


class Sink(Protocol):
    """Where a harvest goes; calls never overlap."""

    async def take(self, scope: str, found: Sequence[Found]) -> None:
        """Take in some of what a scope holds; raises what hinders that."""

    async def complete(self, scope: str, locators: Collection[str], seconds: float) -> None:
        """A scope was read to its end and holds these entries and no others."""

    async def stale(self, scope: str, reason: str, seconds: float) -> None:
        """A scope was not read to its end; what is known of it stays as it is."""


class EntriesLimitReached(Exception):
    """A run found as much as one run may; harvest makes a stale scope of it."""


class HarvestClosed(Exception):
    """The run is over; a thread that still looks ends by this."""


@dataclass(slots=True)
class Scope:
    """One scope while it is read."""

    name: str
    harvest: Harvest
    locators: set[str] = field(default_factory=set)
    failure: str | None = None
    closed: bool = False
    _pending: list[Found] = field(default_factory=list)

    async def add(self, found: Found) -> None:
        """Report an entry; waits while the inventory is busy taking in. An entry of the same locator twice counts once.

        Raises:
            EntriesLimitReached: let it pass through; the scope then ends as stale.
        """
        if self.closed:
            raise HarvestClosed
        if not found.value("name") or found.value("asset_type") is None:
            self.fail(found.locator, "an entry has no name")
            return
        found = found.without_secrets()
        names = (found.locator, *found.identities, *(link.target for link in found.links))
        if any(len(name.encode()) > NAME_LIMIT_BYTES for name in names):
            self.fail(found.locator[:200], f"an entry's locator, identity or link is over {NAME_LIMIT_BYTES} bytes")
            return
        if found.locator in self.locators:
            return
        self.harvest.admit()
        self.locators.add(found.locator)
        self._pending.append(found)
        if len(self._pending) >= BATCH:
            await self.flush()

    def add_from_thread(self, found: Found) -> None:
        """`add` for code that runs in a thread beside the event loop; waits as it does.

        Raises:
            HarvestClosed: the run has ended meanwhile.
        """
        if self.closed:
            raise HarvestClosed
        asyncio.run_coroutine_threadsafe(self.add(found), self.harvest.loop).result()

    def fail(self, where: str, error: object) -> None:
        """Something in this scope could not be read: go on with the rest; the scope will be stale."""
        self.harvest.fail(where, error)
        self.failure = self.failure or f"{where}: {error}"

    async def flush(self) -> None:
        pending, self._pending = self._pending, []
        if pending:
            await self.harvest.deliver(self.name, pending)


class Harvest:
    """One run's way home.

    Args:
        sink: takes what is found.
        entries_limit: most entries that the run may bring.
        read: scopes that an earlier try of the same run has read to their end; `is_read` tells, so that a run that was
            interrupted goes on where it was.
    """

    def __init__(self, sink: Sink, *, entries_limit: int = 100_000, read: Collection[str] = ()) -> None:
        self.problems: list[Problem] = []
        self.problems_untold = 0
        self.completed: list[str] = list(read)
        self.staled: list[str] = []
        self.entries = 0
        self.loop = asyncio.get_running_loop()
        self._sink = sink
        self._limit = entries_limit
        self._read = frozenset(read)
        self._one_at_a_time = asyncio.Lock()
        self._hindrance: BaseException | None = None

    def is_read(self, scope: str) -> bool:
        """Whether an earlier try of this run has read the scope; then it need not be read again."""
        return scope in self._read

    def fail(self, where: str, error: object) -> None:
        """Note what failed, in the platform's own words, cut short and free of credentials."""
        if len(self.problems) >= PROBLEMS_LIMIT:
            self.problems_untold += 1
            return
        words = without_secrets(storable(str(error).strip()))[:500] or type(error).__name__
        self.problems.append(Problem(without_secrets(storable(where))[:300], words))

    @asynccontextmanager
    async def scope(
        self, name: str, *, failures: tuple[type[BaseException], ...] = (), where: str | None = None
    ) -> AsyncIterator[Scope]:
        """Read one scope: complete when the block ends by itself and nothing in it failed.

        Args:
            name: the same for the same listing in every run; what it holds is compared by it.
            failures: errors of the platform that make the scope stale and let the run go on. Others are mistakes of
                ours, and end the run.
            where: what is said of such an error; the scope's name if not given.
        """
        scope = Scope(name, self)
        began = time.monotonic()
        try:
            yield scope
            await scope.flush()
        except asyncio.CancelledError:
            # The run ran out of time: what was found counts, what was not read stays as it is known. A sink that does
            # not answer any longer is not waited for.
            scope.closed = True
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS_SECONDS):
                    await scope.flush()
                    async with self._one_at_a_time:
                        await self._sink.stale(name, "it was cut short", time.monotonic() - began)
            raise
        except EntriesLimitReached:
            await scope.flush()
            scope.fail(where or name, f"stopped at {self._limit} entries")
        except failures as error:
            if error is self._hindrance:
                raise
            await scope.flush()
            scope.fail(where or name, error)
        finally:
            scope.closed = True
        seconds = time.monotonic() - began
        async with self._one_at_a_time:
            if scope.failure is None:
                self.completed.append(name)
                await self._sink.complete(name, scope.locators, seconds)
            else:
                self.staled.append(name)
                await self._sink.stale(name, without_secrets(storable(scope.failure))[:500], seconds)

    def admit(self) -> None:
        """Count one more entry. Raises EntriesLimitReached when there is no room for it."""
        if self.entries >= self._limit:
            raise EntriesLimitReached
        self.entries += 1

    async def deliver(self, scope: str, found: Sequence[Found]) -> None:
        async with self._one_at_a_time:
            try:
                await self._sink.take(scope, found)
            except Exception as error:
                # Whatever class it has, it is not the platform that failed.
                self._hindrance = error
                raise


class InMemory:
    """A sink that keeps everything: for looking without taking in."""

    def __init__(self) -> None:
        self.found: list[Found] = []
        self.complete_scopes: dict[str, set[str]] = {}
        self.stale_scopes: dict[str, str] = {}

    async def take(self, scope: str, found: Sequence[Found]) -> None:
        self.found.extend(found)

    async def complete(self, scope: str, locators: Collection[str], seconds: float) -> None:
        self.complete_scopes[scope] = set(locators)

    async def stale(self, scope: str, reason: str, seconds: float) -> None:
        self.stale_scopes[scope] = reason
