"""What an API key and a revocation are, and what may be asked of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from shared.errors import Conflict, Forbidden, Invalid, NotFound

MAX_LIFETIME = timedelta(days=3660)


class KeyNotFound(NotFound):
    """No such API key, or none that you may know of."""


class KeyNotUsable(Conflict):
    """The key was revoked or has expired."""


class BeyondYourOwn(Forbidden):
    """Nobody can hand out more than they hold."""


class RevocationNotFound(NotFound):
    """No such revocation."""


class RevocationKind(StrEnum):
    """What a revocation names.

    session: the `Colonnade-Session` header or the token's `sid`; subject: who asks; key: the id of an API key.
    """

    SESSION = "session"
    SUBJECT = "subject"
    KEY = "key"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is stored; the key itself is not.

    Attributes:
        digest: HMAC-SHA256 of the key under the pepper.
        subject: who asks when this key does; rotation keeps it.
        scopes: narrower than what the roles hold, or None for all of it.
        teams: the teams whose things it sees; None is the whole organisation.
        quota, window_seconds: its own rate limit, or None for its class's.
        rotated_from: id of the key it replaced.
    """

    id: str
    digest: bytes
    name: str
    subject: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...] | None
    teams: tuple[str, ...] | None
    quota: int | None
    window_seconds: int | None
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None = None
    rotated_from: str | None = None
    last_used_at: datetime | None = None

    def usable(self, now: datetime) -> bool:
        return (self.revoked_at is None or self.revoked_at > now) and (self.expires_at is None or self.expires_at > now)

    def ends_at(self) -> datetime | None:
        """When it stops working: expiry, or the end of a rotation's overlap."""
        ends = [at for at in (self.expires_at, self.revoked_at) if at is not None]
        return min(ends) if ends else None


@dataclass(frozen=True, slots=True)
class Revocation:
    """Somebody or something that is refused until `expires_at` (None: until it is lifted).

    Attributes:
        subject: of a session: only this subject's requests are refused in it, for whoever else names a session of that
            name means another; None: everybody's. Always None for the other kinds.
    """

    id: str
    kind: RevocationKind
    value: str
    reason: str
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    subject: str | None = None


def check_grant(
    *,
    roles: Iterable[str],
    known_roles: Iterable[str],
    scopes: Iterable[str] | None,
    scopes_of_roles: frozenset[str],
    teams: Iterable[str] | None,
    grantor_scopes: frozenset[str],
    grantor_teams: frozenset[str] | None,
) -> None:
    """Refuse a key that makes no sense or holds more than the one who makes it.

    Raises:
        Invalid: unknown role, or a scope that the roles do not hold.
        BeyondYourOwn: a scope or team that the grantor does not have.
    """
    known = frozenset(known_roles)
    for role in roles:
        if role not in known:
            raise Invalid(f"{role!r} is not a role that a key can have", field="/roles")
    granted = scopes_of_roles
    if scopes is not None:
        granted = frozenset(scopes)
        surplus = granted - scopes_of_roles
        if surplus:
            raise Invalid(f"the roles do not hold {', '.join(sorted(surplus))}", field="/scopes")
    beyond = granted - grantor_scopes
    if beyond:
        raise BeyondYourOwn(f"you do not hold {', '.join(sorted(beyond))}")
    if grantor_teams is not None and (teams is None or not frozenset(teams) <= grantor_teams):
        raise BeyondYourOwn("your own key is bound to teams; make keys for those only")


def check_expiry(expires_at: datetime | None, now: datetime) -> None:
    """Refuse an end that is past or absurdly far.

    Raises:
        Invalid: not between now and ten years.
    """
    if expires_at is not None and not now < expires_at <= now + MAX_LIFETIME:
        raise Invalid("must lie in the future, at most ten years away", field="/expires_at")
