"""Rules: whole documents, with what lists filter by and what ends them beside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.dialects.postgresql import insert

from services.detection.domain.detector import Loaded
from services.detection.domain.rules import Rule, Status
from services.detection.store.tables import rule_table
from shared.auth import Caller
from shared.database import Tx


@dataclass(frozen=True, slots=True)
class StoredRule:
    """A rule with how it is kept. `origin` is builtin or custom."""

    rule: Rule
    version: int
    origin: str
    digest: str
    updated_at: datetime
    updated_by: str


def _stored(row: Any) -> StoredRule:
    rule = Rule.model_validate(row.document)
    return StoredRule(rule, row.version, row.origin, row.digest, row.updated_at, row.updated_by)


async def in_force(tx: Tx) -> tuple[list[Loaded], list[str]]:
    """The rules that run, and the ids of those that cannot be read: a later release may have written them."""
    running = sa.select(rule_table).where(rule_table.c.status != Status.DEPRECATED.value)
    loaded: list[Loaded] = []
    unreadable: list[str] = []
    for row in await tx.execute(running):
        try:
            loaded.append(Loaded(Rule.model_validate(row.document), row.version))
        except ValidationError:
            unreadable.append(row.rule_id)
    return loaded, unreadable


_NO_FOREIGN_ASSET = sa.text("""
    NOT EXISTS (
        SELECT FROM jsonb_array_elements_text(rule.document #> '{scope,asset_ids}') AS scope (asset_id)
        LEFT JOIN asset_copy ON asset_copy.asset_id = scope.asset_id::uuid
        WHERE asset_copy.owner_team IS NULL OR asset_copy.owner_team <> ALL (CAST(:teams AS text[]))
    )
""")


def _readable(caller: Caller) -> sa.ColumnElement[bool] | sa.TextClause:
    """SQL condition: rules that this caller may read.

    One for certain assets may hold the words of an attack on them: it is for those who see all of these assets.
    """
    if caller.teams is None:
        return sa.true()
    return _NO_FOREIGN_ASSET.bindparams(teams=sorted(caller.teams))


async def get(tx: Tx, caller: Caller, rule_id: str, *, lock: bool = False) -> StoredRule | None:
    """A rule that the caller may read."""
    query = sa.select(rule_table).filter_by(rule_id=rule_id).where(_readable(caller))
    row = (await tx.execute(query.with_for_update() if lock else query)).first()
    return None if row is None else _stored(row)


async def page(tx: Tx, caller: Caller, filters: Mapping[str, str], after: str | None, limit: int) -> list[StoredRule]:
    """Rules that the caller may read in the order of their ids, one more than `limit` when there are more."""
    query = sa.select(rule_table).filter_by(**filters).where(_readable(caller))
    query = query.order_by(rule_table.c.rule_id).limit(limit + 1)
    if after is not None:
        query = query.where(rule_table.c.rule_id > after)
    return [_stored(row) for row in await tx.execute(query)]


async def digests(tx: Tx) -> dict[str, tuple[int, str, str, str]]:
    """Rule -> (version, origin, digest, updated_by) of every rule, also of those that cannot be read."""
    rule = rule_table.c
    rows = await tx.execute(sa.select(rule.rule_id, rule.version, rule.origin, rule.digest, rule.updated_by))
    return {row.rule_id: (row.version, row.origin, row.digest, row.updated_by) for row in rows}


def _values(stored: StoredRule) -> dict[str, Any]:
    return {
        "rule_id": stored.rule.id,
        "version": stored.version,
        "origin": stored.origin,
        "document": stored.rule.model_dump(mode="json"),
        "digest": stored.digest,
        "kind": stored.rule.kind.value,
        "category": stored.rule.category.value,
        "status": stored.rule.status.value,
        "expires_at": stored.rule.expires_at,
        "updated_at": stored.updated_at,
        "updated_by": stored.updated_by,
    }


async def add(tx: Tx, stored: StoredRule) -> bool:
    """Add it; False when there is one of its id."""
    new = insert(rule_table).values(_values(stored)).on_conflict_do_nothing(index_elements=["rule_id"])
    return await tx.scalar(new.returning(rule_table.c.rule_id)) is not None


async def put(tx: Tx, stored: StoredRule) -> None:
    values = _values(stored)
    changed = {name: value for name, value in values.items() if name != "rule_id"}
    await tx.execute(insert(rule_table).values(values).on_conflict_do_update(index_elements=["rule_id"], set_=changed))


async def expired(tx: Tx, now: datetime) -> list[StoredRule]:
    due = sa.select(rule_table).where(rule_table.c.expires_at <= now, rule_table.c.status != Status.DEPRECATED.value)
    return [_stored(row) for row in await tx.execute(due.with_for_update())]
