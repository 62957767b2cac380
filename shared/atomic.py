"""A change, its event and its audit entry in one statement: one round trip instead of five on the hottest paths.

What `outbox.add` and `audit.record` do beside a change inside BEGIN and COMMIT, PostgreSQL does here by itself: one
statement is one transaction. Measured on registrations: docs/decisions/0010-one-statement-registrations.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from shared import audit, outbox
from shared.contracts.envelope import Event
from shared.database import Tx, driver
from shared.tokens import Caller


async def change(
    tx: Tx,
    parts: str,
    values: Sequence[object],
    *,
    event: Event,
    caller: Caller,
    action: str,
    target: str,
    detail: Mapping[str, Any],
    owner_team: str = "",
) -> bool:
    """Make a change and, if it was made, announce `event` and record the audit entry; True when it was made.

    Args:
        tx: a transaction, or a connection without one: then this is the whole transaction.
        parts: the change as the common table expressions of a WITH, with $1, $2, ... for `values`. The one called
            `done` returns a row if and only if the change was made.

    Raises:
        TooLarge: the event is too large for the bus; nothing was done.
    """
    announced = outbox.row_of(event)
    noted = audit.row_of(caller, action, target, detail, owner_team)
    connection = await driver(tx)
    return bool(await connection.fetchval(_statement(parts, len(values)), *values, *announced, *noted))


@cache
def _statement(parts: str, count: int) -> str:
    places = [f"${number}" for number in range(count + 1, count + 1 + len(outbox.COLUMNS) + len(audit.COLUMNS))]
    announced, noted = places[: len(outbox.COLUMNS)], places[len(outbox.COLUMNS) :]
    return f"""
        WITH {parts},
        announced AS (INSERT INTO outbox ({", ".join(outbox.COLUMNS)}) SELECT {", ".join(announced)} FROM done),
        noted AS (INSERT INTO audit_entry ({", ".join(audit.COLUMNS)}) SELECT {", ".join(noted)} FROM done)
        SELECT count(*) FROM done
    """  # noqa: S608  # only our own names and numbers of parameters
