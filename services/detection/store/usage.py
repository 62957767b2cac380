"""What assets and actors used, by the hour and by the day, summed over all replicas; their profiles; and budgets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from services.detection.domain.rules import Amount
from services.detection.domain.trackers.canaries import Mark
from services.detection.domain.trackers.usage import KEPT_DAYS, KEPT_HOURS, Budget, Period, Place, Used, hour_of
from services.detection.store.tables import (
    asset_budget_table,
    asset_canary_table,
    budget_crossing_table,
    learned_profile_table,
    usage_amount_table,
)
from shared.database import Tx, driver

PROFILE_DAYS = 45
ACTOR_HOURS = 3

_ADD = """
    INSERT INTO usage_amount AS known (subject_by, subject_key, span, slot, tokens, cost_usd, requests, flagged)
    SELECT * FROM unnest(
        $1::text[], $2::text[], $3::text[], $4::bigint[], $5::float8[], $6::float8[], $7::float8[], $8::float8[]
    )
    ON CONFLICT (subject_by, subject_key, span, slot) DO UPDATE SET
        tokens = known.tokens + excluded.tokens,
        cost_usd = known.cost_usd + excluded.cost_usd,
        requests = known.requests + excluded.requests,
        flagged = known.flagged + excluded.flagged
    RETURNING subject_by, subject_key, span, slot, tokens, cost_usd, requests, flagged
"""
_RECENT = """
    SELECT subject_key, slot, tokens, cost_usd, requests, flagged, alerted
    FROM usage_amount WHERE subject_by = $1 AND subject_key = ANY($2::text[]) AND span = $3 AND slot >= $4
"""
_ALERT = """
    UPDATE usage_amount SET alerted = $3
    WHERE subject_by = 'asset' AND subject_key = $1 AND span = 'hour' AND slot = $2 AND alerted < $3
    RETURNING true
"""
_CROSS = """
    INSERT INTO budget_crossing (asset_id, period, amount, starts, percent, at) VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT DO NOTHING RETURNING true
"""


@dataclass(frozen=True, slots=True)
class Budgets:
    """An asset's budgets; version 0 while nobody has set any."""

    version: int
    budgets: tuple[Budget, ...]


@dataclass(frozen=True, slots=True)
class Canaries:
    """How many canaries an asset has, and what is kept of them."""

    version: int
    canaries: int
    marks: tuple[Mark, ...]


async def add(tx: Tx, parts: Mapping[Place, Used]) -> dict[Place, Used]:
    """Add a replica's part of the sums to the shared ones; what these are now."""
    # Sorted, so that two replicas take the rows' locks in one order.
    rows = sorted((*place, one.tokens, one.cost_usd, one.requests, one.flagged) for place, one in parts.items())
    found = await (await driver(tx)).fetch(_ADD, *(list(column) for column in zip(*rows, strict=True)))
    return {
        (row["subject_by"], row["subject_key"], row["span"], row["slot"]): _used(row)
        for row in found
    }  # fmt: skip


def _used(row: Any) -> Used:
    return Used(row["tokens"], row["cost_usd"], row["requests"], row["flagged"])


async def recent(
    tx: Tx, by: str, keys: Collection[str], span: str, since: int
) -> dict[str, dict[int, tuple[Used, bool]]]:
    """The sums of subjects by slot from `since` on, and whether the slot raised an alert."""
    found: dict[str, dict[int, tuple[Used, bool]]] = {key: {} for key in keys}
    for row in await (await driver(tx)).fetch(_RECENT, by, list(keys), span, since):
        found[row["subject_key"]][row["slot"]] = _used(row), row["alerted"] > 0
    return found


async def alert(tx: Tx, asset_id: UUID, hour: int, score: float) -> bool:
    """Mark that an asset's hour raises an alert; False when it raised one as grave before, here or elsewhere."""
    return bool(await (await driver(tx)).fetch(_ALERT, str(asset_id), hour, score))


async def forget(tx: Tx, now: float) -> None:
    """Drop what no baseline and no budget reaches any more."""
    hour = hour_of(now)
    table = usage_amount_table.c
    oldest = (
        ("hour", "asset", hour - KEPT_HOURS),
        ("hour", "actor", hour - ACTOR_HOURS),
        ("day", "actor", hour // 24 - KEPT_DAYS),
    )
    for span, by, slot in oldest:
        old = sa.and_(table.span == span, table.subject_by == by, table.slot < slot)
        await tx.execute(usage_amount_table.delete().where(old))
    await tx.execute(budget_crossing_table.delete().where(budget_crossing_table.c.starts < hour - KEPT_HOURS))
    age = sa.func.now() - sa.text(f"interval '{PROFILE_DAYS} days'")
    await tx.execute(learned_profile_table.delete().where(learned_profile_table.c.updated_at < age))


# -- profiles ------------------------------------------------------------------------------------------------------


async def profiles(tx: Tx, kind: str, keys: Collection[str], *, lock: bool = False) -> dict[str, bytes]:
    """What was learned of subjects of a kind."""
    table = learned_profile_table
    query = sa.select(table.c.subject_key, table.c.state).where(table.c.kind == kind, table.c.subject_key.in_(keys))
    if lock:
        query = query.order_by(table.c.subject_key).with_for_update()
    return {row.subject_key: bytes(row.state) for row in await tx.execute(query)}


async def merge_profiles(
    tx: Tx, kind: str, keys: Collection[str], merged: Callable[[str, bytes], bytes], now: datetime
) -> dict[str, bytes]:
    """Put together what this replica learned with what all did; the result, by key.

    Args:
        merged: of a key and what is stored of it, nothing at first. It takes a millisecond or so, others get a turn
            between two, and all rows are locked meanwhile: give few keys at a time.
    """
    if not keys:
        return {}
    table = learned_profile_table
    ordered = sorted(keys)
    # A row for each, so that there is something to lock.
    rows = [{"kind": kind, "subject_key": key, "state": b"", "updated_at": now} for key in ordered]
    # Row by row: one statement may bind 32,767 values, and a busy outage leaves more to catch up on.
    await tx.execute(insert(table).on_conflict_do_nothing(), rows)
    stored = await profiles(tx, kind, ordered, lock=True)
    found: dict[str, bytes] = {}
    for key, state in stored.items():
        found[key] = merged(key, state)
        await asyncio.sleep(0)
    change = table.update().where(table.c.kind == kind, table.c.subject_key == sa.bindparam("key"))
    await tx.execute(
        change.values(state=sa.bindparam("new"), updated_at=now),
        [{"key": key, "new": state} for key, state in found.items()],
    )
    return found


# -- budgets -------------------------------------------------------------------------------------------------------


async def budgets_of(tx: Tx, asset_ids: Iterable[UUID]) -> dict[UUID, Budgets]:
    table = asset_budget_table.c
    rows = await tx.execute(
        sa.select(table.asset_id, table.version, table.budgets).where(table.asset_id.in_(asset_ids))
    )
    return {row.asset_id: Budgets(row.version, tuple(_budget(one) for one in row.budgets)) for row in rows}


def _budget(stored: Mapping[str, Any]) -> Budget:
    return Budget(Period(stored["period"]), Amount(stored["amount"]), stored["limit"])


async def put_budgets(
    tx: Tx, asset_id: UUID, version: int, budgets: Sequence[Budget], at: datetime, by: str, fresh: Sequence[Budget]
) -> None:
    """Set an asset's budgets. Thresholds of `fresh` ones can be crossed again in the period that runs."""
    stored = [{"period": one.period.value, "amount": one.amount.value, "limit": one.limit} for one in budgets]
    values = {"version": version, "budgets": stored, "updated_at": at, "updated_by": by}
    new = insert(asset_budget_table).values(asset_id=asset_id, **values)
    await tx.execute(new.on_conflict_do_update(index_elements=["asset_id"], set_=values))
    crossing = budget_crossing_table
    for one in fresh:
        gone = (crossing.c.asset_id == asset_id, crossing.c.period == one.period, crossing.c.amount == one.amount)
        await tx.execute(crossing.delete().where(*gone))


async def used_since(tx: Tx, wanted: Mapping[UUID, int]) -> dict[UUID, dict[Amount, float]]:
    """What assets used from an hour on, each from its own."""
    rows = await (await driver(tx)).fetch(
        """
        SELECT wanted.key, sum(tokens) AS tokens, sum(cost_usd) AS cost_usd, sum(requests) AS requests
        FROM unnest($1::text[], $2::bigint[]) AS wanted (key, since)
        JOIN usage_amount ON subject_by = 'asset' AND subject_key = wanted.key AND span = 'hour' AND slot >= since
        GROUP BY wanted.key
        """,
        [str(one) for one in wanted],
        list(wanted.values()),
    )
    return {UUID(row["key"]): {amount: row[amount.value] for amount in Amount} for row in rows}


async def cross(tx: Tx, asset_id: UUID, budget: Budget, starts: int, percent: float, at: datetime) -> bool:
    """Mark that a share of a budget is used up; False when it was before in this period."""
    row = (asset_id, budget.period.value, budget.amount.value, starts, percent, at)
    return bool(await (await driver(tx)).fetch(_CROSS, *row))


# -- canaries ------------------------------------------------------------------------------------------------------


async def canaries_of(tx: Tx, asset_id: UUID) -> Canaries:
    row = (await tx.execute(sa.select(asset_canary_table).filter_by(asset_id=asset_id))).first()
    if row is None:
        return Canaries(0, 0, ())
    return Canaries(row.version, row.canaries, tuple((length, value) for length, value in row.marks))


async def put_canaries(
    tx: Tx, asset_id: UUID, version: int, canaries: int, marks: Sequence[Mark], at: datetime, by: str
) -> None:
    values: dict[str, Any] = {"version": version, "canaries": canaries, "updated_at": at, "updated_by": by}
    values["marks"] = orjson.loads(orjson.dumps(marks))
    new = insert(asset_canary_table).values(asset_id=asset_id, **values)
    await tx.execute(new.on_conflict_do_update(index_elements=["asset_id"], set_=values))
