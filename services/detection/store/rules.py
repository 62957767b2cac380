"""Rules: whole documents, with what lists filter by and what ends them beside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.dialects.postgresql import insert

from services.detection.domain.detector import Loaded
from services.detection.domain.rules import Rule, Status, UnreadableRule
from services.detection.store import generation
from services.detection.store.tables import rule_table, rule_version_table
from shared.auth import Caller
from shared.database import Tx


@dataclass(frozen=True, slots=True)
class StoredRule:
    """A rule with how it is kept. `origin` is builtin or custom.

    Attributes:
        on_trial: it is in shadow, or was disabled out of it, and decides only after a promotion.
        judged_from: the first version whose alerts count for its demotion.
        stated_rate: greatest false-positive rate that its promotion stated, None for the installation's.
        status_reason: what last changed its status, why, when, and the figures that did.
    """

    rule: Rule
    version: int
    origin: str
    digest: str
    updated_at: datetime
    updated_by: str
    on_trial: bool = False
    judged_from: int = 1
    stated_rate: float | None = None
    status_reason: dict[str, Any] | None = None


def _stored(row: Any) -> StoredRule:
    """
    Raises:
        UnreadableRule
    """
    fields = {name: getattr(row, name) for name in StoredRule.__slots__ if name != "rule"}
    try:
        return StoredRule(rule=Rule.model_validate(row.document), **fields)
    except ValidationError as error:
        raise UnreadableRule(f"the rule {row.rule_id} is of a later release; have this one replaced first") from error


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
    """A rule that the caller may read.

    Raises:
        UnreadableRule: a later release wrote it.
    """
    query = sa.select(rule_table).filter_by(rule_id=rule_id).where(_readable(caller))
    row = (await tx.execute(query.with_for_update() if lock else query)).first()
    return None if row is None else _stored(row)


async def running(tx: Tx, caller: Caller) -> list[StoredRule]:
    """All rules that run and that the caller may read; one of a later release that cannot be read is left out."""
    query = sa.select(rule_table).where(_readable(caller), rule_table.c.status != Status.DEPRECATED.value)
    return _known(await tx.execute(query.order_by(rule_table.c.rule_id)))


def _known(rows: Iterable[Any]) -> list[StoredRule]:
    """The rules that this release can read; a later one may have written others."""
    found = []
    for row in rows:
        with suppress(UnreadableRule):
            found.append(_stored(row))
    return found


async def page(
    tx: Tx, caller: Caller, filters: Mapping[str, str], after: str | None, limit: int
) -> tuple[list[StoredRule], str | None]:
    """Rules that the caller may read in the order of their ids, and the last id when there are more.

    One of a later release that cannot be read is left out, so that a page may hold fewer than `limit`.
    """
    query = sa.select(rule_table).filter_by(**filters).where(_readable(caller))
    query = query.order_by(rule_table.c.rule_id).limit(limit + 1)
    if after is not None:
        query = query.where(rule_table.c.rule_id > after)
    rows = (await tx.execute(query)).all()
    shown = rows[:limit]
    return _known(shown), shown[-1].rule_id if len(rows) > limit else None


async def digests(tx: Tx) -> dict[str, tuple[int, str, str, str, bool]]:
    """Rule -> (version, origin, digest, updated_by, on_trial) of every rule, also of those that cannot be read."""
    rule = rule_table.c
    columns = (rule.rule_id, rule.version, rule.origin, rule.digest, rule.updated_by, rule.on_trial)
    rows = await tx.execute(sa.select(*columns))
    return {row.rule_id: (row.version, row.origin, row.digest, row.updated_by, row.on_trial) for row in rows}


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
        "on_trial": stored.on_trial,
        "judged_from": stored.judged_from,
        "stated_rate": stored.stated_rate,
        "status_reason": stored.status_reason,
    }


async def add(tx: Tx, stored: StoredRule) -> bool:
    """Add it, in force from when the transaction commits; False when there is one of its id."""
    new = insert(rule_table).values(_values(stored)).on_conflict_do_nothing(index_elements=["rule_id"])
    if await tx.scalar(new.returning(rule_table.c.rule_id)) is None:
        return False
    await _come_into_force(tx, stored)
    return True


async def put(tx: Tx, *rules: StoredRule) -> None:
    """Write rules in place of what is there, in force from when the transaction commits."""
    if not rules:
        return
    new = insert(rule_table)
    changed = {name: new.excluded[name] for name in _values(rules[0]) if name != "rule_id"}
    await tx.execute(
        new.on_conflict_do_update(index_elements=["rule_id"], set_=changed), [_values(one) for one in rules]
    )
    await _come_into_force(tx, *rules)


async def _come_into_force(tx: Tx, *rules: StoredRule) -> None:
    since = await generation.move(tx, "rules")
    values = [
        {
            "rule_id": one.rule.id,
            "version": one.version,
            "since": since,
            "status": one.rule.status.value,
            "directions": [direction.value for direction in one.rule.scope.directions],
            "asset_types": [asset_type.value for asset_type in one.rule.scope.asset_types],
            "asset_ids": [str(asset_id) for asset_id in one.rule.scope.asset_ids],
            "written_at": one.updated_at,
        }
        for one in rules
    ]
    new = insert(rule_version_table)
    # Of a rule that was put back by hand into a version that there was.
    changed = {name: new.excluded[name] for name in values[0] if name not in ("rule_id", "version")}
    await tx.execute(new.on_conflict_do_update(index_elements=["rule_id", "version"], set_=changed), values)


async def expired(tx: Tx, now: datetime) -> list[StoredRule]:
    due = sa.select(rule_table).where(rule_table.c.expires_at <= now, rule_table.c.status != Status.DEPRECATED.value)
    return _known(await tx.execute(due.with_for_update()))
