"""Positions in the telemetry stream, what was handled lately, and sessions' states: all moved in one transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from shared.database import Tx, driver

SEEN_HOURS = 24
SESSION_DAYS = 7
_KEY_BYTES = 8


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A session's row. `seen` are digests of eight bytes each, one after another."""

    unit: int
    session_key: str
    interactions: int
    seen: bytes
    state: bytes


async def cursors(tx: Tx, units: Collection[int], created: datetime) -> dict[int, int]:
    """Unit -> sequence up to which it is handled; 0 where the stream is another than the one before: it was wiped."""
    connection = await driver(tx)
    rows = await connection.fetch(
        """
        INSERT INTO stream_cursor (unit, stream_created, seq) SELECT unnest($1::smallint[]), $2, 0
        ON CONFLICT (unit) DO UPDATE SET
            seq = CASE WHEN abs(extract(epoch FROM stream_cursor.stream_created - excluded.stream_created)) < 0.001
                THEN stream_cursor.seq ELSE 0 END,
            stream_created = excluded.stream_created
        RETURNING unit, seq
        """,
        sorted(units),
        created,
    )
    return {row["unit"]: row["seq"] for row in rows}


async def move(tx: Tx, moves: Mapping[int, tuple[int, int]]) -> bool:
    """Move cursors, unit -> (from, to).

    False, and the transaction must be rolled back, when somebody else moved one.
    """
    ordered = sorted(moves.items())
    connection = await driver(tx)
    moved = await connection.fetch(
        """
        UPDATE stream_cursor SET seq = new.upto
        FROM unnest($1::smallint[], $2::bigint[], $3::bigint[]) AS new (unit, before, upto)
        WHERE stream_cursor.unit = new.unit AND stream_cursor.seq = new.before RETURNING 1
        """,
        [unit for unit, _ in ordered],
        [before for _, (before, _) in ordered],
        [upto for _, (_, upto) in ordered],
    )
    return len(moved) == len(moves)


async def add_seen(tx: Tx, keys: Mapping[int, bytes]) -> dict[int, int]:
    """Keep the keys of what is handled; the chunks that they are."""
    connection = await driver(tx)
    rows = await connection.fetch(
        "INSERT INTO stream_seen (unit, keys) SELECT * FROM unnest($1::smallint[], $2::bytea[]) RETURNING unit, chunk",
        list(keys),
        list(keys.values()),
    )
    return {row["unit"]: row["chunk"] for row in rows}


async def drop_seen(tx: Tx, upto: Mapping[int, int]) -> None:
    """Forget chunks, unit -> the newest to go."""
    connection = await driver(tx)
    await connection.execute(
        """
        DELETE FROM stream_seen USING unnest($1::smallint[], $2::bigint[]) AS old (unit, chunk)
        WHERE stream_seen.unit = old.unit AND stream_seen.chunk <= old.chunk
        """,
        list(upto),
        list(upto.values()),
    )


async def seen(tx: Tx, units: Collection[int]) -> list[tuple[int, int, list[bytes]]]:
    """Unit, chunk and its keys, oldest first."""
    connection = await driver(tx)
    rows = await connection.fetch(
        "SELECT unit, chunk, keys FROM stream_seen WHERE unit = ANY($1::smallint[]) ORDER BY chunk", sorted(units)
    )
    return [(row["unit"], row["chunk"], split(row["keys"])) for row in rows]


def split(keys: bytes) -> list[bytes]:
    return [keys[at : at + _KEY_BYTES] for at in range(0, len(keys), _KEY_BYTES)]


async def sessions(tx: Tx, wanted: Sequence[tuple[int, str]]) -> list[StoredSession]:
    """Those of the sessions that are known."""
    connection = await driver(tx)
    rows = await connection.fetch(
        """
        SELECT unit, session_key, interactions, seen, state FROM session_state
        WHERE (unit, session_key) IN (SELECT * FROM unnest($1::smallint[], $2::text[]))
        """,
        [unit for unit, _ in wanted],
        [key for _, key in wanted],
    )
    return [StoredSession(*row) for row in rows]


async def save_sessions(tx: Tx, changed: Sequence[StoredSession]) -> None:
    connection = await driver(tx)
    ordered = sorted(changed, key=lambda one: (one.unit, one.session_key))
    await connection.execute(
        """
        INSERT INTO session_state (unit, session_key, interactions, seen, state, updated_at)
        SELECT *, now() FROM unnest($1::smallint[], $2::text[], $3::bigint[], $4::bytea[], $5::bytea[])
        ON CONFLICT (unit, session_key) DO UPDATE SET
            interactions = excluded.interactions, seen = excluded.seen, state = excluded.state, updated_at = now()
        """,
        [one.unit for one in ordered],
        [one.session_key for one in ordered],
        [one.interactions for one in ordered],
        [one.seen for one in ordered],
        [one.state for one in ordered],
    )


async def forget(tx: Tx) -> None:
    """Drop what is too old to come again: keys after a day, sessions after a week."""
    connection = await driver(tx)
    await connection.execute(f"DELETE FROM stream_seen WHERE at < now() - interval '{SEEN_HOURS} hours'")  # noqa: S608  # our own number
    await connection.execute(
        f"DELETE FROM session_state WHERE updated_at < now() - interval '{SESSION_DAYS} days'"  # noqa: S608  # our own number
    )
