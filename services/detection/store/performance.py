"""What rules did in each version: traffic that they saw, how often they fired, what became of their alerts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from services.detection.domain.tally import SLICE_SECONDS
from services.detection.store.tables import alert_table, rule_fired_table, rule_traffic_table, rule_version_table
from shared.auth import Caller, visible
from shared.contracts.detection import Disposition
from shared.database import Tx


@dataclass(slots=True)
class Record:
    """One version of a rule over a window of time.

    Attributes:
        inspected: interactions with something for it to look at; `inspected_benign` those of which no rule that decides
            held anything.
        fired: interactions in which it found something; `fired_benign` of the benign ones.
        alerts: raised by it; `true`, `false`, `benign` and `duplicate` as people judged them.
        false_findings: findings folded into the alerts that were judged false.
    """

    rule_id: str
    version: int
    status: str
    written_at: datetime
    inspected: int = 0
    inspected_benign: int = 0
    fired: int = 0
    fired_benign: int = 0
    alerts: int = 0
    true: int = 0
    false: int = 0
    benign: int = 0
    duplicate: int = 0
    false_findings: int = 0


@dataclass(frozen=True, slots=True)
class Judged:
    """Alerts of a rule that were judged alike by callers of alike reach, of one team's traffic."""

    owner_team: str
    widely: bool
    disposition: Disposition
    alerts: int
    findings: int


_DISPOSITIONS = {
    Disposition.TRUE_POSITIVE: "true",
    Disposition.FALSE_POSITIVE: "false",
    Disposition.BENIGN: "benign",
    Disposition.DUPLICATE: "duplicate",
}


async def records(tx: Tx, caller: Caller, rule_ids: Sequence[str], since: datetime) -> list[Record]:
    """Every version of the rules, in order; alerts are those that the caller may see."""
    version = rule_version_table
    query = sa.select(version).where(version.c.rule_id.in_(rule_ids)).order_by(version.c.rule_id, version.c.version)
    rows = (await tx.execute(query)).all()
    found = {(row.rule_id, row.version): Record(row.rule_id, row.version, row.status, row.written_at) for row in rows}
    await _add_traffic(tx, rows, found, int(since.timestamp() // SLICE_SECONDS))
    fired = sa.select(rule_fired_table).where(
        rule_fired_table.c.rule_id.in_(rule_ids), rule_fired_table.c.slice >= since.timestamp() // SLICE_SECONDS
    )
    for row in await tx.execute(fired):
        record = found.get((row.rule_id, row.version))
        if record is not None:
            record.fired += row.fired
            record.fired_benign += row.fired if row.benign else 0
    alert = alert_table.c
    alerts = (
        sa.select(
            alert.rule_id,
            alert.rule_version,
            alert.disposition,
            sa.func.count().label("alerts"),
            sa.func.sum(alert["count"]).label("findings"),
        )
        .where(alert.rule_id.in_(rule_ids), alert.first_seen >= since, visible(caller, alert.owner_team))
        .group_by(alert.rule_id, alert.rule_version, alert.disposition)
    )
    for row in await tx.execute(alerts):
        record = found.get((row.rule_id, row.rule_version))
        if record is None:
            continue
        record.alerts += row.alerts
        if row.disposition is not None:
            name = _DISPOSITIONS[Disposition(row.disposition)]
            setattr(record, name, getattr(record, name) + row.alerts)
        if row.disposition == Disposition.FALSE_POSITIVE.value:
            record.false_findings += int(row.findings)
    return list(found.values())


async def _add_traffic(tx: Tx, versions: Iterable[Any], found: dict[tuple[str, int], Record], oldest: int) -> None:
    table = rule_traffic_table.c
    columns = (table.generation, table.directions, table.asset_type, table.asset_id, table.benign)
    query = sa.select(*columns, sa.func.sum(table.inspected).label("inspected")).where(table.slice >= oldest)
    traffic = [
        (
            row.generation,
            frozenset(row.directions.split(",")),
            row.asset_type,
            row.asset_id,
            row.benign,
            int(row.inspected),
        )
        for row in await tx.execute(query.group_by(*columns))
    ]
    # Most rules look at the same traffic: what each such group saw in each generation is summed once.
    seen: dict[tuple[Any, ...], dict[int, tuple[int, int]]] = {}
    by_rule: defaultdict[str, list[Any]] = defaultdict(list)
    for row in versions:
        by_rule[row.rule_id].append(row)
    for rule_versions in by_rule.values():
        for at, row in enumerate(rule_versions):
            scope = (tuple(row.directions), tuple(row.asset_types), tuple(row.asset_ids))
            if scope not in seen:
                seen[scope] = _by_generation(traffic, *(frozenset(part) for part in scope))
            until = rule_versions[at + 1].since if at + 1 < len(rule_versions) else None
            record = found[row.rule_id, row.version]
            for generation, (inspected, benign) in seen[scope].items():
                if row.since <= generation and (until is None or generation < until):
                    record.inspected += inspected
                    record.inspected_benign += benign


def _by_generation(
    traffic: list[tuple[int, frozenset[str], str, str, bool, int]],
    directions: frozenset[str],
    asset_types: frozenset[str],
    asset_ids: frozenset[str],
) -> dict[int, tuple[int, int]]:
    sums: dict[int, tuple[int, int]] = {}
    for generation, ways, asset_type, asset_id, benign, number in traffic:
        if (
            ways & directions
            and (not asset_types or asset_type in asset_types)
            and (not asset_ids or asset_id in asset_ids)
        ):
            inspected, harmless = sums.get(generation, (0, 0))
            sums[generation] = (inspected + number, harmless + (number if benign else 0))
    return sums


async def judged(tx: Tx, rule_id: str, from_version: int, since: datetime) -> list[Judged]:
    """Alerts of a rule that were judged true or false, of every team, from a version on."""
    alert = alert_table.c
    wanted = (Disposition.TRUE_POSITIVE.value, Disposition.FALSE_POSITIVE.value)
    widely = sa.func.coalesce(alert.judged_widely, sa.false())
    query = (
        sa.select(
            alert.owner_team,
            widely.label("widely"),
            alert.disposition,
            sa.func.count().label("alerts"),
            sa.func.sum(alert["count"]).label("findings"),
        )
        .where(
            alert.rule_id == rule_id,
            alert.rule_version >= from_version,
            alert.first_seen >= since,
            alert.disposition.in_(wanted),
        )
        .group_by(alert.owner_team, widely, alert.disposition)
    )
    return [
        Judged(row.owner_team, row.widely, Disposition(row.disposition), row.alerts, int(row.findings))
        for row in await tx.execute(query)
    ]
