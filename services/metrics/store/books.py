"""Books in and out of the database: a run of events costs one statement a table, however many events it has.

Straight on asyncpg: rows travel as arrays, one a column, which a bulk import's 2,500 assets a second need.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from services.metrics.domain.assets import CONTROL_TYPES, NO_CONTROLS, Asset, Deployment
from services.metrics.domain.books import Books, Known, Wanted
from services.metrics.domain.coverage import CELL_COLUMNS
from services.metrics.domain.entries import Entry
from services.metrics.domain.incidents import Incident, Step
from services.metrics.domain.ledger import COUNTERS, Counter, Share
from services.metrics.store import tables
from shared.contracts.incidents import IncidentCategory
from shared.database import Tx, driver

Connection: TypeAlias = "asyncpg.Connection[Any]"

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves its dialects' constructors untyped

_ASSET_COLUMNS = tuple(column.name for column in tables.asset_copy.columns)
_DEPLOYMENT_COLUMNS = tuple(column.name for column in tables.control_deployment.columns)
_COUNTER_COLUMNS = tuple(counter.column for counter in COUNTERS)
_INCIDENT_COLUMNS = tuple(column.name for column in tables.incident.columns)


def _overwrite(table: sa.Table) -> str:
    """INSERT from one array a column; a row that is there is overwritten."""
    names = [column.name for column in table.columns]
    keys = [column.name for column in table.primary_key]
    sets = ", ".join(f"{name} = excluded.{name}" for name in names if name not in keys)
    return (
        f"INSERT INTO {table.name} ({', '.join(names)}) {_from_arrays(table, names)} "
        f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {sets}"
    )


@lru_cache(maxsize=256)
def _add(table: sa.Table, counted: tuple[str, ...]) -> str:
    """INSERT from one array a column; the columns `counted` are added to a row that is there."""
    keys = [column.name for column in table.primary_key]
    names = [*keys, *counted]
    sets = ", ".join(f"{name} = {table.name}.{name} + excluded.{name}" for name in counted)
    return (
        f"INSERT INTO {table.name} ({', '.join(names)}) {_from_arrays(table, names)} "
        f"ON CONFLICT ({', '.join(keys)}) DO {f'UPDATE SET {sets}' if sets else 'NOTHING'}"
    )


def _from_arrays(table: sa.Table, names: Sequence[str]) -> str:
    arrays = (f"${position}::{table.c[name].type.compile(_DIALECT)}[]" for position, name in enumerate(names, start=1))
    return f"SELECT * FROM unnest({', '.join(arrays)})"  # noqa: S608  types are ours


_SAVE_ASSETS = _overwrite(tables.asset_copy)
_SAVE_DEPLOYMENTS = _overwrite(tables.control_deployment)
_SAVE_ENTRIES = _overwrite(tables.entry)
_SAVE_INCIDENTS = _overwrite(tables.incident)

_LOAD_ASSETS = f"SELECT {', '.join(_ASSET_COLUMNS)} FROM asset_copy WHERE asset_id = ANY($1)"  # noqa: S608
_LOAD_DEPLOYMENTS = f"SELECT {', '.join(_DEPLOYMENT_COLUMNS)} FROM control_deployment WHERE deployment_id = ANY($1)"  # noqa: S608
_LOAD_CONTROLS = """
    SELECT asset_id, control_type, count(*)::int AS operational
    FROM control_deployment
    WHERE asset_id = ANY($1) AND present AND operational AND control_type IS NOT NULL
    GROUP BY asset_id, control_type
"""
_LOAD_INCIDENTS = (
    f"SELECT {', '.join(_INCIDENT_COLUMNS[:-1])}, steps::text AS steps "  # noqa: S608
    "FROM incident WHERE incident_id = ANY($1)"
)
_LOAD_ENTRIES = """
    SELECT entry.kind, entry.key, entry.version, entry.minute, entry.team, entry.steps::text AS steps
    FROM entry JOIN unnest($1::text[], $2::text[]) AS wanted (kind, key) USING (kind, key)
"""


async def load(tx: Tx, wanted: Wanted) -> Known:
    """What is known of the things wanted."""
    connection = await driver(tx)
    return Known(
        assets=await _load_assets(connection, wanted.assets) if wanted.assets else {},
        deployments=await _load_deployments(connection, wanted.deployments) if wanted.deployments else {},
        incidents=await _load_incidents(connection, wanted.incidents) if wanted.incidents else {},
        entries=await _load_entries(connection, wanted.entries) if wanted.entries else {},
    )


async def save(tx: Tx, books: Books) -> None:
    """Write what the booked events changed."""
    connection = await driver(tx)
    if books.assets:
        rows = [[getattr(asset, name) for name in _ASSET_COLUMNS] for asset in books.assets.values()]
        await _by_column(connection, _SAVE_ASSETS, rows)
    if books.deployments:
        rows = [[getattr(found, name) for name in _DEPLOYMENT_COLUMNS] for found in books.deployments.values()]
        await _by_column(connection, _SAVE_DEPLOYMENTS, rows)
    if books.incidents:
        rows = [
            [
                *(getattr(incident, name) for name in _INCIDENT_COLUMNS[:-1]),
                orjson.dumps([list(step) for step in incident.steps]).decode(),
            ]
            for incident in books.incidents.values()
        ]
        await _by_column(connection, _SAVE_INCIDENTS, rows)
    if books.entries:
        rows = [
            [entry.kind, entry.key, entry.version, entry.minute, entry.share.team, _steps(entry.share)]
            for entry in books.entries.values()
        ]
        await _by_column(connection, _SAVE_ENTRIES, rows)
    ledger = list(books.ledger.rows())
    if ledger:
        keys = [(scope, span, start) for scope, span, start, _ in ledger]
        await _add_up(connection, tables.ledger, _COUNTER_COLUMNS, keys, [change for *_, change in ledger])
    cells = list(books.coverage.rows())
    if cells:
        places = [(team, asset_type) for team, asset_type, _ in cells]
        await _add_up(connection, tables.coverage, CELL_COLUMNS, places, [change for *_, change in cells])


async def _add_up(
    connection: Connection,
    table: sa.Table,
    columns: Sequence[str],
    keys: Sequence[Sequence[Any]],
    changes: Sequence[Sequence[int]],
) -> None:
    """Add `changes` to the rows of `keys`, sending only the columns that change: a dozen of more than forty."""
    by_column = list(zip(*changes, strict=True))
    moved = [position for position, amounts in enumerate(by_column) if any(amounts)]
    statement = _add(table, tuple(columns[position] for position in moved))
    await connection.execute(
        statement, *map(list, zip(*keys, strict=True)), *(by_column[position] for position in moved)
    )


async def _by_column(connection: Connection, statement: str, rows: Sequence[Sequence[Any]]) -> None:
    await connection.execute(statement, *(list(column) for column in zip(*rows, strict=True)))


async def _load_assets(connection: Connection, asset_ids: Iterable[UUID]) -> dict[UUID, Asset]:
    rows = await connection.fetch(_LOAD_ASSETS, list(asset_ids))
    controlled = [row["asset_id"] for row in rows if row["operational"]]
    by_type: dict[UUID, dict[str, int]] = {}
    if controlled:
        for row in await connection.fetch(_LOAD_CONTROLS, controlled):
            by_type.setdefault(row["asset_id"], {})[row["control_type"]] = row["operational"]
    return {
        row["asset_id"]: Asset(
            **row,
            operational_by_type=(
                tuple(by_type[row["asset_id"]].get(kind.value, 0) for kind in CONTROL_TYPES)
                if row["asset_id"] in by_type
                else NO_CONTROLS
            ),
        )
        for row in rows
    }


async def _load_deployments(connection: Connection, deployment_ids: Iterable[UUID]) -> dict[UUID, Deployment]:
    rows = await connection.fetch(_LOAD_DEPLOYMENTS, list(deployment_ids))
    return {row["deployment_id"]: Deployment(**row) for row in rows}


async def _load_incidents(connection: Connection, incident_ids: Iterable[UUID]) -> dict[UUID, Incident]:
    found = {}
    for row in await connection.fetch(_LOAD_INCIDENTS, list(incident_ids)):
        values = dict(row)
        category = values.pop("category")
        found[row["incident_id"]] = Incident(
            **values
            | {
                "category": None if category is None else IncidentCategory(category),
                "steps": tuple(Step(*step) for step in orjson.loads(values["steps"])),
            }
        )
    return found


async def _load_entries(connection: Connection, places: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Entry]:
    kinds, keys = zip(*places, strict=True)
    found = {}
    for row in await connection.fetch(_LOAD_ENTRIES, list(kinds), list(keys)):
        steps = tuple(
            (minute, Counter[column.upper()].value, amount) for minute, column, amount in orjson.loads(row["steps"])
        )
        share = Share(row["team"], steps)
        found[row["kind"], row["key"]] = Entry(row["kind"], row["key"], row["version"], row["minute"], share)
    return found


def _steps(share: Share) -> str:
    return orjson.dumps([[minute, Counter(counter).column, amount] for minute, counter, amount in share.steps]).decode()
