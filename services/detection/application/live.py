"""What a replica keeps in memory so that an ordinary inspection touches no database.

Rules, containments and suppressions are reloaded when their generation moves: a trigger notifies every replica, and
each looks twice a second in case a notification was lost. Assets are read on first use and again when they are older
than ASSET_SECONDS; with the database away the last known ones go on being used. Activity, and what rules did, is
counted here and shared once a second.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from typing import TypeVar
from uuid import UUID

from services.detection import pack
from services.detection.application.alerts import Sighting, raise_alerts
from services.detection.application.sessions import Observations, SessionStates
from services.detection.application.tracking import Tracking
from services.detection.domain.assets import Handling
from services.detection.domain.detector import Detector, Loaded
from services.detection.domain.sessions import Sessions, Subject
from services.detection.domain.similarity import PromptIndex
from services.detection.domain.suppressions import Suppression
from services.detection.domain.tally import Tally
from services.detection.domain.trackers.canaries import CanaryIndex
from services.detection.domain.verdict import Block, Finding
from services.detection.store import activity, assets, containments, generation, rules, suppressions, tally, usage
from services.detection.store.assets import Watched
from services.detection.store.containments import Containment
from shared import telemetry
from shared.auth import Caller
from shared.database import Database, is_outage
from shared.runtime import Runtime

Answer = TypeVar("Answer")

ASSET_SECONDS = 1.0
INSPECTING_AT_ONCE = 4
"""Long texts that are inspected at once; what finds no thread waits, within its deadline."""
ALERT_SECONDS = 1.0
SIGHTINGS_A_TRANSACTION = 500
LOOK_SECONDS = 0.5
EXPECT_SECONDS = (0.05, 0.1, 0.2)
"""Pauses between looks for an asset that is not known yet; the last one again and again."""
EXPECTING_AT_MOST = 16
"""Requests that wait for an asset at once: some 160 looks a second, of a millisecond each on a pool of 8."""
WAIT_AGAIN_SECONDS = 5.0
SHARE_SECONDS = 1.0
NAMED_SECONDS = 5.0


class Live:
    """One replica's memory."""

    def __init__(
        self,
        db: Database,
        key: bytes,
        *,
        tracking: Tracking,
        states: SessionStates,
        observations: Observations,
        assets: int,
        subjects: int,
        folding: timedelta,
        asset_wait: timedelta,
        handling: Handling | None = None,
        deadline: timedelta = timedelta(seconds=2),
    ) -> None:
        self._db = db
        self._asset_wait_seconds = asset_wait.total_seconds()
        self.folding = folding
        self._unrecorded: deque[tuple[list[Sighting], asyncio.Future[None]]] = deque()
        self._recording: asyncio.Task[None] | None = None
        self._alert_changed = asyncio.Event()
        self.key = key
        """Keys digests of content and hashes of registered prompts."""
        self.sessions = Sessions(subjects)
        self.tracking = tracking
        """What this replica counts and learns of assets and actors, and shares."""
        self._threads = ThreadPoolExecutor(INSPECTING_AT_ONCE, "inspect")
        self.states = states
        """What trackers know of the sessions that this process owns."""
        self.observations = observations
        self.handling = handling or Handling()
        """How traffic is treated where nobody said so."""
        self.deadline_seconds = deadline.total_seconds()
        self.tally = Tally()
        self.state_available = True
        """False while what sessions did elsewhere cannot be known: the database did not answer the last time."""
        self.rules_at = 0
        """The generation of the rules that are in force here."""
        self._named_assets: frozenset[UUID] = frozenset()
        self._suppressions_at = 0
        self._suppressions: list[Suppression] = []
        self._containments_at = 0
        self._detector: Detector | None = None
        self._containments: dict[tuple[str, str, str | None], Containment] = {}
        self._named: OrderedDict[tuple[frozenset[str] | None, str], tuple[float, UUID | None]] = OrderedDict()
        self._assets: OrderedDict[UUID, tuple[float, Watched | None, PromptIndex | None]] = OrderedDict()
        self._waited_for: OrderedDict[UUID, float] = OrderedDict()
        self._expecting = 0
        self._capacity = assets

    @property
    def detector(self) -> Detector:
        """All rules in force, compiled."""
        assert self._detector is not None, "load() comes first"
        return self._detector

    async def load(self) -> None:
        """Take over rules, containments and suppressions as they are now, where they moved since the last time."""
        async with self._db.read() as tx:
            current = await generation.current(tx)
            rules_at, containments_at = current["rules"], current["containments"]
            loaded: list[Loaded] | None = None
            if current["suppressions"] != self._suppressions_at:
                self._suppressions = await suppressions.in_force(tx)
                self._suppressions_at = current["suppressions"]
            if rules_at != self.rules_at:
                loaded, unreadable = await rules.in_force(tx)
                if unreadable:
                    telemetry.logger().error("rules_unreadable", rules=unreadable)
            if containments_at != self._containments_at:
                in_force = await containments.in_force(tx)
                self._containments = {(one.target_kind, one.target, one.team): one for one in in_force}
                self._containments_at = containments_at
        if loaded is not None:
            self._detector = await asyncio.to_thread(compiled, loaded)
            self._named_assets = frozenset(asset_id for one in loaded for asset_id in one.rule.scope.asset_ids)
            self.rules_at = rules_at

    async def aside(self, look: Callable[[], Answer]) -> Answer:
        """Inspect a long text beside the loop, in threads that do nothing else.

        Trials of rules take seconds, and whoever may read may ask for them: in one pool they would use up the time that
        an inspection has, and texts would pass uninspected.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, look)

    def close(self) -> None:
        """End the threads; what still runs in them is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def follow(self, runtime: Runtime) -> None:
        """Keep up with changes, for ever."""
        while True:
            await runtime.signals.wait("generation", LOOK_SECONDS)
            await self.load()

    async def share(self, _runtime: Runtime) -> None:
        """Share what was counted and learn what others counted, for ever."""
        while True:
            await asyncio.sleep(SHARE_SECONDS)
            await self.share_once()
            await self.write_down_tally()

    async def share_once(self, *, everything: bool = False) -> None:
        """Add this replica's part to the shared sums and take over the totals; `everything` leaves nothing over."""
        await self._share_rates()
        if self._detector is not None:
            await self.tracking.share(self._db, self._detector, datetime.now(UTC), self.folding, everything=everything)

    async def _share_rates(self) -> None:
        unshared = self.sessions.take_unshared()
        if not unshared:
            return
        try:
            async with self._db.begin() as tx:
                await activity.share(tx, unshared)
                totals = await activity.of(tx, list(unshared))
        except BaseException:
            self.sessions.give_back(unshared)
            self.state_available = False
            raise
        self.state_available = True
        for subject, total in totals.items():
            self.sessions.learn(subject, total)

    def release(self) -> None:
        """What came by the stream is stored as handled: what was counted of it counts."""
        self.sessions.release()
        self.tracking.release()

    def drop_held(self) -> None:
        """What came by the stream and was not stored is handled by somebody else, who counts it."""
        self.sessions.drop_held()
        self.tracking.drop_held()

    async def write_down_tally(self) -> None:
        """Add what was counted here to the shared figures of rules and suppressions."""
        counted, self.tally = self.tally, Tally()
        if not counted:
            return
        try:
            async with self._db.begin() as tx:
                await tally.add(tx, counted)
        except BaseException:
            self.tally.add(counted)
            raise

    async def hear_alerts(self, runtime: Runtime) -> None:
        """Wake whoever waits for alerts when one changed, for ever."""
        while True:
            await runtime.signals.wait("alert", ALERT_SECONDS)
            heard, self._alert_changed = self._alert_changed, asyncio.Event()
            heard.set()

    async def alert_changed(self) -> None:
        """Until an alert changed somewhere, or ALERT_SECONDS have passed in case nobody said so."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._alert_changed.wait(), ALERT_SECONDS)

    async def record(self, sightings: list[Sighting]) -> None:
        """Raise alerts for what was seen; returns when they are stored.

        Requests that come while others are being stored go into the next transaction together. A storm of one finding
        would otherwise queue for its alert's row, a commit each: 40 a second with 32 callers, measured.

        Raises:
            Exception: as `raise_alerts` and the database; then nothing of these was stored.
        """
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._unrecorded.append((sightings, stored))
        if self._recording is None or self._recording.done():
            self._recording = asyncio.create_task(self._record_all())
        await stored

    async def _record_all(self) -> None:
        while self._unrecorded:
            size = 0
            batch: list[tuple[list[Sighting], asyncio.Future[None]]] = []
            while self._unrecorded and size < SIGHTINGS_A_TRANSACTION:
                batch.append(self._unrecorded.popleft())
                size += len(batch[-1][0])
            try:
                await self._record([one for sightings, _ in batch for one in sightings])
                failed = None
            except Exception as error:
                failed = error
            for sightings, stored in batch:
                mine = failed
                if failed is not None and len(batch) > 1 and not is_outage(failed):
                    # One of them cannot be stored; the others are not to suffer for it.
                    try:
                        await self._record(sightings)
                        mine = None
                    except Exception as error:
                        mine = error
                if not stored.done():
                    stored.set_exception(mine) if mine is not None else stored.set_result(None)

    async def _record(self, sightings: list[Sighting]) -> None:
        async with self._db.begin() as tx:
            await raise_alerts(tx, sightings, self.folding)

    async def know(self, subjects: list[Subject]) -> None:
        """Fetch the shared sums of subjects that this replica has not seen lately."""
        missing = self.sessions.missing(subjects)
        if not missing:
            return
        try:
            async with self._db.read() as tx:
                found = await activity.of(tx, missing)
        except Exception as error:
            if not is_outage(error):
                raise
            # Detection goes on with what this replica counts itself.
            self.state_available = False
            telemetry.logger().warning("activity_unavailable", error=repr(error))
            return
        self.state_available = True
        for subject, total in found.items():
            self.sessions.learn(subject, total)

    async def expect(self, caller: Caller, asset_ids: Collection[UUID], *, age_seconds: float = 0.0) -> None:
        """Give assets that were registered a moment ago the time to become known here.

        Inventory answers a registration before its event arrives here, some tens of milliseconds later, and an
        application goes on at once. An asset of another team takes as long as one that does not exist. What was waited
        for in vain is not waited for again within WAIT_AGAIN_SECONDS, so that a wrong id in a busy place costs little.
        Nor is it while EXPECTING_AT_MOST others wait: ever new ids would otherwise keep the database from everybody.

        Args:
            age_seconds: how long ago they were named; that much of the wait is over. Who reads one message after
                another would otherwise wait for each in turn.
        """
        unsure = {one for one in asset_ids if not self._known_to(caller, one)}
        if not unsure:
            return
        now = time.monotonic()
        left = self._asset_wait_seconds - age_seconds
        until = now + left
        waiting = {one for one in unsure if now - self._waited_for.get(one, -math.inf) > WAIT_AGAIN_SECONDS}
        if self._expecting >= EXPECTING_AT_MOST or not waiting or left <= 0:
            await self._look_for(caller, unsure)
            return
        self._expecting += 1
        try:
            pauses = chain(EXPECT_SECONDS, repeat(EXPECT_SECONDS[-1]))
            while (unsure := await self._look_for(caller, unsure)) & waiting:
                left = until - time.monotonic()
                if left <= 0:
                    break
                await asyncio.sleep(min(next(pauses), left))
        finally:
            self._expecting -= 1
        for one in unsure & waiting:
            self._waited_for[one] = time.monotonic()
            self._waited_for.move_to_end(one)
        while len(self._waited_for) > self._capacity:
            self._waited_for.popitem(last=False)

    async def _look_for(self, caller: Caller, unsure: set[UUID]) -> set[UUID]:
        """Those of the assets that the caller still may not know of."""
        async with self._db.read() as tx:
            hidden = await assets.hidden(tx, caller, unsure)
        for one in unsure - hidden:
            # So that `asset` looks again, should it have found nothing a moment ago.
            self._assets.pop(one, None)
        return hidden

    async def hidden(self, caller: Caller, asset_ids: Collection[UUID]) -> set[UUID]:
        """Those of the assets that the caller may not know of, in one look; `expect` first, they may be new."""
        now = time.monotonic()
        stale = {
            one for one in asset_ids if (known := self._assets.get(one)) is None or now - known[0] >= ASSET_SECONDS
        }
        found = {one for one in asset_ids if one not in stale and not self._known_to(caller, one)}
        try:
            if stale:
                async with self._db.read() as tx:
                    found |= await assets.hidden(tx, caller, stale)
        except Exception as error:
            if not is_outage(error) or not stale <= self._assets.keys():
                raise
            found |= {one for one in stale if not self._known_to(caller, one)}
        return found

    def _known_to(self, caller: Caller, asset_id: UUID) -> bool:
        known = self._assets.get(asset_id)
        return known is not None and known[1] is not None and caller.sees(known[1].asset.owner_team)

    async def named(self, caller: Caller, names: Collection[str]) -> dict[str, UUID]:
        """The assets of these names, where the caller may see one alone; as they were at most NAMED_SECONDS ago."""
        now = time.monotonic()
        found: dict[str, UUID] = {}
        missing: list[str] = []
        for name in names:
            known = self._named.get((caller.teams, name))
            if known is None or now - known[0] >= NAMED_SECONDS:
                missing.append(name)
            elif known[1] is not None:
                found[name] = known[1]
        if missing:
            async with self._db.read() as tx:
                fresh = await assets.named(tx, caller, missing)
            found |= fresh
            for name in missing:
                self._named[caller.teams, name] = (now, fresh.get(name))
                self._named.move_to_end((caller.teams, name))
            while len(self._named) > self._capacity:
                self._named.popitem(last=False)
        return found

    async def asset(self, asset_id: UUID) -> tuple[Watched | None, PromptIndex | None]:
        """The asset as it was at most ASSET_SECONDS ago, and its prompts ready to be looked for."""
        now = time.monotonic()
        known = self._assets.get(asset_id)
        if known is not None and now - known[0] < ASSET_SECONDS:
            return known[1], known[2]
        try:
            async with self._db.read() as tx:
                watched = await assets.watched(tx, asset_id)
                canaries = await usage.canaries_of(tx, asset_id)
        except Exception as error:
            if known is None or not is_outage(error):
                raise
            return known[1], known[2]
        prompts = known[2] if known is not None else None
        changed = known is None or known[1] is None or watched is None or known[1].version != watched.version
        if changed:
            prompts = PromptIndex(watched.fragments, self.key) if watched is not None and watched.fragments else None
        self._assets[asset_id] = (now, watched, prompts)
        self.tracking.register(asset_id, prompts, CanaryIndex(canaries.marks, self.key) if canaries.marks else None)
        self._assets.move_to_end(asset_id)
        while len(self._assets) > self._capacity:
            self._assets.popitem(last=False)
        return watched, prompts

    def suppressions_of(self, findings: Collection[Finding], team: str) -> list[Suppression]:
        """Those in force that may be for one of these findings in a team's traffic."""
        if not self._suppressions or not findings:
            return []
        rule_ids = {None, *(one.rule_id for one in findings)}
        kinds = {None, *(one.kind for one in findings)}
        return [
            one
            for one in self._suppressions
            if one.rule_id in rule_ids and one.kind in kinds and one.team in (None, team)
        ]

    def named_in_rules(self, asset_id: UUID | None) -> UUID | None:
        """The asset if some rule is for certain assets and this is one of them."""
        return asset_id if asset_id in self._named_assets else None

    def block_of(
        self, *, asset_id: UUID | None, session_id: str | None, actor: str | None, team: str, now: datetime
    ) -> Block | None:
        """The containment that forbids an interaction of these in a team's traffic, if any; "" is no team's."""
        targets = (("session", session_id), ("actor", actor), ("asset", str(asset_id) if asset_id else None))
        for kind, target in targets:
            if target is None:
                continue
            for whose in (None, team):
                one = self._containments.get((kind, target, whose))
                if one is not None and (one.expires_at is None or now < one.expires_at):
                    return Block(one.reason, one.containment_id, kind, one.target)
        return None


def compiled(loaded: list[Loaded]) -> Detector:
    """A detector of these rules; the shipped ones that stand unchanged share the pack's compilation."""
    shipped = pack.shipped()
    unchanged = frozenset(
        one.rule.id
        for one in loaded
        if one.rule.id in shipped and pack.digest_of(one.rule) == shipped[one.rule.id].digest
    )
    # The pack's own objects, so that what was read from the database can go.
    known = [Loaded(shipped[one.rule.id].rule, one.version) if one.rule.id in unchanged else one for one in loaded]
    return pack.detector(known, unchanged)
