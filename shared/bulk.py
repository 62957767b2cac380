"""Many rows in one statement whose text does not depend on how many.

SQLAlchemy writes a multi-row INSERT out with a parameter for each value, and compiles it anew for each row count:
SQLAlchemy writes a multi-row INSERT out with a parameter for each value, and compiles it anew for each row count:
once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from shared.database import Tx, driver


@lru_cache(maxsize=64)
def _statement(table: sa.Table, names: tuple[str, ...], returning: tuple[str, ...]) -> str:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's dialects carry no annotations
    key = [column.name for column in table.primary_key]
    types = [str(table.c[name].type.compile(dialect)) for name in names]
    if any(written.endswith("[]") for written in types):
        raise TypeError(f"{table.name}: unnest() flattens arrays of arrays; give such a column as JSON")
    arrays = ", ".join(f"${place}::{written}[]" for place, written in enumerate(types, 1))
    changes = ", ".join(f"{name} = excluded.{name}" for name in names if name not in key)
    # Names come from our own tables, never from a request.
    return (
        f"INSERT INTO {table.name} ({', '.join(names)}) SELECT * FROM unnest({arrays}) "  # noqa: S608
        f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes} WHERE excluded.version > {table.name}.version"
        + (f" RETURNING {', '.join(returning)}" if returning else "")
    )


async def upsert_newer(
    tx: Tx, table: sa.Table, rows: Sequence[Mapping[str, Any]], *, returning: Sequence[str] = ()
) -> list[Any]:
    """Insert `rows`, or replace those whose `version` is older; rows must differ in the table's primary key.

    Returns:
        The `returning` columns of the rows that were written.
    """
    if not rows:
        return []
    names = tuple(rows[0])
    columns = [[row[name] for row in rows] for name in names]
    connection = await driver(tx)
    return list(await connection.fetch(_statement(table, names, tuple(returning)), *columns))
