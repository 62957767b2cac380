"""Who did what: append-only entries, chained by hash so that a change, a gap or a reordering shows.

An entry is written in the transaction of what it tells. A sealer then chains the entries in the order they became
visible: chaining inside each transaction would let only one commit at a time. The chain is keyed (HMAC-SHA256), so
that somebody with the database alone cannot rebuild it; a truncated tail shows against an anchor kept elsewhere.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import BYTEA, JSONB, TIMESTAMP

from shared import outbox, telemetry
from shared.backbone import metadata
from shared.database import Database, Tx, driver
from shared.tokens import Caller

audit_entry = sa.Table(
    "audit_entry",
    metadata,
    sa.Column("seq", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("at", TIMESTAMP(timezone=True), nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("actor_kind", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("owner_team", sa.Text, nullable=False, server_default=""),
    sa.Column("detail", JSONB, nullable=False),
    sa.Column("trace_id", sa.Text),
)
audit_seal = sa.Table(
    "audit_seal",
    metadata,
    sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("entry_seq", sa.BigInteger, nullable=False, unique=True),
    sa.Column("hash", BYTEA, nullable=False),
    sa.Column("sealed_at", TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
)

COLUMNS = ("at", "actor", "actor_kind", "action", "target", "owner_team", "detail", "trace_id")
"""What `row_of` gives, in its order."""
_PLACES = ", ".join(f"${number}" for number in range(1, len(COLUMNS) + 1))
_INSERT = f"INSERT INTO audit_entry ({', '.join(COLUMNS)}) VALUES ({_PLACES})"  # noqa: S608  # our own columns
_GENESIS = hashlib.sha256(b"colonnade audit chain v1").digest()
# Sequence numbers become visible out of order; one this far behind the newest seal was decided long ago.
_LATE_ENTRIES = 50_000


async def record(
    tx: Tx, caller: Caller, *, action: str, target: str, detail: Mapping[str, Any] | None = None, owner_team: str = ""
) -> None:
    """Write down that `caller` did `action` to `target`; lasts if and only if `tx` commits."""
    if outbox.replaying.get():
        return
    connection = await driver(tx)
    await connection.execute(_INSERT, *row_of(caller, action, target, detail or {}, owner_team))


def row_of(caller: Caller, action: str, target: str, detail: Mapping[str, Any], owner_team: str) -> tuple[Any, ...]:
    """An entry of now as the table holds it: values of COLUMNS."""
    return (
        datetime.now(UTC),
        caller.subject,
        caller.kind,
        action,
        target,
        owner_team,
        orjson.dumps(dict(detail), default=str).decode(),
        telemetry.trace_id(),
    )


def chain_key(secret: str) -> bytes:
    """Key of the chain, kept apart from what else the secret keys."""
    return hmac.digest(secret.encode(), b"audit chain", "sha256")


def _link(key: bytes, previous: bytes, entry: Any) -> bytes:
    text = orjson.dumps(
        [
            entry.seq,
            entry.at.astimezone(UTC).isoformat(),
            entry.actor,
            entry.actor_kind,
            entry.action,
            entry.target,
            entry.owner_team,
            entry.detail,
            entry.trace_id,
        ],
        option=orjson.OPT_SORT_KEYS,
    )
    return hmac.digest(key, previous + text, "sha256")


async def seal(db: Database, key: bytes, limit: int = 1_000) -> int:
    """Chain up to `limit` entries that are not chained yet; returns how many. One sealer at a time a service."""
    async with db.begin() as tx:
        newest = sa.select(audit_seal).order_by(audit_seal.c.position.desc()).limit(1)
        head = (await tx.execute(newest)).first()
        position, previous = (head.position, head.hash) if head else (0, _GENESIS)
        highest = sa.select(sa.func.coalesce(sa.func.max(audit_seal.c.entry_seq), 0)).scalar_subquery()
        pending = (
            sa.select(audit_entry)
            .where(audit_entry.c.seq > highest - _LATE_ENTRIES)
            .where(~sa.exists().where(audit_seal.c.entry_seq == audit_entry.c.seq))
            .order_by(audit_entry.c.seq)
            .limit(limit)
        )
        seals = []
        for entry in await tx.execute(pending):
            position += 1
            previous = _link(key, previous, entry)
            seals.append({"position": position, "entry_seq": entry.seq, "hash": previous})
        if seals:
            await tx.execute(audit_seal.insert(), seals)
        return len(seals)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verification found.

    Attributes:
        intact: every link holds and, where an anchor was given, the chain still contains it.
        length: links checked.
        head: hash of the last link, hex; keep `length:head` elsewhere as an anchor.
        broken_at: position of the first bad link, or None.
        reason: what is wrong there, or None.
        unsealed: entries written but not chained yet (normally gone within a second).
    """

    intact: bool
    length: int
    head: str
    broken_at: int | None
    reason: str | None
    unsealed: int


async def _links(tx: Tx) -> AsyncIterator[Any]:
    joined = sa.select(audit_seal.c.position, audit_seal.c.hash, audit_entry).select_from(
        audit_seal.outerjoin(audit_entry, audit_entry.c.seq == audit_seal.c.entry_seq)
    )
    after = 0
    while True:
        page = (
            await tx.execute(joined.where(audit_seal.c.position > after).order_by(audit_seal.c.position).limit(5_000))
        ).all()
        for row in page:
            yield row
        if len(page) < 5_000:
            return
        after = page[-1].position


async def verify(db: Database, key: bytes, anchor: tuple[int, str] | None = None) -> Verdict:
    """Walk the chain from its start.

    Args:
        anchor: (length, head) that an earlier verification printed and somebody kept; shows a cut or rewritten tail.
    """
    previous, position = _GENESIS, 0
    anchored = anchor is None or anchor[0] == 0

    def broken(at: int, reason: str) -> Verdict:
        return Verdict(False, position, previous.hex(), at, reason, 0)

    async with db.read() as tx:
        async for row in _links(tx):
            if row.position != position + 1:
                return broken(position + 1, "a link is missing")
            if row.seq is None:
                return broken(row.position, "the entry is missing")
            if not hmac.compare_digest(_link(key, previous, row), row.hash):
                return broken(row.position, "the entry or its hash was changed")
            previous, position = row.hash, row.position
            if anchor is not None and anchor[0] == position:
                if anchor[1] != previous.hex():
                    return broken(position, "the chain differs from the anchor")
                anchored = True
        if not anchored:
            return broken(position + 1, "the chain is shorter than the anchor: its tail is gone")
        await tx.execute(sa.text("SET statement_timeout = 0"))
        sealed = sa.exists().where(audit_seal.c.entry_seq == audit_entry.c.seq)
        waiting = sa.select(sa.func.count()).select_from(audit_entry).where(~sealed)
        unsealed = int(await tx.scalar(waiting) or 0)
        highest = sa.select(sa.func.coalesce(sa.func.max(audit_seal.c.entry_seq), 0)).scalar_subquery()
        missed = int(await tx.scalar(waiting.where(audit_entry.c.seq <= highest - _LATE_ENTRIES)) or 0)
        await tx.execute(sa.text("RESET statement_timeout"))
    if missed:
        return Verdict(
            False, position, previous.hex(), position + 1, f"{missed} old entries were never chained", unsealed
        )
    return Verdict(True, position, previous.hex(), None, None, unsealed)
