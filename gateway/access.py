"""Keys and revocations in memory, as current as a second: what every request is checked against.

Keys are loaded when first presented and dropped when they change; revocations are held completely. Changes are numbered
(store.py), so following them is one cheap query: at every notification, and every second in case one was missed. A
replica that could not look for `stale_seconds` no longer knows who was revoked and refuses everybody with 503.

Ids that do not exist are remembered too, for a while and up to a bound, and only so many look-ups run at once: whoever
invents well-formed keys costs the database little and other callers nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime

from gateway import keys, store
from gateway.domain import ApiKey, RevocationKind
from gateway.limits import Policy
from gateway.principals import Principal
from shared import auth
from shared.database import Database, is_outage
from shared.errors import Unavailable
from shared.tokens import Caller

_MAX_UNKNOWN = 4096
_UNKNOWN_SECONDS = 10.0
_MAX_KEYS = 100_000
_LOOK_UPS_AT_ONCE = 8
_ID = slice(len(keys.PREFIX), len(keys.PREFIX) + keys.ID_LENGTH)


class Known:
    """A key in memory."""

    __slots__ = ("digest", "principal")

    def __init__(self, key: ApiKey, principal: Principal) -> None:
        self.digest = key.digest
        self.principal = principal


class Access:
    """What this replica knows of keys and revocations.

    Args:
        peppers: the one that keys are made with, then the one it replaced, if any.
        policies: rate limit of each class of key: `key` and `ingest`.
        stale_seconds: for how long the last look at the database counts.
    """

    def __init__(
        self, db: Database, peppers: tuple[bytes, ...], policies: Mapping[str, Policy], *, stale_seconds: float
    ) -> None:
        self._db = db
        self._peppers = peppers
        self._policies = policies
        self._stale_seconds = stale_seconds
        self._version = 0
        self._looked_at = -float("inf")
        self._keys: dict[str, Known] = {}
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._loading: dict[str, asyncio.Task[Known | None]] = {}
        self._changed: set[str] = set()  # of those being loaded
        self._gate = asyncio.Semaphore(_LOOK_UPS_AT_ONCE)
        self._revoked: dict[tuple[str, str, str | None], float] = {}
        self._used: dict[str, float] = {}

    # keys

    async def principal_of(self, presented: str) -> Principal | None:
        """Whose key this is, or None when it is no key of ours, unknown, expired or revoked.

        Raises:
            Unavailable: it is not in memory and the database cannot be asked.
        """
        key_id = keys.key_id(presented)
        if key_id is None:
            return None
        # What was found is judged itself: when we go on, a change of the key may have dropped it from memory again.
        known = self._keys.get(key_id) or await self._find(key_id)
        return None if known is None else self._judged(key_id, known, presented)

    def known(self, presented: str) -> Principal | None:
        """Whose key this is, if that is known without asking the database and the key is good."""
        key_id = presented[_ID]
        known = self._keys.get(key_id)
        return None if known is None else self._judged(key_id, known, presented)

    def _judged(self, key_id: str, known: Known, presented: str) -> Principal | None:
        if not keys.matches(self._peppers, presented, known.digest):
            return None
        now = time.time()
        if known.principal.ends_at <= now:
            return None
        self._used[key_id] = now
        return known.principal

    async def _find(self, key_id: str) -> Known | None:
        forgotten_at = self._unknown.get(key_id)
        if forgotten_at is not None and time.monotonic() < forgotten_at:
            return None
        loading = self._loading.get(key_id)
        if loading is None:
            loading = self._loading[key_id] = asyncio.create_task(self._load(key_id))
            loading.add_done_callback(lambda _: self._loading.pop(key_id, None))
        return await asyncio.shield(loading)

    async def _load(self, key_id: str) -> Known | None:
        async with self._gate:
            key = None
            self._changed.add(key_id)
            while key_id in self._changed:  # again, when it was changed while we read
                self._changed.discard(key_id)
                try:
                    async with self._db.read() as tx:
                        key = await store.find_key(tx, key_id)
                except Exception as error:
                    if is_outage(error):
                        raise Unavailable("the keys cannot be looked up at the moment") from error
                    raise
        if key is None:
            self._unknown[key_id] = time.monotonic() + _UNKNOWN_SECONDS
            while len(self._unknown) > _MAX_UNKNOWN:
                self._unknown.popitem(last=False)
            return None
        known = Known(key, self._principal(key))
        if len(self._keys) >= _MAX_KEYS:
            self._keys.pop(next(iter(self._keys)))
        self._keys[key_id] = known
        return known

    def _principal(self, key: ApiKey) -> Principal:
        held = auth.scopes_of_roles(key.roles)
        scopes = held if key.scopes is None else held & frozenset(key.scopes)
        policy = self._policies["ingest" if set(key.roles) == {"ingest"} else "key"]
        if key.quota is not None:
            policy = Policy("key", key.quota, key.window_seconds or policy.window_seconds)
        ends_at = key.ends_at()
        return Principal(
            Caller(
                subject=key.subject,
                kind="api_key",
                roles=frozenset(key.roles),
                scopes=scopes,
                teams=None if key.teams is None else frozenset(key.teams),
            ),
            # By subject, so that rotating a key does not fill its bucket again.
            key.subject,
            policy,
            float("inf") if ends_at is None else ends_at.timestamp(),
            key.id,
        )

    # revocations

    def revoked(self, principal: Principal, session_id: str | None) -> bool:
        """Whether this caller, its key, or either of the sessions named is revoked."""
        revoked = self._revoked
        if not revoked:
            return False
        caller = principal.caller
        return (
            self._in_force(RevocationKind.SUBJECT, caller.subject)
            or (principal.key_id is not None and self._in_force(RevocationKind.KEY, principal.key_id))
            or (session_id is not None and self._session_ended(session_id, caller.subject))
            or (caller.session_id is not None and self._session_ended(caller.session_id, caller.subject))
        )

    def _session_ended(self, session_id: str, subject: str) -> bool:
        kind = RevocationKind.SESSION
        return self._in_force(kind, session_id) or self._in_force(kind, session_id, subject)

    def _in_force(self, kind: RevocationKind, value: str, subject: str | None = None) -> bool:
        until = self._revoked.get((kind.value, value, subject))
        return until is not None and until > time.time()

    async def admits(self, principal: Principal, session_id: str | None) -> bool:
        """Whether a caller that was let in before still would be; for answers that last.

        Raises:
            Unavailable: its key has to be looked up and cannot be.
        """
        if self.revoked(principal, session_id) or principal.ends_at <= time.time():
            return False
        if principal.key_id is None:
            return True
        known = self._keys.get(principal.key_id) or await self._find(principal.key_id)
        return known is not None and known.principal.ends_at > time.time()

    # following changes

    @property
    def current(self) -> bool:
        """Whether the last look at the database is recent enough to answer for who is revoked."""
        return time.monotonic() - self._looked_at < self._stale_seconds

    async def refresh(self) -> None:
        """Learn what changed since the last time."""
        started = time.monotonic()
        async with self._db.read() as tx:
            version = await store.version(tx)
            if version != self._version:
                set_back = version < self._version  # to a backup
                since = 0 if set_back else self._version
                changed_keys = await store.keys_changed_since(tx, since)
                changed_revocations = await store.revocations_changed_since(tx, since)
                # Nothing is awaited from here on: at no moment is nobody revoked.
                if set_back:
                    self._keys.clear()
                    self._revoked.clear()
                self._version = version
                for key_id in changed_keys:
                    self._keys.pop(key_id, None)
                    self._unknown.pop(key_id, None)
                    if key_id in self._loading:
                        self._changed.add(key_id)
                for revocation, in_force in changed_revocations:
                    place = (revocation.kind.value, revocation.value, revocation.subject)
                    if in_force:
                        until = revocation.expires_at
                        self._revoked[place] = float("inf") if until is None else until.timestamp()
                    else:
                        self._revoked.pop(place, None)
        self._looked_at = started

    def forget_expired(self) -> None:
        """Drop revocations that ran out."""
        now = time.time()
        for place in [place for place, until in self._revoked.items() if until <= now]:
            del self._revoked[place]

    async def write_last_use(self) -> None:
        """Store when each key was last used, for all keys used since the last call."""
        used, self._used = self._used, {}
        if not used:
            return
        try:
            async with self._db.begin() as tx:
                await store.touch_keys(tx, {key_id: datetime.fromtimestamp(at, UTC) for key_id, at in used.items()})
        except BaseException:
            self._used = {**used, **self._used}
            raise
