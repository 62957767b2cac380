"""Dossiers in and out of the database, many at once: one statement a table, however many assets a batch touches.

Written on asyncpg itself (arrays): one statement a row was a tenth as fast.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson

from services.risk.domain.adjustments import AlertSignal, IncidentSignal
from services.risk.domain.assessment import Assessment, Standing
from services.risk.domain.dossier import AcceptanceCopy, AssetCopy, ControlCopy, Dossier
from services.risk.domain.formula import Subject
from shared import outbox
from shared.contracts.envelope import Event
from shared.contracts.risk import RiskLevel
from shared.database import Tx, driver, write_together

MOST_DEPENDENTS = 1_000
"""Dependents are counted up to here: their weight is logarithmic, and a hub of the whole estate must not stop us."""

_LOAD_ASSETS = """
    SELECT asset_id, version, name, owner_team, lifecycle, subject, number, residual, risk_level, model_version,
           accepted_until, review_stale_on
    FROM asset_copy WHERE asset_id = ANY($1::uuid[])
"""
# One statement for all that hangs on an asset: round trips are what a single event waits for.
_LOAD_REST = """
    SELECT 'edge' AS kind, declared_by AS asset_id, upstream_id AS id, downstream_id AS other, 0 AS version,
           '' AS label, '' AS status, 0 AS number, false AS flag, NULL::timestamptz AS at
    FROM dependency WHERE declared_by = ANY($1::uuid[])
    UNION ALL
    SELECT 'control', asset_id, deployment_id, NULL, version, control_type, '', 0, operational, NULL
    FROM control_copy WHERE asset_id = ANY($1::uuid[])
    UNION ALL
    SELECT 'acceptance', asset_id, acceptance_id, NULL, version, '', '', 0, false, expires_at
    FROM acceptance_copy WHERE asset_id = ANY($1::uuid[])
    UNION ALL
    SELECT 'alert', asset_id, alert_id, NULL, version, severity, '', count, false, last_seen
    FROM alert_copy WHERE asset_id = ANY($1::uuid[])
    UNION ALL
    SELECT 'incident', asset_id, incident_id, NULL, version, severity, status, 0, false, over_since
    FROM incident_copy WHERE asset_id = ANY($1::uuid[])
"""
# The lifecycle is looked up row by row on purpose: as a join the planner would read all of asset_copy.
_DEPENDENTS = f"""
    SELECT root, (
        WITH RECURSIVE reached (id) AS (
            SELECT root
            UNION
            SELECT edge.downstream_id FROM reached JOIN dependency edge ON edge.upstream_id = reached.id
        )
        SELECT count(*) FROM (
            SELECT FROM reached
            WHERE id <> root
              AND (SELECT lifecycle FROM asset_copy copy WHERE copy.asset_id = reached.id) <> 'retired'
            LIMIT {MOST_DEPENDENTS}
        ) AS dependents
    ) AS dependents
    FROM unnest($1::uuid[]) AS root
"""  # noqa: S608  # the only thing formatted in is the constant above
_SAVE_ASSETS = """
    INSERT INTO asset_copy (
        asset_id, version, name, owner_team, lifecycle, asset_type, subject, number, residual, risk_level,
        model_version, accepted_until, active, review_stale_on)
    SELECT asset_id, version, name, owner_team, lifecycle, asset_type, subject::jsonb, number, residual, risk_level,
        model_version, accepted_until, active, review_stale_on
    FROM unnest(
        $1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::int[],
        $9::numeric[], $10::text[], $11::int[], $12::timestamptz[], $13::bool[], $14::date[])
    AS new (
        asset_id, version, name, owner_team, lifecycle, asset_type, subject, number, residual, risk_level,
        model_version, accepted_until, active, review_stale_on)
    ON CONFLICT (asset_id) DO UPDATE SET
        version = excluded.version, name = excluded.name, owner_team = excluded.owner_team,
        lifecycle = excluded.lifecycle, asset_type = excluded.asset_type, subject = excluded.subject,
        number = excluded.number, residual = excluded.residual, risk_level = excluded.risk_level,
        model_version = excluded.model_version, accepted_until = excluded.accepted_until, active = excluded.active,
        review_stale_on = excluded.review_stale_on
"""
_SAVE_EDGES = """
    INSERT INTO dependency (upstream_id, downstream_id, declared_by)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[])
"""
_DROP_EDGES = """
    DELETE FROM dependency USING unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS gone (upstream, downstream, by)
    WHERE upstream_id = upstream AND downstream_id = downstream AND declared_by = by
"""
_SAVE_CONTROLS = """
    INSERT INTO control_copy (deployment_id, asset_id, version, control_type, operational)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::bool[])
    ON CONFLICT (deployment_id) DO UPDATE SET
        version = excluded.version, control_type = excluded.control_type, operational = excluded.operational
"""
_DROP_CONTROLS = "DELETE FROM control_copy WHERE deployment_id = ANY($1::uuid[])"
_SAVE_ACCEPTANCES = """
    INSERT INTO acceptance_copy (acceptance_id, asset_id, version, expires_at)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::timestamptz[])
    ON CONFLICT (acceptance_id) DO UPDATE SET version = excluded.version, expires_at = excluded.expires_at
"""
_DROP_ACCEPTANCES = "DELETE FROM acceptance_copy WHERE acceptance_id = ANY($1::uuid[])"
_SAVE_ALERTS = """
    INSERT INTO alert_copy (alert_id, asset_id, version, severity, count, last_seen)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::bigint[], $6::timestamptz[])
    ON CONFLICT (alert_id) DO UPDATE SET
        version = excluded.version, severity = excluded.severity, count = excluded.count,
        last_seen = excluded.last_seen
"""
_DROP_ALERTS = "DELETE FROM alert_copy WHERE alert_id = ANY($1::uuid[])"
_SAVE_INCIDENTS = """
    INSERT INTO incident_copy (incident_id, asset_id, version, severity, status, over_since)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::text[], $6::timestamptz[])
    ON CONFLICT (incident_id, asset_id) DO UPDATE SET
        version = excluded.version, severity = excluded.severity, status = excluded.status,
        over_since = excluded.over_since
"""
_DROP_INCIDENTS = """
    DELETE FROM incident_copy USING unnest($1::uuid[], $2::uuid[]) AS gone (incident, asset)
    WHERE incident_id = incident AND asset_id = asset
"""
# COPY is hardly faster for a batch and costs a single event two round trips more.
_ADD_ASSESSMENTS = """
    INSERT INTO assessment (
        asset_id, number, assessment_id, asset_name, asset_version, inherent, control_effectiveness, base_residual,
        residual, risk_level, previous_residual, previous_level, factors, recommendations, adjustments, model_version,
        trigger, trigger_event_id, accepted_until, assessed_at)
    SELECT asset_id, number, assessment_id, asset_name, asset_version, inherent, control_effectiveness, base_residual,
        residual, risk_level, previous_residual, previous_level, factors::jsonb, recommendations::jsonb,
        adjustments::jsonb, model_version, trigger, trigger_event_id, accepted_until, assessed_at
    FROM unnest(
        $1::uuid[], $2::int[], $3::uuid[], $4::text[], $5::bigint[], $6::numeric[], $7::numeric[], $8::numeric[],
        $9::numeric[], $10::text[], $11::numeric[], $12::text[], $13::text[], $14::text[], $15::text[], $16::int[],
        $17::text[], $18::uuid[], $19::timestamptz[], $20::timestamptz[])
    AS new (
        asset_id, number, assessment_id, asset_name, asset_version, inherent, control_effectiveness, base_residual,
        residual, risk_level, previous_residual, previous_level, factors, recommendations, adjustments, model_version,
        trigger, trigger_event_id, accepted_until, assessed_at)
"""
_MOVE_CELLS = """
    INSERT INTO portfolio_cell (owner_team, asset_type, risk_level, accepted, assets, residual_sum)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bool[], $5::bigint[], $6::numeric[])
    ON CONFLICT (owner_team, asset_type, risk_level, accepted) DO UPDATE SET
        assets = portfolio_cell.assets + excluded.assets,
        residual_sum = portfolio_cell.residual_sum + excluded.residual_sum
"""
# A cell that nobody is in is no cell: whether an asset ever passed through it must not show.
_DROP_CELLS = "DELETE FROM portfolio_cell WHERE assets = 0"


async def load(tx: Tx, asset_ids: Collection[UUID]) -> dict[UUID, Dossier]:
    """The dossier of each asset, empty where nothing is known."""
    dossiers = {asset_id: Dossier(asset_id) for asset_id in asset_ids}
    if not dossiers:
        return dossiers
    connection = await driver(tx)
    ids = [*dossiers]
    edges: dict[UUID, set[tuple[UUID, UUID]]] = defaultdict(set)
    for kind, asset_id, key, other, version, label, status, number, flag, at in await connection.fetch(_LOAD_REST, ids):
        dossier = dossiers[asset_id]
        if kind == "edge":
            edges[asset_id].add((key, other))
        elif kind == "control":
            dossier.controls[key] = ControlCopy(key, asset_id, version, label, flag)
        elif kind == "acceptance":
            dossier.acceptances[key] = AcceptanceCopy(key, asset_id, version, at)
        elif kind == "alert":
            dossier.alerts[key] = AlertSignal(key, asset_id, version, label, number, at)
        else:
            dossier.incidents[key] = IncidentSignal(key, asset_id, version, label, status, at)
    for row in await connection.fetch(_LOAD_ASSETS, ids):
        dossier = dossiers[row["asset_id"]]
        dossier.copy = AssetCopy(
            asset_id=row["asset_id"],
            version=row["version"],
            name=row["name"],
            owner_team=row["owner_team"],
            lifecycle=row["lifecycle"],
            subject=_subject(row["subject"]),
            edges=frozenset(edges[row["asset_id"]]),
        )
        dossier.standing = Standing(row["number"], row["residual"], RiskLevel(row["risk_level"]), row["model_version"])
        dossier.accepted_until = row["accepted_until"]
        dossier.review_stale_on = row["review_stale_on"]
    return dossiers


def kept(dossier: Dossier) -> Dossier:
    """A copy to compare with later."""
    return replace(
        dossier,
        controls=dict(dossier.controls),
        acceptances=dict(dossier.acceptances),
        alerts=dict(dossier.alerts),
        incidents=dict(dossier.incidents),
    )


async def assets_of_incidents(tx: Tx, incident_ids: Collection[UUID]) -> dict[UUID, set[UUID]]:
    """Incident -> assets that it is known to affect."""
    found: dict[UUID, set[UUID]] = defaultdict(set)
    if incident_ids:
        rows = await (await driver(tx)).fetch(
            "SELECT incident_id, asset_id FROM incident_copy WHERE incident_id = ANY($1::uuid[])", [*incident_ids]
        )
        for incident_id, asset_id in rows:
            found[incident_id].add(asset_id)
    return found


async def dependents(tx: Tx, asset_ids: Collection[UUID]) -> dict[UUID, int]:
    """How many assets in the estate lie downstream of each, near or far, up to MOST_DEPENDENTS."""
    connection = await driver(tx)
    ids = [*asset_ids]
    found: dict[UUID, int] = {}
    # A hundred hubs of a thousand dependents each are half a second; all of a storm's at once could be many.
    for start in range(0, len(ids), 100):
        found |= dict(await connection.fetch(_DEPENDENTS, ids[start : start + 100]))
    return found


Write = tuple[str, Sequence[object]]
"""A statement and its values, for `write_together`."""


async def save(
    tx: Tx,
    changes: Sequence[tuple[Dossier, Dossier]],
    assessments: Sequence[Assessment],
    announced: Sequence[Event] = (),
) -> None:
    """Write what differs between each (before, after), and the assessments made; announce events. One round trip."""
    writes: list[Write] = []
    if assessments:
        writes.append((_ADD_ASSESSMENTS, _columns(_assessment_row(entry) for entry in assessments)))
    assets = [_asset_row(after) for before, after in changes if _asset_differs(before, after)]
    if assets:
        writes.append((_SAVE_ASSETS, _columns(assets)))
    writes += _edges(changes)
    writes += _each(changes, lambda d: d.controls, _SAVE_CONTROLS, _DROP_CONTROLS)
    writes += _each(changes, lambda d: d.acceptances, _SAVE_ACCEPTANCES, _DROP_ACCEPTANCES)
    writes += _each(changes, lambda d: d.alerts, _SAVE_ALERTS, _DROP_ALERTS)
    writes += _incidents(changes)
    cells = _cells(changes)
    if cells:
        writes.append((_MOVE_CELLS, _columns(cells)))
    await write_together(tx, [*writes, *outbox.insertion(announced)])
    if any(count < 0 for *_, count, _residual in cells):
        await (await driver(tx)).execute(_DROP_CELLS)


def _columns(rows: Iterable[Iterable[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _asset_differs(before: Dossier, after: Dossier) -> bool:
    # One that is in the middle of being registered has no score yet; it is written when it has.
    return (
        after.copy is not None
        and after.standing is not None
        and (
            before.copy is not after.copy
            or before.standing is not after.standing
            or before.is_quiet != after.is_quiet
            or before.review_stale_on != after.review_stale_on
        )
    )


def _asset_row(dossier: Dossier) -> tuple[Any, ...]:
    copy, standing = dossier.copy, dossier.standing
    assert copy is not None, "only assets that the inventory announced are written"
    assert standing is not None, "an asset is assessed as soon as it is known"
    return (
        copy.asset_id,
        copy.version,
        copy.name,
        copy.owner_team,
        copy.lifecycle,
        copy.subject.asset_type,
        orjson.dumps(copy.subject).decode(),
        standing.number,
        standing.residual,
        standing.level,
        standing.model_version,
        dossier.accepted_until,
        not dossier.is_quiet,
        dossier.review_stale_on,
    )


def _subject(document: dict[str, Any]) -> Subject:
    values = dict(document)
    reviewed = values["last_security_review"]
    values["last_security_review"] = date.fromisoformat(reviewed) if reviewed else None
    values["regulatory_scope"] = tuple(values["regulatory_scope"])
    return Subject(**values)


def _assessment_row(entry: Assessment) -> tuple[Any, ...]:
    score, previous = entry.score, entry.previous
    return (
        entry.asset_id,
        entry.number,
        entry.assessment_id,
        entry.asset_name,
        entry.asset_version,
        score.inherent,
        score.control_effectiveness,
        score.base_residual,
        score.residual,
        score.level,
        previous.residual if previous else None,
        previous.level if previous else None,
        orjson.dumps(
            [
                {
                    "dimension": factor.dimension,
                    "score": float(factor.score),
                    "weight": float(factor.weight),
                    "contribution": float(factor.contribution),
                    "details": factor.details,
                }
                for factor in score.factors
            ]
        ).decode(),
        orjson.dumps(score.recommendations).decode(),
        orjson.dumps(
            [
                {
                    "kind": adjustment.kind,
                    "points": float(adjustment.points),
                    "reason": adjustment.reason,
                    # The driver's own UUID class, which a dossier read back holds, is none that orjson knows.
                    "source_ids": [str(source) for source in adjustment.source_ids],
                }
                for adjustment in score.adjustments
            ]
        ).decode(),
        score.model_version,
        entry.trigger.name,
        entry.trigger.id,
        entry.accepted_until,
        entry.trigger.at,
    )


def _edges(changes: Sequence[tuple[Dossier, Dossier]]) -> list[Write]:
    gone, new = [], []
    for before, after in changes:
        if after.copy is None or after.copy is before.copy:
            continue
        known = before.copy.edges if before.copy else frozenset()
        gone += [(*edge, after.asset_id) for edge in known - after.copy.edges]
        new += [(*edge, after.asset_id) for edge in after.copy.edges - known]
    return [(sql, _columns(rows)) for sql, rows in ((_DROP_EDGES, gone), (_SAVE_EDGES, new)) if rows]


def _each(
    changes: Sequence[tuple[Dossier, Dossier]],
    entries: Callable[[Dossier], Mapping[UUID, Any]],
    save_sql: str,
    drop_sql: str,
) -> list[Write]:
    new, gone = [], []
    for before, after in changes:
        known, now = entries(before), entries(after)
        new += [_values(entry) for key, entry in now.items() if known.get(key) is not entry]
        gone += [(key,) for key in known if key not in now]
    return [(sql, _columns(rows)) for sql, rows in ((drop_sql, gone), (save_sql, new)) if rows]


def _incidents(changes: Sequence[tuple[Dossier, Dossier]]) -> list[Write]:
    new, gone = [], []
    for before, after in changes:
        new += [_values(i) for key, i in after.incidents.items() if before.incidents.get(key) is not i]
        gone += [(key, before.asset_id) for key in before.incidents if key not in after.incidents]
    return [(sql, _columns(rows)) for sql, rows in ((_DROP_INCIDENTS, gone), (_SAVE_INCIDENTS, new)) if rows]


def _values(entry: Any) -> tuple[Any, ...]:
    """Fields of one of the copies, in the order of its table's columns."""
    return tuple(getattr(entry, name) for name in entry.__slots__)


def _cells(changes: Sequence[tuple[Dossier, Dossier]]) -> list[tuple[Any, ...]]:
    """By how much each cell of the portfolio changes."""
    assets: Counter[tuple[Any, ...]] = Counter()
    residuals: dict[tuple[Any, ...], Decimal] = defaultdict(Decimal)
    for before, after in changes:
        for dossier, sign in ((before, -1), (after, 1)):
            place = dossier.place
            if place is not None and dossier.standing is not None:
                assets[place] += sign
                residuals[place] += sign * dossier.standing.residual
    return [(*place, assets[place], residuals[place]) for place in residuals if assets[place] or residuals[place]]
