"""Reads the partitions that this process owns, inspects what is in them, and stores what came of it.

One loop for all of them: what waits is taken together, inspected in each unit's order, and stored in one transaction:
the positions, the keys of what was handled, the sessions' states and the alerts. So a crash anywhere repeats nothing
and loses nothing; what was inspected and not stored is read again by whoever owns the unit next.
Sorting what others publish is a task beside it (`intake`).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import prometheus_client

from services.detection import wire
from services.detection.application import inspections
from services.detection.application.alerts import Sighting, raise_alerts
from services.detection.application.inspections import Judged
from services.detection.application.live import Live
from services.detection.application.sessions import SAVE_SECONDS, SessionStates, digest_of
from services.detection.domain.assets import NoSuchAsset
from services.detection.domain.interaction import Interaction
from services.detection.publisher import Publisher
from services.detection.store import stream as store
from services.detection.stream.intake import Intake
from services.detection.stream.ownership import Fenced, Ownership
from services.detection.wire import INTAKE, STREAM, Item, Parcel, subject_of
from shared import telemetry
from shared.bus import StreamError
from shared.database import Tx, is_outage
from shared.errors import Unavailable
from shared.feed import Feed, Message
from shared.leader import end
from shared.runtime import Runtime

ITEMS_A_TRANSACTION = 1_000
BYTES_A_TRANSACTION = 4 * 1024 * 1024
MESSAGES_AHEAD = 8
"""Of each unit, of at most a megabyte each."""
SEEN_A_UNIT = 32_768
"""Some minutes of spans at full speed; exporters try again within one."""
PURGE_SECONDS = 0.5
COMMIT_TRIES = 20

STREAM_ITEMS = prometheus_client.Counter(
    "colonnade_detection_stream_items_total",
    "Interactions read from the telemetry stream, by what became of them.",
    ["outcome"],
)
STREAM_LAG = prometheus_client.Gauge(
    "colonnade_detection_stream_lag_seconds",
    "Age of the newest message of telemetry when it was handled; 0 with none to handle.",
)


@dataclass(slots=True)
class Effects:
    """What is to be stored together."""

    moves: dict[int, tuple[int, int]] = field(default_factory=dict)
    keys: dict[int, list[bytes]] = field(default_factory=dict)
    sightings: list[Sighting] = field(default_factory=list)
    counts: list[Callable[[], None]] = field(default_factory=list)


class Seen:
    """Keys of what was handled lately in one unit, oldest out first."""

    def __init__(self) -> None:
        self._chunks: deque[tuple[int, list[bytes]]] = deque()
        self._known: set[bytes] = set()

    def __contains__(self, key: bytes) -> bool:
        return key in self._known

    def remember(self, keys: Iterable[bytes]) -> None:
        self._known.update(keys)

    def stored(self, chunk: int, keys: list[bytes]) -> int | None:
        """These keys, remembered already or not, are in a chunk now; the newest chunk to forget, if any."""
        self._known.update(keys)
        self._chunks.append((chunk, keys))
        oldest = None
        while len(self._known) > SEEN_A_UNIT and len(self._chunks) > 1:
            oldest, gone = self._chunks.popleft()
            self._known.difference_update(gone)
        return oldest


class StreamWorker:
    """Works the telemetry stream, as far as this process owns it."""

    def __init__(self, runtime: Runtime, memory: Live, publisher: Publisher) -> None:
        self._runtime = runtime
        self._memory = memory
        self.ownership = Ownership(runtime.db)
        self._seen: dict[int, Seen] = {}
        self._positions: dict[int, int] = {}
        self._purged: dict[int, int] = {}
        self._intake = Intake(runtime, memory, publisher)

    @property
    def _states(self) -> SessionStates:
        return self._memory.states

    async def run(self) -> None:
        """Own units and read them, for ever."""
        try:
            await self.ownership.run(self._read)
        finally:
            self._states.own(())

    async def _read(self, units: frozenset[int]) -> None:
        partitions = units - {INTAKE}
        await self._take_over(partitions)
        queue: asyncio.Queue[tuple[int, list[Message]]] = asyncio.Queue(maxsize=len(units))
        async with AsyncExitStack() as stack:
            feeds = []
            for unit in sorted(partitions):
                wanted = {STREAM: (self._positions[unit], [subject_of(unit)])}
                feed = Feed(self._runtime.bus, wanted, window=MESSAGES_AHEAD)
                feeds.append((unit, await stack.enter_async_context(feed)))
            tasks = [asyncio.create_task(self._pump(unit, feed, queue)) for unit, feed in feeds]
            tasks.append(asyncio.create_task(self._work(queue)))
            tasks.append(asyncio.create_task(self._purge_handled()))
            if INTAKE in units:
                tasks.append(asyncio.create_task(self._intake.run()))
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                await end(*tasks)
                self._states.own(())
                self._memory.drop_held()
                STREAM_LAG.set(0.0)

    async def _take_over(self, units: frozenset[int]) -> None:
        try:
            info = await self._runtime.bus.jetstream(f"STREAM.INFO.{STREAM}")
        except StreamError as error:
            raise Unavailable(f"there is no stream of telemetry: {error}") from error
        created = datetime.fromisoformat(info["created"])
        async with self._runtime.db.begin() as tx:
            self._positions = await store.cursors(tx, units, created)
            chunks = await store.seen(tx, units)
        self._seen = {unit: Seen() for unit in units}
        for unit, chunk, keys in chunks:
            self._seen[unit].stored(chunk, keys)
        # Whoever owned them before may have been killed between the two.
        self._purged = {}
        self._states.own(units)

    @staticmethod
    async def _pump(unit: int, feed: Feed, queue: asyncio.Queue[tuple[int, list[Message]]]) -> None:
        while True:
            await queue.put((unit, await feed.next(MESSAGES_AHEAD)))

    async def _work(self, queue: asyncio.Queue[tuple[int, list[Message]]]) -> None:
        waiting: deque[tuple[int, Message]] = deque()
        saved_at = time.monotonic()
        while True:
            if not waiting:
                with suppress(asyncio.TimeoutError):
                    async with asyncio.timeout(SAVE_SECONDS):
                        unit, messages = await queue.get()
                    waiting.extend((unit, message) for message in messages)
            while not queue.empty() and len(waiting) < ITEMS_A_TRANSACTION:
                unit, messages = queue.get_nowait()
                waiting.extend((unit, message) for message in messages)
            effects = Effects()
            items = size = 0
            newest = 0.0
            while waiting and items < ITEMS_A_TRANSACTION and size < BYTES_A_TRANSACTION:
                unit, message = waiting.popleft()
                items += await self._handle(unit, message, effects)
                size += len(message.payload)
                before = effects.moves[unit][0] if unit in effects.moves else self._positions[unit]
                effects.moves[unit] = (before, message.sequence)
                newest = max(newest, message.published_at)
            idle = time.monotonic() - saved_at >= SAVE_SECONDS and self._states.waits_to_be_saved
            if effects.moves or idle:
                await self._store(effects)
                saved_at = time.monotonic()
            # Also where nothing comes any more: the last figure would stand for ever.
            STREAM_LAG.set(max(0.0, time.time() - newest) if newest else 0.0)

    # -- one message -------------------------------------------------------------------------------------------------

    async def _handle(self, unit: int, message: Message, effects: Effects) -> int:
        """Inspect what a message holds; how many items it had."""
        try:
            parcel = wire.decode(message.payload)
        except wire.Malformed as error:
            # Only this service publishes here: a fault of ours, which would be the same at every try.
            telemetry.logger().error("telemetry_unreadable", sequence=message.sequence, error=str(error))
            STREAM_ITEMS.labels("unreadable").inc()
            return 1
        items = [one for one in (self._news_of(unit, item) for item in parcel.items) if one is not None]
        interactions = [item.interaction for item in items]
        age = max(0.0, time.time() - parcel.at)
        keys = effects.keys.setdefault(unit, [])
        async with self._states.at_hand(interactions):
            await inspections.prepare(interactions, parcel.caller, self._memory, age_seconds=age)
            for number, item in enumerate(items):
                await self._inspect(unit, item, parcel, effects, keys)
                if number % 8 == 7:
                    # Inline inspections of this process do not wait for a whole message.
                    await asyncio.sleep(0)
        STREAM_ITEMS.labels("repeated").inc(len(parcel.items) - len(items))
        return len(parcel.items)

    def _news_of(self, unit: int, item: Item) -> Item | None:
        """The item without what was counted or inspected before; None when nothing is left."""
        seen = self._seen[unit]
        counted = item.count_key is not None and item.count_key in seen
        inspected = item.content_key is not None and item.content_key in seen
        if not counted and not inspected:
            return item
        one = item.interaction
        if inspected:
            if counted or not one.amounts():
                return None
            return replace(item, interaction=replace(one, segments=()), recalled=())
        if not one.segments:
            return None
        return replace(item, interaction=replace(one, counts=False, tokens=0, cost_usd=0.0))

    async def _inspect(self, unit: int, item: Item, parcel: Parcel, effects: Effects, keys: list[bytes]) -> None:
        now = datetime.fromtimestamp(parcel.at, UTC)
        interaction = self._unseen(unit, item)
        if interaction is None:
            return
        try:
            if item.observed:
                effects.sightings += await inspections.observe(
                    interaction, parcel.caller, self._memory,
                    inspection_id=item.inspection_id, now=now, traceparent=item.traceparent,
                )  # fmt: skip
            else:
                judged = await self._judge(interaction, item, parcel, now)
                effects.sightings += judged.sightings
                effects.counts += judged.counts
        except Exception as error:
            if isinstance(error, Unavailable) or is_outage(error):
                raise
            # A fault that this text provokes must not stop all others; the text itself is not logged.
            telemetry.logger().error("telemetry_failed", inspection_id=str(item.inspection_id), exc_info=error)
            STREAM_ITEMS.labels("failed").inc()
        else:
            STREAM_ITEMS.labels("observed" if item.observed else "inspected").inc()
        fresh = [key for key in (item.count_key, item.content_key) if key is not None and key not in self._seen[unit]]
        self._seen[unit].remember(fresh)
        keys += dict.fromkeys(fresh)

    async def _judge(self, interaction: Interaction, item: Item, parcel: Parcel, now: datetime) -> Judged:
        given: dict[str, Any] = {
            "inspection_id": item.inspection_id, "now": now, "traceparent": item.traceparent, "inline": False
        }  # fmt: skip
        try:
            return await inspections.inspect(interaction, parcel.caller, self._memory, **given)
        except NoSuchAsset:
            # It went to another team since this came in; what happened is inspected all the same.
            nameless = replace(interaction, asset_id=None)
            return await inspections.inspect(nameless, parcel.caller, self._memory, **given)

    def _unseen(self, unit: int, item: Item) -> Interaction | None:
        """The interaction without the history that its session has seen; None when it was handled within this batch."""
        again = self._news_of(unit, item)
        if again is None:
            return None
        interaction, recalled = again.interaction, again.recalled
        if not interaction.segments or item.observed:
            return interaction
        session = self._states.of(interaction)
        if session is None:
            if not item.trace_id:
                return interaction
            session = self._states.passing(item.trace_id)
        old = recalled or (False,) * len(interaction.segments)
        left = []
        for segment, was in zip(interaction.segments, old, strict=True):
            if session.is_new(digest_of(segment)) or not was:
                left.append(segment)
        self._states.changed(interaction)
        return interaction if len(left) == len(interaction.segments) else replace(interaction, segments=tuple(left))

    # -- storing -----------------------------------------------------------------------------------------------------

    async def _store(self, effects: Effects) -> None:
        """Store the effects; while the database is away, again and again.

        Raises:
            Fenced
        """
        changed = self._states.take_changed()
        moves = dict(effects.moves)
        for session in changed:
            # Also who only saves must still be the owner.
            moves.setdefault(session.unit, (self._positions[session.unit], self._positions[session.unit]))
        keys = {unit: b"".join(some) for unit, some in effects.keys.items() if some}
        alone = False
        for attempt in range(1, COMMIT_TRIES + 1):
            try:
                async with self._runtime.db.begin() as tx:
                    if not await store.move(tx, moves):
                        raise Fenced(f"units {sorted(moves)} are not where we left them")
                    chunks = await store.add_seen(tx, keys) if keys else {}
                    if changed:
                        await store.save_sessions(tx, changed)
                    if effects.sightings:
                        await self._raise_alerts(tx, effects.sightings, alone=alone)
                break
            except Exception as error:
                if isinstance(error, Fenced) or attempt == COMMIT_TRIES:
                    raise
                # What was inspected is not inspected again for that: rates would count it twice. An alert that cannot
                # be stored must not keep all others from it.
                alone = not is_outage(error)
                telemetry.logger().warning("stream_not_stored", error=repr(error), attempt=attempt)
                await asyncio.sleep(min(0.1 * attempt, 1.0))
        self._states.saved()
        self._memory.release()
        for count in effects.counts:
            count()
        for unit, (_, upto) in moves.items():
            self._positions[unit] = upto
        old = {
            unit: gone
            for unit, chunk in chunks.items()
            if (gone := self._seen[unit].stored(chunk, effects.keys[unit])) is not None
        }
        if old:
            async with self._runtime.db.begin() as tx:
                await store.drop_seen(tx, old)

    async def _raise_alerts(self, tx: Tx, sightings: list[Sighting], *, alone: bool) -> None:
        if not alone:
            await raise_alerts(tx, sightings, self._memory.folding)
            return
        for sighting in sightings:
            try:
                async with tx.begin_nested():
                    await raise_alerts(tx, [sighting], self._memory.folding)
            except Exception as error:
                if is_outage(error):
                    raise
                telemetry.logger().error("alert_not_stored", inspection_id=str(sighting.inspection_id), exc_info=error)

    async def _purge_handled(self) -> None:
        """Keep no content that was handled: messages leave the stream when their position is stored."""
        while True:
            await asyncio.sleep(PURGE_SECONDS)
            for unit, position in list(self._positions.items()):
                if position > self._purged.get(unit, 0):
                    request = {"filter": subject_of(unit), "seq": position + 1}
                    await self._runtime.bus.jetstream(f"STREAM.PURGE.{STREAM}", request)
                    self._purged[unit] = position
