"""What is remembered of each session, in the one process that owns its partition.

Trackers (`domain.trackers`) are told of a session's interactions in order and one at a time, of those of the stream as
well as of those inspected inline:

- The owner applies its own inline inspections at once, so that what trackers find is in the response.
- Any other process sends the owner a bounded copy through the stream (`Observations`); what trackers find in it becomes
  an alert.

States are saved in the transaction that moves the partition's cursor, so that after a crash a session goes on exactly
where the cursor stands. What only inline inspections changed is saved within SAVE_SECONDS.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime

import prometheus_client
import uuid_utils.compat as uuid_utils

from services.detection.application.tracking import Tracking
from services.detection.domain.assets import Asset
from services.detection.domain.detector import Detector, Inspected
from services.detection.domain.interaction import Interaction, Segment
from services.detection.domain.trackers import Session as Tracked
from services.detection.domain.verdict import Finding
from services.detection.publisher import Publisher
from services.detection.store import stream as store
from services.detection.store.stream import StoredSession
from services.detection.wire import Item, partition_of, session_key_of
from shared import telemetry
from shared.auth import Caller
from shared.database import Database, is_outage
from shared.errors import Unavailable

SEEN_MESSAGES = 512
SAVE_SECONDS = 1.0
OBSERVED_CHARACTERS = 4_096
"""Of each text that a copy for the owner holds: the beginning and the end of a longer one."""
_FLUSH_SECONDS = 0.1
_WAITING_AT_MOST = 2_000

OBSERVATIONS_LOST = prometheus_client.Counter(
    "colonnade_detection_observations_lost_total",
    "Inline interactions that the owner of their session never heard of, since the stream took too little.",
)


@dataclass(slots=True)
class Session:
    """One session. `seen` are digests of its last messages, `tracked` is what trackers know of it."""

    interactions: int = 0
    seen: deque[bytes] = field(default_factory=lambda: deque(maxlen=SEEN_MESSAGES))
    known: set[bytes] = field(default_factory=set)
    tracked: Tracked = field(default_factory=Tracked)

    def is_new(self, digest: bytes) -> bool:
        """Whether a message was not seen here before; from now on it was."""
        if digest in self.known:
            return False
        if len(self.seen) == SEEN_MESSAGES:
            self.known.discard(self.seen[0])
        self.seen.append(digest)
        self.known.add(digest)
        return True


def digest_of(segment: Segment) -> bytes:
    said = f"{segment.direction.value}\0{segment.text}"
    return hashlib.blake2b(said.encode("utf-8", "replace"), digest_size=8).digest()


class SessionStates:
    """The sessions of the partitions that this process owns, the recent ones in memory."""

    def __init__(self, db: Database, tracking: Tracking, capacity: int) -> None:
        self._db = db
        self._capacity = capacity
        self._tracking = tracking
        self._owned: frozenset[int] = frozenset()
        self._known: OrderedDict[str, Session] = OrderedDict()
        self._passing: OrderedDict[str, Session] = OrderedDict()
        self._changed: dict[str, int] = {}
        self._saving: dict[str, int] = {}
        self._needed: Counter[str] = Counter()

    def own(self, partitions: Collection[int]) -> None:
        """From now on these; what was in memory is forgotten, since another process may go on with it."""
        self._owned = frozenset(partitions)
        self._known.clear()
        self._passing.clear()
        self._changed.clear()
        self._saving.clear()

    def owns(self, interaction: Interaction) -> bool:
        return interaction.session_id is not None and partition_of(interaction) in self._owned

    @asynccontextmanager
    async def at_hand(self, interactions: Iterable[Interaction]) -> AsyncIterator[None]:
        """`load`, and keep these in memory for the length of the block, whoever else is loaded meanwhile."""
        them = list(interactions)
        needed = {key for key in map(session_key_of, them) if key is not None}
        self._needed.update(needed)
        try:
            await self.load(them)
            yield
        finally:
            self._needed -= Counter(needed)

    async def load(self, interactions: Iterable[Interaction]) -> None:
        """Bring the sessions of these that are owned and not in memory; with the database away nothing is brought."""
        wanted: dict[str, int] = {}
        looked: set[str] = set()
        for one in interactions:
            key = session_key_of(one)
            if key is None or key in looked:
                continue
            looked.add(key)
            if key in self._known:
                self._known.move_to_end(key)
            elif (partition := partition_of(one)) in self._owned:
                wanted[key] = partition
        if not wanted:
            return
        async with self._db.read() as tx:
            found = await store.sessions(tx, [(partition, key) for key, partition in wanted.items()])
        stored = {one.session_key: one for one in found}
        for key, partition in wanted.items():
            if partition in self._owned and key not in self._known:
                self._known[key] = self._opened(stored.get(key))
        self._make_room(looked)

    @staticmethod
    def _opened(stored: StoredSession | None) -> Session:
        if stored is None:
            return Session()
        session = Session(stored.interactions, tracked=Tracked.load(stored.state))
        session.seen.extend(store.split(stored.seen))
        session.known.update(session.seen)
        return session

    def _make_room(self, just_loaded: Collection[str] = ()) -> None:
        kept = (self._changed, self._saving, self._needed, just_loaded)
        for key in list(self._known)[: max(0, len(self._known) - self._capacity)]:
            if not any(key in one for one in kept):
                del self._known[key]

    def of(self, interaction: Interaction) -> Session | None:
        """The session, if it is owned and was loaded."""
        key = session_key_of(interaction)
        return self._known.get(key) if key is not None else None

    def passing(self, trace_id: str) -> Session:
        """What stands for a session where none is named: a trace, remembered in memory alone."""
        session = self._passing.get(trace_id)
        if session is None:
            session = self._passing[trace_id] = Session()
            while len(self._passing) > self._capacity:
                self._passing.popitem(last=False)
        return session

    def changed(self, interaction: Interaction) -> None:
        """The session is to be saved."""
        key = session_key_of(interaction)
        if key is not None and key in self._known:
            self._changed[key] = partition_of(interaction)

    def observe(
        self,
        interaction: Interaction,
        inspected: Inspected,
        *,
        detector: Detector,
        asset: Asset | None,
        now: datetime,
        hold: bool = False,
    ) -> Sequence[Finding]:
        """What trackers find, where the session is known here; nothing otherwise. `hold`: see `Tracking.observe`."""
        session = self.of(interaction)
        if session is None:
            return ()
        session.interactions += 1
        self.changed(interaction)
        return self._tracking.observe(
            session.tracked, interaction, inspected, detector=detector, asset=asset, now=now, hold=hold
        )

    def take_changed(self) -> list[StoredSession]:
        """The sessions that changed since the last call, as they are to be stored; call `saved` when they are.

        Until then they stay in memory: what is stored of them is older.
        """
        taken: list[StoredSession] = []
        for key, unit in self._changed.items():
            session = self._known[key]
            state = session.tracked.dump()
            taken.append(StoredSession(unit, key, session.interactions, b"".join(session.seen), state))
        self._saving |= self._changed
        self._changed.clear()
        return taken

    def saved(self) -> None:
        """What was taken is stored."""
        self._saving.clear()
        self._make_room()

    @property
    def waits_to_be_saved(self) -> bool:
        return bool(self._changed)


class Observations:
    """Copies of inline interactions on their way to the processes that own their sessions.

    They go out together a few times a second, and none waits for them: what the stream does not take is counted as
    lost.
    """

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._waiting: deque[tuple[Caller, Item]] = deque(maxlen=_WAITING_AT_MOST)
        self._some = asyncio.Event()

    def tell(self, caller: Caller, interaction: Interaction, traceparent: str | None) -> None:
        """Let the owner of its session know of an interaction."""
        if len(self._waiting) == _WAITING_AT_MOST:
            OBSERVATIONS_LOST.inc()
        segments = tuple(replace(one, text=_bounded(one.text), leaves=()) for one in interaction.segments[-50:])
        copy = replace(interaction, segments=segments, counts=False)
        item = Item(copy, uuid_utils.uuid7(), traceparent=traceparent, observed=True)
        self._waiting.append((caller, item))
        self._some.set()

    async def run(self) -> None:
        """Send them, for ever."""
        while True:
            await self._some.wait()
            await asyncio.sleep(_FLUSH_SECONDS)
            self._some.clear()
            taken = [self._waiting.popleft() for _ in range(len(self._waiting))]
            by: dict[Caller, list[Item]] = {}
            for caller, item in taken:
                # Without scopes and roles: only reach and name travel.
                by.setdefault(Caller(caller.subject, caller.kind, teams=caller.teams), []).append(item)
            for caller, items in by.items():
                try:
                    await self._publisher.publish(caller, time.time(), items)
                except Unavailable:
                    OBSERVATIONS_LOST.inc(len(items))


def _bounded(text: str) -> str:
    if len(text) <= OBSERVED_CHARACTERS:
        return text
    half = OBSERVED_CHARACTERS // 2
    return f"{text[:half]}\n{text[-half:]}"


async def load_or_go_on(states: SessionStates, interactions: Sequence[Interaction]) -> None:
    """`load` for inline inspections, which do not wait for a database that is away."""
    try:
        await states.load(interactions)
    except Exception as error:
        if not is_outage(error):
            raise
        with suppress(Exception):
            telemetry.logger().warning("sessions_unavailable", error=repr(error))
