"""Digests denied and allowed, which assets have which, and whom a denial reaches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from services.inventory.domain.artifacts import MODEL_TYPES, Entry, Hit, Mode, Verdict
from services.inventory.store.schema import (
    artifact_digest_table,
    artifact_hit_table,
    artifact_policy_table,
    asset_table,
)
from shared.auth import Caller, visible
from shared.contracts.inventory import AssetType
from shared.database import Tx, driver

_LOCK = 7_235_427_961_773_752_321  # the triggers in migrations/versions/2026-11-28_0840_supply_chain.py take the same
_entry = artifact_digest_table.c
_hit = artifact_hit_table.c
_asset = asset_table.c

_PUT = """
    INSERT INTO artifact_digest AS listed
        (algorithm, digest, verdict, reason, reference, expires_at, version, updated_at, updated_by)
    SELECT DISTINCT ON (algorithm, digest) algorithm, digest, verdict, reason, reference, expires_at, 1, $7, $8
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[])
        WITH ORDINALITY AS told (algorithm, digest, verdict, reason, reference, expires_at, place)
    ORDER BY algorithm, digest, place DESC
    ON CONFLICT (algorithm, digest) DO UPDATE
    SET verdict = excluded.verdict, reason = excluded.reason, reference = excluded.reference,
        expires_at = excluded.expires_at, version = listed.version + 1, updated_at = excluded.updated_at,
        updated_by = excluded.updated_by
    WHERE (listed.verdict, listed.reason, listed.reference, listed.expires_at)
        IS DISTINCT FROM (excluded.verdict, excluded.reason, excluded.reference, excluded.expires_at)
    RETURNING algorithm, digest, verdict, version
"""
_FORGET_HITS = """
    DELETE FROM artifact_hit AS hit USING unnest($1::text[], $2::text[]) AS told (algorithm, digest)
    WHERE hit.algorithm = told.algorithm AND hit.digest = told.digest
"""
_HELD = """
    SELECT DISTINCT held.algorithm, held.digest
    FROM asset_digest held JOIN unnest($1::text[], $2::text[]) AS told (algorithm, digest)
        ON held.digest = told.digest AND held.algorithm = told.algorithm
"""
# Who has the digest itself, a page at a time.
_HOLDERS = """
    INSERT INTO artifact_hit (algorithm, digest, asset_id, holder_id, place, path, followed, found_at)
    SELECT $1, $2, asset_id, asset_id, min(place), ARRAY[asset_id], false, $3
    FROM asset_digest held JOIN asset USING (asset_id)
    WHERE held.algorithm = $1 AND held.digest = $2 AND asset.lifecycle <> 'retired' AND NOT EXISTS (
        SELECT FROM artifact_hit hit WHERE hit.algorithm = $1 AND hit.digest = $2 AND hit.asset_id = held.asset_id
    )
    GROUP BY asset_id ORDER BY asset_id LIMIT $4
    RETURNING asset_id
"""
_OPEN = """
    SELECT asset_id FROM artifact_hit WHERE algorithm = $1 AND digest = $2 AND NOT followed
    ORDER BY cardinality(path), asset_id LIMIT $3
"""
# What depends on some hits directly, each by the shortest of their ways. Of one of more than 64 steps the middle goes.
# OFFSET 0 keeps the planner to index look-ups, whatever it thinks of a table that was empty when it last looked.
_DEPENDENTS = """
    INSERT INTO artifact_hit (algorithm, digest, asset_id, holder_id, place, path, followed, found_at)
    SELECT DISTINCT ON (edge.downstream_id) $1, $2, edge.downstream_id, hit.holder_id, hit.place,
        CASE WHEN cardinality(hit.path) < 64 THEN hit.path ELSE hit.path[:32] || hit.path[34:] END
            || edge.downstream_id,
        false, $3
    FROM artifact_hit hit
    CROSS JOIN LATERAL (
        SELECT dependency.downstream_id FROM dependency WHERE dependency.upstream_id = hit.asset_id
            AND dependency.valid_to IS NULL OFFSET 0
    ) AS edge
    CROSS JOIN LATERAL (
        SELECT FROM asset WHERE asset.asset_id = edge.downstream_id AND asset.lifecycle <> 'retired' AND NOT EXISTS (
            SELECT FROM artifact_hit known
            WHERE known.algorithm = $1 AND known.digest = $2 AND known.asset_id = edge.downstream_id
        ) OFFSET 0
    ) AS living
    WHERE hit.algorithm = $1 AND hit.digest = $2 AND hit.asset_id = ANY($4::uuid[])
    ORDER BY edge.downstream_id, cardinality(hit.path) LIMIT $5
    RETURNING asset_id
"""
# What stays is not taken away and put back: to whom a denial was told would be told it again.
_DROP_BILL = """
    DELETE FROM asset_digest held WHERE asset_id = $1 AND origin = $2 AND NOT EXISTS (
        SELECT FROM unnest($3::text[], $4::text[]) AS listed (algorithm, digest)
        WHERE listed.algorithm = held.algorithm AND listed.digest = held.digest
    )
"""
_PUT_BILL = """
    INSERT INTO asset_digest (asset_id, origin, algorithm, digest, place)
    SELECT $1, $2, algorithm, digest, min(place)
    FROM unnest($3::text[], $4::text[], $5::text[]) AS listed (algorithm, digest, place)
    GROUP BY algorithm, digest
    ON CONFLICT DO NOTHING
"""
_FOLLOWED = """
    UPDATE artifact_hit SET followed = true WHERE algorithm = $1 AND digest = $2 AND asset_id = ANY($3::uuid[])
"""


@dataclass(frozen=True, slots=True)
class Put:
    """An entry that was added or changed."""

    algorithm: str
    digest: str
    verdict: Verdict
    version: int


async def lock(tx: Tx) -> None:
    """Until the transaction ends, nobody else writes which digests assets have or what depends on what."""
    await (await driver(tx)).execute("SELECT pg_advisory_xact_lock($1)", _LOCK)


async def put(tx: Tx, entries: Sequence[Entry]) -> list[Put]:
    """Keep entries, of several for one digest the last; those that were added or changed. Take `lock` first."""
    first = entries[0]
    columns = [
        [getattr(one, name) for one in entries]
        for name in ("algorithm", "digest", "verdict", "reason", "reference", "expires_at")
    ]
    rows = await (await driver(tx)).fetch(_PUT, *columns, first.updated_at, first.updated_by)
    return [Put(row["algorithm"], row["digest"], Verdict(row["verdict"]), row["version"]) for row in rows]


async def remove(tx: Tx, algorithm: str, digest: str) -> bool:
    """Take a digest off the list; False when it is on none."""
    gone = await tx.execute(artifact_digest_table.delete().filter_by(algorithm=algorithm, digest=digest))
    return bool(gone.rowcount)


async def any_expired(tx: Tx, at: datetime) -> bool:
    return bool(await tx.scalar(sa.select(sa.exists().where(_entry.expires_at <= at))))


async def remove_expired(tx: Tx, at: datetime, limit: int) -> list[tuple[str, str]]:
    """Take entries whose time is over off the list; which."""
    over = sa.select(_entry.algorithm, _entry.digest).where(_entry.expires_at <= at).limit(limit)
    gone = await tx.execute(
        artifact_digest_table.delete()
        .where(sa.tuple_(_entry.algorithm, _entry.digest).in_(over))
        .returning(_entry.algorithm, _entry.digest)
    )
    return [(row.algorithm, row.digest) for row in gone]


async def forget_hits(tx: Tx, digests: Sequence[tuple[str, str]]) -> None:
    """Whom a denial that is no more reached is not remembered: a new one reaches them anew."""
    if digests:
        await (await driver(tx)).execute(_FORGET_HITS, *(list(column) for column in zip(*digests, strict=True)))


async def held(tx: Tx, digests: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those of the digests that some asset has."""
    if not digests:
        return []
    rows = await (await driver(tx)).fetch(_HELD, *(list(column) for column in zip(*digests, strict=True)))
    return sorted((row["algorithm"], row["digest"]) for row in rows)


async def get(tx: Tx, algorithm: str, digest: str) -> Entry | None:
    row = (await tx.execute(sa.select(artifact_digest_table).filter_by(algorithm=algorithm, digest=digest))).first()
    return None if row is None else _read(row)


async def page(
    tx: Tx, *, verdict: Verdict | None, algorithm: str | None, after: Sequence[str] | None, limit: int
) -> list[Entry]:
    """Entries by algorithm and digest."""
    query = sa.select(artifact_digest_table).order_by(_entry.algorithm, _entry.digest).limit(limit)
    if verdict is not None:
        query = query.where(_entry.verdict == verdict)
    if algorithm is not None:
        query = query.where(_entry.algorithm == algorithm)
    if after is not None:
        query = query.where(sa.tuple_(_entry.algorithm, _entry.digest) > sa.tuple_(*map(sa.literal, after)))
    return [_read(row) for row in await tx.execute(query)]


def _read(row: Any) -> Entry:
    return Entry(**{**row._mapping, "verdict": Verdict(row.verdict)})


# -- whom a denial reaches -------------------------------------------------------------------------------------------


async def follow(tx: Tx, denial: Entry, at: datetime, limit: int) -> tuple[list[Hit], bool]:
    """Up to `limit` assets that the denial reaches and that were not known yet, and whether there may be more.

    Breadth first, and what is known is kept: so each asset comes once, whenever and however often this is called.
    Take `lock` first.
    """
    connection = await driver(tx)
    whose = (denial.algorithm, denial.digest)
    found = [row["asset_id"] for row in await connection.fetch(_HOLDERS, *whose, at, limit)]
    while len(found) < limit:
        opened = [row["asset_id"] for row in await connection.fetch(_OPEN, *whose, limit)]
        if not opened:
            return await _hits(tx, *whose, found), False
        room = limit - len(found)
        reached = [row["asset_id"] for row in await connection.fetch(_DEPENDENTS, *whose, at, opened, room)]
        found += reached
        if len(reached) < room:
            await connection.execute(_FOLLOWED, *whose, opened)
    return await _hits(tx, *whose, found), True


_HIT = (
    sa.select(artifact_hit_table, _asset.name, _asset.asset_type, _asset.owner_team)
    .select_from(artifact_hit_table.join(asset_table, _asset.asset_id == _hit.asset_id))
)  # fmt: skip


async def _hits(tx: Tx, algorithm: str, digest: str, asset_ids: Sequence[UUID]) -> list[Hit]:
    if not asset_ids:
        return []
    query = _HIT.where(_hit.algorithm == algorithm, _hit.digest == digest, _hit.asset_id.in_(asset_ids))
    return [_hit_of(row) for row in await tx.execute(query.order_by(sa.func.cardinality(_hit.path), _hit.asset_id))]


def _hit_of(row: Any) -> Hit:
    return Hit(
        algorithm=row.algorithm,
        digest=row.digest,
        asset_id=row.asset_id,
        asset_name=row.name,
        asset_type=AssetType(row.asset_type),
        owner_team=row.owner_team,
        holder_id=row.holder_id,
        place=row.place,
        path=tuple(row.path),
        found_at=row.found_at,
    )


async def hits(
    tx: Tx, caller: Caller, algorithm: str, digest: str, *, after: UUID | None, limit: int
) -> list[Hit]:  # fmt: skip
    """Assets that the denial of a digest reaches and that the caller may see, by id."""
    query = _HIT.where(_hit.algorithm == algorithm, _hit.digest == digest, visible(caller, _asset.owner_team))
    if after is not None:
        query = query.where(_hit.asset_id > after)
    return [_hit_of(row) for row in await tx.execute(query.order_by(_hit.asset_id).limit(limit))]


async def hidden(tx: Tx, caller: Caller, asset_ids: Sequence[UUID]) -> set[UUID]:
    """Those of the assets that the caller may not know of."""
    if caller.organization_wide:
        return set()
    query = sa.select(_asset.asset_id).where(_asset.asset_id.in_(asset_ids), visible(caller, _asset.owner_team))
    return set(asset_ids) - set((await tx.execute(query)).scalars())


async def put_bill(tx: Tx, asset_id: UUID, origin: str, digests: Sequence[tuple[str, str, str]]) -> None:
    """Let the asset have what a supplied bill of materials lists for it, (algorithm, digest, component), and nothing of
    what the same bill listed before."""
    columns = [list(column) for column in zip(*digests, strict=True)] or [[], [], []]
    connection = await driver(tx)
    await connection.execute(_DROP_BILL, asset_id, origin, *columns[:2])
    await connection.execute(_PUT_BILL, asset_id, origin, *columns)


# -- the allow-list --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Policy:
    """Whether a team's production models (team "": everybody's) have to be on the allow-list."""

    team: str
    mode: Mode
    version: int
    updated_at: datetime
    updated_by: str


async def policies(tx: Tx) -> list[Policy]:
    rows = await tx.execute(sa.select(artifact_policy_table).order_by(artifact_policy_table.c.team))
    return [Policy(**{**row._mapping, "mode": Mode(row.mode)}) for row in rows]


async def put_policy(tx: Tx, policy: Policy) -> None:
    values = {name: getattr(policy, name) for name in policy.__slots__}
    stmt = insert(artifact_policy_table).values(values)
    await tx.execute(stmt.on_conflict_do_update(index_elements=["team"], set_=values))


_NOT_ALLOWED = f"""
    SELECT asset.asset_id, asset.name, asset.asset_type, asset.owner_team, files.unlisted
    FROM asset
    LEFT JOIN artifact_policy own ON own.team = asset.owner_team AND asset.owner_team <> ''
    LEFT JOIN artifact_policy everybody ON everybody.team = ''
    CROSS JOIN LATERAL (
        SELECT coalesce(array_agg(path ORDER BY path) FILTER (WHERE NOT allowed), ARRAY[]::text[]) AS unlisted,
            count(*) AS files
        FROM (
            SELECT file.path, bool_or(entry.verdict IS NOT NULL) AS allowed
            FROM jsonb_to_recordset(asset.integrity) AS file (path text, algorithm text, digest text)
            LEFT JOIN artifact_digest entry ON entry.algorithm = file.algorithm AND entry.digest = file.digest
                AND entry.verdict = 'allowed' AND (entry.expires_at IS NULL OR entry.expires_at > clock_timestamp())
            GROUP BY file.path
        ) AS each_file
    ) AS files
    WHERE asset.asset_id > $1 AND asset.deployment_env = 'production' AND asset.lifecycle = 'active'
        AND asset.asset_type IN ({", ".join(f"'{one.value}'" for one in MODEL_TYPES)})
        AND asset.is_self_hosted AND coalesce(own.mode, everybody.mode, 'off') = 'allow_list'
        AND ($2::text[] IS NULL OR asset.owner_team = ANY($2))
        AND (files.files = 0 OR cardinality(files.unlisted) > 0)
    ORDER BY asset.asset_id LIMIT $3
"""  # noqa: S608  # our own names


@dataclass(frozen=True, slots=True)
class Unlisted:
    """A production model with files that nobody vouched for, or with no digests to tell by."""

    asset_id: UUID
    name: str
    asset_type: AssetType
    owner_team: str
    files: tuple[str, ...]


async def unlisted(tx: Tx, caller: Caller, *, after: UUID | None, limit: int) -> list[Unlisted]:
    """Production models that we host and that are not, or not wholly, on the allow-list although they have to be."""
    teams = None if caller.teams is None else sorted(caller.teams)
    rows = await (await driver(tx)).fetch(_NOT_ALLOWED, after or UUID(int=0), teams, limit)
    return [
        Unlisted(row["asset_id"], row["name"], AssetType(row["asset_type"]), row["owner_team"], tuple(row["unlisted"]))
        for row in rows
    ]
