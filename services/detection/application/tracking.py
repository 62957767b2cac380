"""What a replica holds for trackers: usage not shared yet, profiles of assets, sketches of actors, registered texts.

Two kinds of state. A session's depends on the order of its interactions; it belongs to whoever owns the session, who
calls `observe` and stores what is known of it (`stream.sessions`). Everything else adds up: each replica keeps what
came since it last shared, adds it to what all replicas share, usage once a second and profiles every ten, and takes
over the result. So a replica is behind by what the others saw in that time, and a crash loses as much at most. Memory
is bounded: the least recently used assets and actors leave, and are in the database then. What came by the stream is
held until it is stored that it was handled, since whoever takes over in between is told it again.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson

from services.detection.application import usage as application
from services.detection.domain.assets import Asset
from services.detection.domain.detector import Detector, Inspected
from services.detection.domain.following import observed
from services.detection.domain.interaction import Interaction
from services.detection.domain.similarity import PromptIndex
from services.detection.domain.trackers import Session, usage
from services.detection.domain.trackers.canaries import CanaryIndex
from services.detection.domain.trackers.probing import Probing
from services.detection.domain.trackers.profile import Profile
from services.detection.domain.trackers.usage import Place, Used
from services.detection.domain.verdict import Finding
from services.detection.store import usage as store
from shared.contracts.detection import Direction
from shared.database import Database

PROFILE_SECONDS = 10.0
"""Between two exchanges of profiles: kilobytes each, and nothing in them is urgent."""
PROFILES_AT_ONCE = 32
SHARED_FROM = 50
"""Requests of an actor's day from which its sketch is shared: below, there is nothing that it could show."""
_PLACES_AT_MOST = 100_000
_VERSION = 1


class Tracking:
    """One replica's part in tracking."""

    def __init__(self, capacity: int = 20_000) -> None:
        self._capacity = capacity
        self._used: dict[Place, Used] = {}
        self._profiles_at = 0.0
        self._baselines: application.Baselines = {}
        self._profiles: OrderedDict[str, Profile] = OrderedDict()
        self._learned: dict[str, Profile] = {}
        self._actors: OrderedDict[str, Probing] = OrderedDict()
        self._asked: dict[str, Probing] = {}
        self._held = Held()
        self._texts: OrderedDict[UUID, tuple[PromptIndex | None, CanaryIndex | None]] = OrderedDict()

    # -- sessions ------------------------------------------------------------------------------------------------

    def observe(
        self,
        session: Session,
        interaction: Interaction,
        inspected: Inspected,
        *,
        detector: Detector,
        asset: Asset | None,
        now: datetime,
        hold: bool = False,
    ) -> Sequence[Finding]:
        """Take in the next interaction of a session; what shows only now, with session, actor and asset in view.

        An interaction without a session is observed in a new one: canaries need no history.

        Args:
            hold: share what is learned only after `release`.
        """
        prompts, canaries = self._texts.get(asset.asset_id, (None, None)) if asset is not None else (None, None)
        profile = learning = None
        if asset is not None:
            key = str(asset.asset_id)
            profile = _recent(self._profiles, key, Profile)
            learning = (self._held.learned if hold else self._learned).setdefault(key, Profile())
        asked = self._held.asked if hold else self._asked
        sketch = self._ask(interaction, now.timestamp(), asked)
        found = observed(
            detector, interaction, inspected, session, now=now, asset=asset, prompts=prompts, canaries=canaries,
            profile=profile, learning=learning, probing=sketch,
        )  # fmt: skip
        if sketch is not None and found:
            mine = asked[self._actor_of(interaction)]
            mine.announced, mine.announced_membership = sketch.announced, sketch.announced_membership
        return found

    def register(self, asset_id: UUID, prompts: PromptIndex | None, canaries: CanaryIndex | None) -> None:
        """The texts registered for an asset, as they are now."""
        self._texts[asset_id] = prompts, canaries
        self._texts.move_to_end(asset_id)
        while len(self._texts) > self._capacity:
            self._texts.popitem(last=False)

    def _ask(self, interaction: Interaction, at: float, asked: dict[str, Probing]) -> Probing | None:
        """Add an interaction to its actor's sketch in `asked`; the sketch as it was when last shared."""
        key = self._actor_of(interaction)
        if not key:
            return None
        known: Probing = _recent(self._actors, key, Probing)
        mine = asked.get(key)
        if mine is None:
            mine = asked[key] = known.fresh()
        # Chat APIs are sent the whole conversation each time: the last of it is what is new.
        last = {segment.direction: segment.text for segment in interaction.segments}
        if interaction.direction is Direction.INPUT and Direction.INPUT in last:
            mine.ask(last[Direction.INPUT], at, interaction.model)
        elif interaction.direction is Direction.OUTPUT and Direction.OUTPUT in last:
            mine.answer(len(last[Direction.OUTPUT]), at)
        return known

    @staticmethod
    def _actor_of(interaction: Interaction) -> str:
        return next((one.key for one in interaction.subjects() if one.by == "actor"), "")

    # -- usage ---------------------------------------------------------------------------------------------------

    def count(self, interaction: Interaction, now: datetime, *, flagged: bool) -> None:
        """Add what an interaction used to the sums of its asset and its actor."""
        requests = float(interaction.direction is Direction.INPUT)
        if (
            interaction.asset_id is None
            or not interaction.counts
            or not (requests or interaction.tokens or interaction.cost_usd)
        ):
            return
        part = Used(float(interaction.tokens), interaction.cost_usd, requests, float(flagged))
        hour = usage.hour_of(now.timestamp())
        self._add(("asset", str(interaction.asset_id), "hour", hour), part)
        actor = self._actor_of(interaction)
        if actor and len(self._used) < _PLACES_AT_MOST:
            self._add(("actor", actor, "hour", hour), part)
            self._add(("actor", actor, "day", hour // usage.DAY_HOURS), part)

    def _add(self, place: Place, part: Used) -> None:
        known = self._used.get(place)
        if known is None:
            known = self._used[place] = Used()
        known.add(part)

    # -- what is not certain yet ---------------------------------------------------------------------------------

    def release(self) -> None:
        """What was observed and held is certain now: it is shared with the rest."""
        held, self._held = self._held, Held()
        for key, profile in held.learned.items():
            self._learned.setdefault(key, Profile()).merge(profile)
        for key, sketch in held.asked.items():
            before = self._asked.setdefault(key, sketch)
            if before is not sketch:
                before.merge(sketch)

    def drop_held(self) -> None:
        """What was observed and held is observed by somebody else."""
        self._held = Held()

    # -- sharing -------------------------------------------------------------------------------------------------

    async def share(
        self, db: Database, detector: Detector, now: datetime, folding: timedelta, *, everything: bool = False
    ) -> None:
        """Add this replica's part to what all share, take over the result, and raise alerts for what it shows.

        Usage goes each time, profiles and sketches every PROFILE_SECONDS, or with `everything`.

        Raises:
            Exception: as the database; what was not shared then is kept for the next time.
        """
        used, self._used = self._used, {}
        learned: dict[str, Profile] = {}
        asked: dict[str, Probing] = {}
        if everything or now.timestamp() - self._profiles_at >= PROFILE_SECONDS:
            self._profiles_at = now.timestamp()
            learned, self._learned = self._learned, {}
            asked, self._asked = self._asked, {}
        few = {key for key, one in asked.items() if self._requests(key, one) < SHARED_FROM}
        for key in few:
            _recent(self._actors, key, Probing).merge(asked.pop(key))
        # Whatever comes of sharing: actors without an asset are never shared, and an outage may last.
        self._make_room()
        if not (used or learned or asked):
            return
        try:
            if used:
                async with db.begin() as tx:
                    await application.share(tx, used, detector, self._baselines, now, folding)
                used = {}
            # Actors' sketches were kept here alone before: the first time all of it is shared.
            await _exchange(
                db,
                "actor",
                asked,
                lambda key, state: _merged(_probing_of(state), self._whole(key, asked[key], state)),
                lambda key, state: self._actors.update({key: _probing_of(state)}),
                now,
            )
            await _exchange(
                db,
                "asset",
                learned,
                lambda key, state: _merged(_profile_of(state), learned[key]),
                lambda key, state: self._profiles.update({key: _profile_of(state)}),
                now,
            )
        except BaseException:
            self._give_back(used, learned, asked)
            raise
        self._make_room()

    def _requests(self, key: str, part: Probing) -> int:
        known = self._actors.get(key)
        return part.requests + (known.requests if known is not None and known.day == part.day else 0)

    def _whole(self, key: str, part: Probing, state: bytes) -> Probing:
        """What is to be added: the part, and where nothing is stored yet all that this replica kept to itself."""
        known = self._actors.get(key)
        if state or known is None:
            return part
        whole = _probing_of(_packed(known))
        whole.merge(part)
        return whole

    def _give_back(self, used: dict[Place, Used], learned: dict[str, Profile], asked: dict[str, Probing]) -> None:
        for place, amounts in used.items():
            self._add(place, amounts)
        for key, profile in learned.items():
            self._learned.setdefault(key, Profile()).merge(profile)
        for key, sketch in asked.items():
            since = self._asked.get(key)
            if since is not None:
                sketch.merge(since)
            self._asked[key] = sketch

    def _make_room(self) -> None:
        for kept in (self._profiles, self._actors):
            while len(kept) > self._capacity:
                kept.popitem(last=False)
        while len(self._baselines) > self._capacity:
            del self._baselines[next(iter(self._baselines))]


async def _exchange(
    db: Database,
    kind: str,
    parts: dict[str, Any],
    merged: Callable[[str, bytes], bytes],
    know: Callable[[str, bytes], None],
    now: datetime,
) -> None:
    """Add parts to what all replicas share, a few in a transaction; what is shared leaves `parts`.

    An outage leaves thousands to catch up on: in one transaction they would be locked as long as it takes to put all
    of them together, and other replicas with them.
    """
    keys = sorted(parts)
    for start in range(0, len(keys), PROFILES_AT_ONCE):
        some = keys[start : start + PROFILES_AT_ONCE]
        async with db.begin() as tx:
            found = await store.merge_profiles(tx, kind, some, merged, now)
        for key, state in found.items():
            know(key, state)
            del parts[key]


@dataclass(slots=True)
class Held:
    """Parts of profiles and sketches that are not to be shared yet."""

    learned: dict[str, Profile] = field(default_factory=dict)
    asked: dict[str, Probing] = field(default_factory=dict)


def _recent(kept: OrderedDict[str, Any], key: str, new: type[Any]) -> Any:
    known = kept.get(key)
    if known is None:
        known = kept[key] = new()
    kept.move_to_end(key)
    return known


def _packed(one: Profile | Probing) -> bytes:
    return bytes([_VERSION]) + zlib.compress(orjson.dumps(one.parts()), 1)


def _profile_of(state: bytes) -> Profile:
    return Profile.of(orjson.loads(zlib.decompress(state[1:]))) if state[:1] == bytes([_VERSION]) else Profile()


def _probing_of(state: bytes) -> Probing:
    return Probing.of(orjson.loads(zlib.decompress(state[1:]))) if state[:1] == bytes([_VERSION]) else Probing()


def _merged(known: Any, part: Any) -> bytes:
    known.merge(part)
    return _packed(known)
