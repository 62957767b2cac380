"""How far harm goes from one asset: the whole blast radius.

Level by level, each asset once, at its shortest distance. Each level is a few statements that take one array of ids
and are answered in the order of an index: joins of tables a row at a time cost three times as much, and planned for
ten thousand ids they are planned for the wrong number when a plan is kept. Edges come back as bytes in one row, 32 an
asset: a hundred thousand of them are no work for the driver. Of assets, only those that are shown come as rows.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import UUID

import asyncpg
from asyncpg.pgproto import pgproto

from services.inventory.domain.graph import Impact
from shared.auth import Caller
from shared.database import Tx, driver

REACH_LIMIT = 100_000
"""Most assets that one walk reaches; beyond, it says that it is cut."""

_NOW = "SELECT downstream_id, upstream_id, relation FROM dependency WHERE upstream_id = ANY($1) AND valid_to IS NULL"
# Two parts, each of which has its own partial index.
_THEN = """
    SELECT downstream_id, upstream_id, relation FROM dependency
    WHERE upstream_id = ANY($1) AND valid_to IS NULL AND valid_from <= $3
    UNION ALL
    SELECT downstream_id, upstream_id, relation FROM dependency
    WHERE upstream_id = ANY($1) AND valid_to IS NOT NULL AND valid_to > $3 AND valid_from <= $3
"""
_STEPS = """
    SELECT string_agg(uuid_send(downstream_id) || uuid_send(upstream_id), '' ORDER BY downstream_id) AS ends,
           string_agg(relation, ' ' ORDER BY downstream_id) AS relations
    FROM (
        SELECT DISTINCT ON (downstream_id) downstream_id, upstream_id, relation
        FROM ({}) AS edge
        ORDER BY downstream_id, upstream_id, relation
        LIMIT $2
    ) AS step
"""
_STEPS_NOW = _STEPS.format(_NOW)
_STEPS_THEN = _STEPS.format(_THEN)

# Of assets that are not shown only the owner matters; a row a team, with the ids of its assets.
_OWNERS = """
    SELECT owner_team, string_agg(uuid_send(asset_id), '') AS ids
    FROM asset WHERE asset_id = ANY($1) GROUP BY owner_team
"""
# What is shown of an asset and its risk, as rows of one shape: the ids are sent once, and each table is read in the
# order of its index. A join would look up the risk of each by itself.
_SHOWN = """
    SELECT asset_id, owner_team, name, asset_type, data_classification, deployment_env, lifecycle,
           NULL::float8 AS risk_score, NULL::text AS risk_level
    FROM asset WHERE asset_id = ANY($1)
    UNION ALL
    SELECT asset_id, NULL, NULL, NULL, NULL, NULL, NULL, risk_score, risk_level
    FROM asset_risk WHERE asset_id = ANY($1)
"""
_REGISTERED_LATER = "SELECT asset_id FROM asset WHERE asset_id = ANY($1) AND registered_date > $2"
_NAME = 2
_STEP = struct.Struct("16s16s")
_ID = struct.Struct("16s")


class Window:
    """Which part of a blast radius is shown: up to `limit` assets behind `after` (distance and id)."""

    def __init__(self, after: tuple[int, UUID] | None, limit: int) -> None:
        self.after = after
        self.limit = limit
        self._left = limit

    def shows(self, distance: int, count: int) -> bool:
        """Whether some of the next level, which has `count` assets, are in it."""
        if self._left <= 0 or (self.after is not None and distance < self.after[0]):
            return False
        if self.after is None or distance > self.after[0]:
            self._left -= count
        return True


async def impact(
    tx: Tx, caller: Caller, root: UUID, depth: int, window: Window, as_of: datetime | None = None
) -> tuple[Impact, dict[bytes, Any], dict[bytes, Any]]:
    """Everything that harm in `root` reaches in up to `depth` steps; a wall (an asset of another team) stops it.

    With `as_of`, along the edges that held then, between assets that were registered then.

    Returns:
        what is reached; the rows of _SHOWN and of _RISKS of the assets in `window`, and perhaps of others, by id.
    """
    connection = await driver(tx)
    found = Impact(root)
    shown: dict[bytes, Any] = {}
    risks: dict[bytes, Any] = {}
    owners: Counter[str] = Counter()
    seen = {root.bytes}
    frontier: list[Any] = [root]
    while frontier:
        room = REACH_LIMIT + 1 - len(seen)
        steps = await _steps(connection, frontier, REACH_LIMIT + 2, as_of)
        new = {there: step for there, step in steps.items() if there not in seen}
        if len(found.levels) == depth:
            found.truncated = bool(new)
            break
        if len(new) > room:
            found.truncated = True
            new = dict(islice(new.items(), room))
        if not new:
            break
        seen.update(new)
        # The driver's own class is made from bytes, and sent, at a fraction of what uuid.UUID costs.
        ids = [pgproto.UUID(there) for there in new]
        owner_of: dict[bytes, str] = {}
        if window.shows(len(found.levels) + 1, len(new)):
            for row in await connection.fetch(_SHOWN, ids):
                if row[_NAME] is None:
                    risks[row[0].bytes] = row
                else:
                    shown[row[0].bytes] = row
                    owner_of[row[0].bytes] = row[1]
        else:
            for team, own in await connection.fetch(_OWNERS, ids):
                owner_of.update((asset_id, team) for (asset_id,) in _ID.iter_unpack(own))
        if as_of is not None:
            for row in await connection.fetch(_REGISTERED_LATER, ids, as_of):
                del owner_of[row[0].bytes]
        if len(owner_of) < len(new):
            found.missing += (UUID(bytes=there) for there in new if there not in owner_of)
        walls = {team for team in set(owner_of.values()) if not caller.sees(team)}
        if walls or len(owner_of) < len(new):
            visible = [there for there in new if there in owner_of and owner_of[there] not in walls]
            seen_through = set(visible)
            frontier = [own for there, own in zip(new, ids, strict=True) if there in seen_through]
            found.restricted += len(owner_of) - len(visible)
        else:
            visible, frontier = list(new), ids
        owners.update(map(owner_of.__getitem__, visible))
        if visible:
            found.levels.append(visible)
            found.came_from.update(new)
    found.owners = dict(owners)
    return found, shown, risks


async def _steps(
    connection: asyncpg.Connection[Any], from_ids: Sequence[UUID], limit: int, as_of: datetime | None
) -> dict[bytes, tuple[bytes, str]]:
    """One step on from these assets: id -> (where it was reached from, along which relation), in the order of ids."""
    if as_of is None:
        row = await connection.fetchrow(_STEPS_NOW, from_ids, limit)
    else:
        row = await connection.fetchrow(_STEPS_THEN, from_ids, limit, as_of)
    if row is None or row["ends"] is None:
        return {}
    steps = zip(_STEP.iter_unpack(row["ends"]), row["relations"].split(" "), strict=True)
    return {there: (here, relation) for (there, here), relation in steps}
