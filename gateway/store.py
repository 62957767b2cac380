"""The gateway's tables and all SQL on them: keys, revocations, rate windows.

Every change of a key or a revocation takes the next number of `access_state` in its own transaction. That row is locked
until commit, so numbers become visible in order and a replica that has seen number n has missed nothing below it; a
sequence would not give that (a later number can become visible first).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, TIMESTAMP

from gateway.domain import ApiKey, KeyNotFound, Revocation, RevocationKind, RevocationNotFound
from gateway.limits import Grant, Want
from shared.database import Tx

CHANGED = "access_changed"
"""NOTIFY channel of every committed change; a hint that saves waiting for the next poll."""

metadata = sa.MetaData()

access_state = sa.Table(
    "access_state",
    metadata,
    sa.Column("singleton", sa.Boolean, sa.CheckConstraint("singleton"), primary_key=True, server_default=sa.true()),
    sa.Column("version", sa.BigInteger, nullable=False),
)
api_key = sa.Table(
    "api_key",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("digest", BYTEA, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("roles", ARRAY(sa.Text), nullable=False),
    sa.Column("scopes", ARRAY(sa.Text)),
    sa.Column("teams", ARRAY(sa.Text)),
    sa.Column("quota", sa.Integer),
    sa.Column("window_seconds", sa.Integer),
    sa.Column("created_at", TIMESTAMP(timezone=True), nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("expires_at", TIMESTAMP(timezone=True)),
    sa.Column("revoked_at", TIMESTAMP(timezone=True)),
    sa.Column("rotated_from", sa.Text),
    sa.Column("last_used_at", TIMESTAMP(timezone=True)),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Index("api_key_version", "version"),
    sa.Index("api_key_page", "created_at", "id"),
)
revocation = sa.Table(
    "revocation",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("value", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("created_at", TIMESTAMP(timezone=True), nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("expires_at", TIMESTAMP(timezone=True)),
    sa.Column("lifted_at", TIMESTAMP(timezone=True)),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("subject", sa.Text),
    sa.Index("revocation_version", "version"),
    sa.Index("revocation_page", "created_at", "id"),
    # The same thing revoked twice is one revocation, also when two respond at once.
    sa.Index(
        "revocation_in_force_for",
        "kind",
        "value",
        "subject",
        unique=True,
        postgresql_where=sa.text("lifted_at IS NULL"),
        postgresql_nulls_not_distinct=True,
    ),
)
rate_window = sa.Table(
    "rate_window",
    metadata,
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("started_at", TIMESTAMP(timezone=True), nullable=False),
    sa.Column("window_seconds", sa.Integer, nullable=False),
    sa.Column("quota", sa.BigInteger, nullable=False),
    sa.Column("used", sa.BigInteger, nullable=False),
    sa.Column("granted", sa.BigInteger, nullable=False),
)

_KEY_COLUMNS = [column for column in api_key.c if column.name != "version"]
_REVOCATION_COLUMNS = [column for column in revocation.c if column.name not in ("version", "lifted_at")]


def _key(row: Any) -> ApiKey:
    fields = dict(row._mapping)
    for name in ("roles", "scopes", "teams"):
        if fields[name] is not None:
            fields[name] = tuple(fields[name])
    return ApiKey(**fields)


def _revocation(row: Any) -> Revocation:
    fields = dict(row._mapping)
    return Revocation(**{**fields, "kind": RevocationKind(fields["kind"])})


async def next_version(tx: Tx) -> int:
    """Number this transaction's change, and wake the replicas when it commits."""
    version = await tx.scalar(
        access_state.update().values(version=access_state.c.version + 1).returning(access_state.c.version)
    )
    await tx.execute(sa.select(sa.func.pg_notify(CHANGED, "")))
    assert version is not None, "the migrations put the one row there"
    return int(version)


async def version(tx: Tx) -> int:
    return int((await tx.execute(sa.select(access_state.c.version))).scalar_one())


# API keys


async def add_key(tx: Tx, key: ApiKey) -> None:
    values = {column.name: getattr(key, column.name) for column in _KEY_COLUMNS}
    for name in ("roles", "scopes", "teams"):
        if values[name] is not None:
            values[name] = list(values[name])
    await tx.execute(api_key.insert().values(**values, version=await next_version(tx)))


async def key(tx: Tx, key_id: str, *, lock: bool = False) -> ApiKey:
    """One key.

    Raises:
        KeyNotFound
    """
    found = await find_key(tx, key_id, lock=lock)
    if found is None:
        raise KeyNotFound(f"there is no API key {key_id!r}")
    return found


async def find_key(tx: Tx, key_id: str, *, lock: bool = False) -> ApiKey | None:
    query = sa.select(*_KEY_COLUMNS).where(api_key.c.id == key_id)
    row = (await tx.execute(query.with_for_update() if lock else query)).first()
    return None if row is None else _key(row)


async def page_of_keys(
    tx: Tx, limit: int, after: tuple[Any, ...] | None, teams: frozenset[str] | None, include_revoked: bool
) -> list[ApiKey]:
    """Up to `limit` keys, newest first, after (created_at, id); only keys within `teams` when that is not None."""
    query = sa.select(*_KEY_COLUMNS).order_by(api_key.c.created_at.desc(), api_key.c.id.desc()).limit(limit)
    if not include_revoked:
        query = query.where(sa.or_(api_key.c.revoked_at.is_(None), api_key.c.revoked_at > sa.func.now()))
    if teams is not None:
        query = query.where(api_key.c.teams.contained_by(sorted(teams)))
    if after is not None:
        query = query.where(sa.tuple_(api_key.c.created_at, api_key.c.id) < sa.tuple_(_time(after[0]), after[1]))
    return [_key(row) for row in await tx.execute(query)]


async def end_key(tx: Tx, key_id: str, at: datetime) -> None:
    """Revoke a key as of `at`, or earlier if it already was."""
    ends = sa.func.least(sa.func.coalesce(api_key.c.revoked_at, at), at)
    await tx.execute(
        api_key.update().where(api_key.c.id == key_id).values(revoked_at=ends, version=await next_version(tx))
    )


async def keys_changed_since(tx: Tx, seen: int) -> list[str]:
    return list(await tx.scalars(sa.select(api_key.c.id).where(api_key.c.version > seen)))


async def touch_keys(tx: Tx, used: Mapping[str, datetime]) -> None:
    """Record last use; takes no number, for nothing depends on it."""
    ids = sa.bindparam("ids", list(used), ARRAY(sa.Text))
    times = sa.bindparam("times", list(used.values()), ARRAY(TIMESTAMP(timezone=True)))
    seen = sa.func.unnest(ids, times).table_valued("id", "at").render_derived()
    await tx.execute(
        api_key.update()
        .where(api_key.c.id == seen.c.id)
        .values(last_used_at=sa.func.greatest(api_key.c.last_used_at, seen.c.at))
    )


# Revocations


async def add_revocation(tx: Tx, new: Revocation) -> Revocation:
    """Add it, or extend the one in force for the same thing, which is returned then."""
    in_force = sa.select(*_REVOCATION_COLUMNS, revocation.c.lifted_at).where(
        revocation.c.kind == new.kind.value,
        revocation.c.value == new.value,
        revocation.c.subject.is_not_distinct_from(new.subject),
        revocation.c.lifted_at.is_(None),
    )
    number = await next_version(tx)  # also the lock that makes two of these take turns
    row = (await tx.execute(in_force)).first()
    if row is not None:
        # The longer of both; None is for ever.
        until = None if row.expires_at is None or new.expires_at is None else max(row.expires_at, new.expires_at)
        changed = (
            revocation.update()
            .where(revocation.c.id == row.id)
            .values(expires_at=until, version=number)
            .returning(*_REVOCATION_COLUMNS)
        )
        return _revocation((await tx.execute(changed)).one())
    values = {column.name: getattr(new, column.name) for column in _REVOCATION_COLUMNS}
    await tx.execute(revocation.insert().values(**{**values, "kind": new.kind.value}, version=number))
    return new


async def lift_revocation(tx: Tx, revocation_id: str, at: datetime) -> Revocation:
    """End a revocation.

    Raises:
        RevocationNotFound: there is none, or it was lifted before.
    """
    lifted = (
        revocation.update()
        .where(revocation.c.id == revocation_id, revocation.c.lifted_at.is_(None))
        .values(lifted_at=at, version=await next_version(tx))
        .returning(*_REVOCATION_COLUMNS)
    )
    row = (await tx.execute(lifted)).first()
    if row is None:
        raise RevocationNotFound(f"there is no revocation {revocation_id!r} in force")
    return _revocation(row)


async def page_of_revocations(
    tx: Tx, limit: int, after: tuple[Any, ...] | None, kind: str | None, value: str | None
) -> list[Revocation]:
    """Up to `limit` revocations in force, newest first."""
    query = (
        sa.select(*_REVOCATION_COLUMNS)
        .where(revocation.c.lifted_at.is_(None))
        .where(sa.or_(revocation.c.expires_at.is_(None), revocation.c.expires_at > sa.func.now()))
        .order_by(revocation.c.created_at.desc(), revocation.c.id.desc())
        .limit(limit)
    )
    if kind is not None:
        query = query.where(revocation.c.kind == kind)
    if value is not None:
        query = query.where(revocation.c.value == value)
    if after is not None:
        query = query.where(sa.tuple_(revocation.c.created_at, revocation.c.id) < sa.tuple_(_time(after[0]), after[1]))
    return [_revocation(row) for row in await tx.execute(query)]


async def revocations_changed_since(tx: Tx, seen: int) -> list[tuple[Revocation, bool]]:
    """Revocations with whether each is in force (its expiry aside)."""
    query = sa.select(*_REVOCATION_COLUMNS, revocation.c.lifted_at.is_(None).label("in_force")).where(
        revocation.c.version > seen
    )
    if seen == 0:  # a fresh replica needs none that are over
        query = query.where(revocation.c.lifted_at.is_(None)).where(
            sa.or_(revocation.c.expires_at.is_(None), revocation.c.expires_at > sa.func.now())
        )
    changed = []
    for row in await tx.execute(query):
        fields = dict(row._mapping)
        in_force = fields.pop("in_force")
        changed.append((Revocation(**{**fields, "kind": RevocationKind(fields["kind"])}), in_force))
    return changed


def _time(text: Any) -> datetime:
    return datetime.fromisoformat(str(text))


# Rate windows

_LEASE = sa.text(
    """
    INSERT INTO rate_window AS held (subject, started_at, window_seconds, quota, used, granted)
    SELECT subject, now(), seconds, quota, least(wanted, quota), least(wanted, quota)
    FROM unnest(:subjects, :seconds, :quotas, :wanted) AS ask (subject, seconds, quota, wanted)
    ORDER BY subject
    ON CONFLICT (subject) DO UPDATE SET
        (started_at, window_seconds, quota, used, granted) = (
            SELECT
                CASE WHEN over THEN excluded.started_at ELSE held.started_at END,
                excluded.window_seconds,
                excluded.quota,
                CASE WHEN over THEN 0 ELSE held.used END + grant_now,
                grant_now
            FROM (
                SELECT over,
                    greatest(least(excluded.granted, excluded.quota - CASE WHEN over THEN 0 ELSE held.used END), 0)
                    AS grant_now
                -- A start in the future is a clock that was set back; without this such a window would not end for
                -- hours.
                FROM (
                    SELECT held.started_at + make_interval(secs => excluded.window_seconds) <= excluded.started_at
                        OR held.started_at > excluded.started_at + interval '5 seconds' AS over
                ) AS judged
            ) AS decided
        )
    RETURNING subject, granted, greatest(quota - used, 0) AS remaining,
        (extract(epoch FROM started_at) * 1000000)::bigint AS window,
        extract(epoch FROM started_at + make_interval(secs => window_seconds) - clock_timestamp())::float8 AS ends_in
    """
).bindparams(
    sa.bindparam("subjects", type_=ARRAY(sa.Text)),
    sa.bindparam("seconds", type_=ARRAY(sa.Integer)),
    sa.bindparam("quotas", type_=ARRAY(sa.BigInteger)),
    sa.bindparam("wanted", type_=ARRAY(sa.BigInteger)),
)


async def lease(tx: Tx, wants: Sequence[Want]) -> list[Grant]:
    """Take permits out of the windows; a window whose time is over starts anew. See limits.py.

    Subjects are locked in order, so that two replicas asking for the same ones never wait for each other in a circle.
    """
    rows = await tx.execute(
        _LEASE,
        {
            "subjects": [want.subject for want in wants],
            "seconds": [want.policy.window_seconds for want in wants],
            "quotas": [want.policy.quota for want in wants],
            "wanted": [want.count for want in wants],
        },
    )
    return [Grant(row.subject, row.granted, row.remaining, row.window, row.ends_in) for row in rows]


async def forget_old_windows(tx: Tx) -> None:
    """Drop windows that ended more than a day ago."""
    await tx.execute(rate_window.delete().where(rate_window.c.started_at < sa.func.now() - sa.text("interval '1 day'")))
