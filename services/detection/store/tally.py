"""What all replicas counted of traffic and of rules that fired, by the hour."""

from __future__ import annotations

from services.detection.domain.tally import SLICE_SECONDS, Tally
from services.detection.store import suppressions
from services.detection.store.tables import rule_fired_table, rule_traffic_table
from shared.database import Tx, driver

KEPT_DAYS = 90

_TRAFFIC = """
    INSERT INTO rule_traffic (generation, slice, directions, asset_type, asset_id, benign, inspected)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::bool[], $7::bigint[])
    ON CONFLICT (generation, slice, directions, asset_type, asset_id, benign)
    DO UPDATE SET inspected = rule_traffic.inspected + excluded.inspected
"""
_FIRED = """
    INSERT INTO rule_fired (rule_id, version, slice, benign, fired)
    SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[], $4::bool[], $5::bigint[])
    ON CONFLICT (rule_id, version, slice, benign) DO UPDATE SET fired = rule_fired.fired + excluded.fired
"""


async def add(tx: Tx, counted: Tally) -> None:
    """Add a replica's counts to the shared ones."""
    # Sorted, so that two replicas take the rows' locks in one order.
    traffic = sorted(
        (one.generation, one.slice, ",".join(one.directions), one.asset_type, one.asset_id, one.benign, number)
        for one, number in counted.traffic.items()
    )
    fired = sorted((one.rule_id, one.version, one.slice, one.benign, number) for one, number in counted.fired.items())
    connection = await driver(tx)
    if traffic:
        await connection.execute(_TRAFFIC, *(list(column) for column in zip(*traffic, strict=True)))
    if fired:
        await connection.execute(_FIRED, *(list(column) for column in zip(*fired, strict=True)))
    if counted.suppressed:
        await suppressions.count_hits(tx, counted.suppressed)


async def forget(tx: Tx, now: float) -> None:
    """Drop what is older than any window asks for."""
    oldest = int(now // SLICE_SECONDS) - KEPT_DAYS * 24
    for table in (rule_traffic_table, rule_fired_table):
        await tx.execute(table.delete().where(table.c.slice < oldest))
