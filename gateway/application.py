"""What can be done to keys and revocations; each in the one transaction of its request."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from gateway import keys, store
from gateway.domain import (
    ApiKey,
    KeyNotFound,
    KeyNotUsable,
    Revocation,
    RevocationKind,
    check_expiry,
    check_grant,
)
from shared import audit
from shared.auth import ROLES, demand_organization, scopes_of_roles
from shared.database import Tx
from shared.errors import Invalid
from shared.tokens import Caller


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """What a new key is asked to be; see domain.ApiKey."""

    name: str
    roles: Sequence[str]
    scopes: Sequence[str] | None = None
    teams: Sequence[str] | None = None
    expires_at: datetime | None = None
    quota: int | None = None
    window_seconds: int | None = None


async def create_key(tx: Tx, caller: Caller, wanted: KeyRequest, pepper: bytes, now: datetime) -> tuple[ApiKey, str]:
    """Make a key; returns it and, for the only time, its clear text.

    Raises:
        Invalid: the roles, scopes or expiry make no sense.
        BeyondYourOwn: the key would hold more than the caller does.
    """
    check_expiry(wanted.expires_at, now)
    check_grant(
        roles=wanted.roles,
        known_roles=set(ROLES) - {"service"},
        scopes=wanted.scopes,
        scopes_of_roles=scopes_of_roles(wanted.roles),
        teams=wanted.teams,
        grantor_scopes=caller.scopes,
        grantor_teams=caller.teams,
    )
    new = keys.generate()
    key = ApiKey(
        id=new.id,
        digest=keys.digest(pepper, new.plaintext),
        name=wanted.name,
        subject=f"key:{new.id}",
        roles=tuple(sorted(set(wanted.roles))),
        scopes=None if wanted.scopes is None else tuple(sorted(set(wanted.scopes))),
        teams=None if wanted.teams is None else tuple(sorted(set(wanted.teams))),
        quota=wanted.quota,
        window_seconds=wanted.window_seconds,
        created_at=now,
        created_by=caller.subject,
        expires_at=wanted.expires_at,
    )
    await store.add_key(tx, key)
    await audit.record(tx, caller, action="api_key.created", target=key.id, detail=_told(key))
    return key, new.plaintext


async def rotate_key(
    tx: Tx, caller: Caller, key_id: str, overlap: timedelta, pepper: bytes, now: datetime
) -> tuple[ApiKey, str]:
    """Replace a key by a new one of the same subject and rights; the old one works on for `overlap`.

    Raises:
        KeyNotFound: there is none, or it reaches beyond the caller's teams.
        KeyNotUsable: it was revoked or has expired.
        BeyondYourOwn: the key holds more than the caller does.
    """
    old = await visible_key(tx, caller, key_id, lock=True)
    if not old.usable(now) or old.revoked_at is not None:
        raise KeyNotUsable(f"the API key {key_id} was revoked, rotated or has expired")
    check_grant(
        roles=old.roles,
        known_roles=set(ROLES),
        scopes=old.scopes,
        scopes_of_roles=scopes_of_roles(old.roles),
        teams=old.teams,
        grantor_scopes=caller.scopes,
        grantor_teams=caller.teams,
    )
    new = keys.generate()
    key = replace(
        old,
        id=new.id,
        digest=keys.digest(pepper, new.plaintext),
        created_at=now,
        created_by=caller.subject,
        rotated_from=old.id,
        last_used_at=None,
    )
    await store.add_key(tx, key)
    await store.end_key(tx, old.id, now + overlap)
    detail = {"replaced": old.id, "overlap_seconds": int(overlap.total_seconds())}
    await audit.record(tx, caller, action="api_key.rotated", target=key.id, detail=detail)
    return key, new.plaintext


async def revoke_key(tx: Tx, caller: Caller, key_id: str, now: datetime) -> None:
    """Revoke a key at once; revoking it again changes nothing.

    Raises:
        KeyNotFound: there is none, or it reaches beyond the caller's teams.
    """
    key = await visible_key(tx, caller, key_id, lock=True)
    if key.revoked_at is not None and key.revoked_at <= now:
        return
    await store.end_key(tx, key.id, now)
    await audit.record(tx, caller, action="api_key.revoked", target=key.id, detail={"name": key.name})


async def visible_key(tx: Tx, caller: Caller, key_id: str, *, lock: bool = False) -> ApiKey:
    """One key, if it lies within the caller's teams.

    Raises:
        KeyNotFound
    """
    key = await store.key(tx, key_id, lock=lock)
    if caller.teams is not None and (key.teams is None or not frozenset(key.teams) <= caller.teams):
        raise KeyNotFound(f"there is no API key {key_id!r}")
    return key


async def revoke(
    tx: Tx,
    caller: Caller,
    kind: RevocationKind,
    value: str,
    reason: str,
    expires_at: datetime | None,
    now: datetime,
    *,
    subject: str | None = None,
) -> Revocation:
    """Refuse a session, subject or key from now on. Asked twice, the longer one counts.

    Args:
        subject: in whose requests alone a session is refused; None: in everybody's.

    Raises:
        Invalid: the expiry is past or too far, or a subject is given for another kind than a session.
        Forbidden: the caller is bound to teams; sessions and subjects belong to none.
    """
    demand_organization(caller, "a revocation")
    check_expiry(expires_at, now)
    if subject is not None and kind is not RevocationKind.SESSION:
        raise Invalid("only a session is revoked for one subject", field="/subject")
    wanted = Revocation(
        id=f"rev_{secrets.token_hex(12)}",
        kind=kind,
        value=value,
        reason=reason,
        created_at=now,
        created_by=caller.subject,
        expires_at=expires_at,
        subject=subject,
    )
    in_force = await store.add_revocation(tx, wanted)
    until = expires_at and expires_at.isoformat()
    detail = {"revocation": in_force.id, "reason": reason, "expires_at": until, "subject": subject}
    await audit.record(tx, caller, action=f"{kind.value}.revoked", target=value, detail=detail)
    return in_force


async def lift(tx: Tx, caller: Caller, revocation_id: str, now: datetime) -> Revocation:
    """End a revocation.

    Raises:
        RevocationNotFound: there is none in force of that id.
    """
    demand_organization(caller, "a revocation")
    lifted = await store.lift_revocation(tx, revocation_id, now)
    detail = {"revocation": lifted.id, "subject": lifted.subject}
    await audit.record(tx, caller, action=f"{lifted.kind.value}.restored", target=lifted.value, detail=detail)
    return lifted


def _told(key: ApiKey) -> dict[str, object]:
    return {
        "name": key.name,
        "subject": key.subject,
        "roles": list(key.roles),
        "scopes": None if key.scopes is None else list(key.scopes),
        "teams": None if key.teams is None else list(key.teams),
        "expires_at": key.expires_at and key.expires_at.isoformat(),
    }
