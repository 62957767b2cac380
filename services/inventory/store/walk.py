"""How far harm goes from one asset: the whole blast radius in one statement.

Level by level, each asset once, at its shortest distance. The levels are rows that hold arrays rather than a row an
asset: a recursive query cannot look at what it found before, but an array that it carries along it can. Ids come back
as bytes in a row, sixteen each: a hundred thousand of them are no work for the driver.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from services.inventory.domain.graph import Impact
from shared.auth import Caller
from shared.database import Tx, driver

REACH_LIMIT = 100_000
"""Most assets that one walk reaches; beyond, it says that it is cut."""

_NOW = "SELECT downstream_id, upstream_id, relation FROM dependency WHERE upstream_id = ANY({}) AND valid_to IS NULL"
# Two parts, each of which has its own partial index.
_THEN = """
    SELECT downstream_id, upstream_id, relation FROM dependency
    WHERE upstream_id = ANY({0}) AND valid_to IS NULL AND valid_from <= $5
    UNION ALL
    SELECT downstream_id, upstream_id, relation FROM dependency
    WHERE upstream_id = ANY({0}) AND valid_to IS NOT NULL AND valid_to > $5 AND valid_from <= $5
"""

_VISIBLE = "((asset.owner_team = ANY($4::text[]) OR asset.asset_id IS NOT NULL AND $4::text[] IS NULL) IS TRUE)"


def _bytes(ids: str) -> str:
    return f"(SELECT string_agg(uuid_send(id), '' ORDER BY n) FROM unnest({ids}) WITH ORDINALITY AS listed (id, n))"  # noqa: S608


def _statement(edges: str, existed: str) -> str:
    return f"""
        WITH RECURSIVE walk (level, opened, seen, parents, relations, teams, missing, restricted) AS (
            SELECT 0, ARRAY[$1::uuid], ARRAY[$1::uuid], NULL::uuid[], NULL::text[], NULL::text[], NULL::uuid[],
                   0::bigint
            UNION ALL
            SELECT walk.level + 1, step.opened, walk.seen || step.seen, step.parents, step.relations, step.teams,
                   step.missing, step.restricted
            FROM walk, LATERAL (
                SELECT array_agg(found.id ORDER BY found.id) FILTER (WHERE {_VISIBLE}) AS opened,
                       array_agg(found.id) AS seen,
                       array_agg(found.parent ORDER BY found.id) FILTER (WHERE {_VISIBLE}) AS parents,
                       array_agg(found.relation ORDER BY found.id) FILTER (WHERE {_VISIBLE}) AS relations,
                       array_agg(asset.owner_team ORDER BY found.id) FILTER (WHERE {_VISIBLE}) AS teams,
                       array_agg(found.id ORDER BY found.id) FILTER (WHERE asset.asset_id IS NULL) AS missing,
                       count(*) FILTER (WHERE asset.asset_id IS NOT NULL AND NOT {_VISIBLE}) AS restricted
                FROM (
                    SELECT DISTINCT ON (downstream_id) downstream_id AS id, upstream_id AS parent, relation
                    FROM ({edges.format("walk.opened")}) edge
                    WHERE NOT EXISTS (SELECT FROM unnest(walk.seen) AS was (id) WHERE was.id = downstream_id)
                    ORDER BY downstream_id, upstream_id, relation
                    LIMIT $3 - cardinality(walk.seen) + 1
                ) found
                LEFT JOIN asset ON asset.asset_id = found.id {existed}
            ) step
            WHERE walk.level < $2 AND cardinality(walk.opened) > 0 AND cardinality(walk.seen) <= $3
        ),
        last AS (SELECT opened, seen FROM walk ORDER BY level DESC LIMIT 1)
        SELECT
            {_bytes("opened")} AS ids,
            {_bytes("parents")} AS parents,
            array_to_string(relations, ' ') AS relations,
            missing,
            restricted,
            (
                SELECT json_object_agg(team, owned)::text
                FROM (SELECT team, count(*) AS owned FROM walk, unnest(teams) AS team GROUP BY team) AS counted
            ) AS owners,
            (
                SELECT cardinality(seen) > $3 OR EXISTS (
                    SELECT FROM ({edges.format("opened")}) edge
                    WHERE NOT EXISTS (SELECT FROM unnest(seen) AS was (id) WHERE was.id = downstream_id)
                )
                FROM last
            ) AS truncated
        FROM walk ORDER BY level
    """  # noqa: S608  # our own text


_WALK_NOW = _statement(_NOW, "")
_WALK_THEN = _statement(_THEN, "AND asset.registered_date <= $5")


async def impact(tx: Tx, caller: Caller, root: UUID, depth: int, as_of: datetime | None = None) -> Impact:
    """Everything that harm in `root` reaches in up to `depth` steps; a wall (an asset of another team) stops it.

    With `as_of`, along the edges that held then, between assets that were registered then.
    """
    connection = await driver(tx)
    teams = None if caller.teams is None else sorted(caller.teams)
    values: list[Any] = [root, depth, REACH_LIMIT, teams]
    statement = _WALK_NOW
    if as_of is not None:
        statement = _WALK_THEN
        values.append(as_of)
    rows = await connection.fetch(statement, *values)
    found = Impact(root, truncated=bool(rows[0]["truncated"]), owners=orjson.loads(rows[0]["owners"] or "{}"))
    for row in rows[1:]:
        found.missing += row["missing"] or ()
        found.restricted += row["restricted"]
        if row["ids"] is None:
            continue
        ids, parents = _split(row["ids"]), _split(row["parents"])
        found.levels.append(ids)
        found.came_from.update(zip(ids, zip(parents, row["relations"].split(" "), strict=True), strict=True))
    return found


def _split(ids: bytes) -> list[bytes]:
    return [ids[start : start + 16] for start in range(0, len(ids), 16)]


_SHOWN = """
    SELECT asset_id, name, asset_type, asset.owner_team, data_classification, deployment_env, lifecycle, risk_score,
           risk_level
    FROM asset LEFT JOIN asset_risk USING (asset_id) WHERE asset_id = ANY($1::uuid[])
"""


async def shown(tx: Tx, asset_ids: list[bytes]) -> dict[bytes, Any]:
    """What the graph shows of these assets, by id."""
    rows = await (await driver(tx)).fetch(_SHOWN, [UUID(bytes=asset_id) for asset_id in asset_ids])
    return {row["asset_id"].bytes: row for row in rows}
