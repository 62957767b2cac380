"""The ledger read: totals at any moment, and at many moments for a series.

A total up to a minute is the whole days before its day, the whole hours before its hour, and the minutes up to it: at
most some thousand rows for years of history, found by the primary key.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from services.metrics.domain.ledger import COUNTERS, MINUTES_A_DAY, MINUTES_AN_HOUR, ORGANISATION, Counter, Totals
from services.metrics.store.tables import ledger
from shared.database import Tx


async def totals_at(tx: Tx, scopes: Collection[str], minute: int) -> Totals:
    """Every counter, summed over `scopes`, as it stood at the end of `minute`."""
    return (await totals_of(tx, scopes, [minute], COUNTERS))[0]


async def totals_of(
    tx: Tx, scopes: Collection[str], minutes: Sequence[int], counters: Collection[Counter]
) -> list[Totals]:
    """The same at each of `minutes` (ascending); counters not asked for are zero."""
    columns = [ledger.c[counter.column] for counter in counters]
    sums = [sa.cast(sa.func.coalesce(sa.func.sum(column), 0), sa.BigInteger) for column in columns]
    by_day = await _whole_days(tx, scopes, minutes, counters, sums)
    within = await _within_day(tx, scopes, minutes, counters, sums)
    return [day.plus(rest) for day, rest in zip(by_day, within, strict=True)]


async def recorded_since(tx: Tx) -> int | None:
    """The first minute that anything was booked for; None while nothing was."""
    first: int | None = await tx.scalar(
        sa.select(sa.func.min(ledger.c.start)).where(ledger.c.scope == ORGANISATION, ledger.c.span == 1)
    )
    return first


async def _whole_days(
    tx: Tx, scopes: Collection[str], minutes: Sequence[int], counters: Collection[Counter], sums: Sequence[Any]
) -> list[Totals]:
    """Totals of the days before each minute's day: one pass over the days, added up as they go by."""
    rows = await tx.execute(
        sa.select(ledger.c.start, *sums)
        .where(ledger.c.scope.in_(scopes), ledger.c.span == MINUTES_A_DAY)
        .where(ledger.c.start < _day(minutes[-1]))
        .group_by(ledger.c.start)
        .order_by(ledger.c.start)
    )
    days = iter(rows.all())
    ahead = next(days, None)
    running = [0] * len(COUNTERS)
    found = []
    for minute in minutes:
        while ahead is not None and ahead[0] < _day(minute):
            for counter, amount in zip(counters, ahead[1:], strict=True):
                running[counter] += amount
            ahead = next(days, None)
        found.append(Totals(running))
    return found


async def _within_day(
    tx: Tx, scopes: Collection[str], minutes: Sequence[int], counters: Collection[Counter], sums: Sequence[Any]
) -> list[list[int]]:
    """What each minute's day adds up to that minute."""
    sampled = (
        sa.func.unnest(sa.cast(list(minutes), ARRAY(sa.Integer)))
        .table_valued(sa.column("moment", sa.Integer), name="sampled")
        .render_derived()
    )
    moment = sampled.c.moment
    hour = moment - moment % MINUTES_AN_HOUR
    hours = sa.and_(ledger.c.span == MINUTES_AN_HOUR, ledger.c.start >= moment - moment % MINUTES_A_DAY)
    parts = (
        sa.and_(hours, ledger.c.start < hour),
        sa.and_(ledger.c.span == 1, ledger.c.start >= hour, ledger.c.start <= moment),
    )
    changes = {minute: [0] * len(COUNTERS) for minute in minutes}
    for part in parts:
        rows = await tx.execute(
            sa.select(moment, *sums)
            .select_from(sampled)
            .join(ledger, sa.and_(ledger.c.scope.in_(scopes), part))
            .group_by(moment)
        )
        for minute, *amounts in rows:
            for counter, amount in zip(counters, amounts, strict=True):
                changes[minute][counter] += amount
    return [changes[minute] for minute in minutes]


def _day(minute: int) -> int:
    return minute - minute % MINUTES_A_DAY
