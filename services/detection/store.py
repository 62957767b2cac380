"""Detection's tables and all its SQL."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP, insert

from services.detection.domain.assets import Asset, Mode
from services.detection.domain.detector import Loaded
from services.detection.domain.rules import Metric, Rule, Status
from services.detection.domain.sessions import SLICES, Activity, Baseline, Subject
from services.detection.domain.similarity import Fragment
from shared.auth import Caller, visible
from shared.bulk import upsert_newer
from shared.contracts.detection import AlertSnapshot
from shared.contracts.inventory import AssetSnapshot, AssetType, DataClassification, Lifecycle
from shared.database import Tx, driver

metadata = sa.MetaData()
_TIME = TIMESTAMP(timezone=True)

rule_table = sa.Table(
    "rule",
    metadata,
    sa.Column("rule_id", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("document", JSONB, nullable=False),
    sa.Column(
        "digest",
        sa.Text,
        nullable=False,
        comment="of the shipped file it was last taken from; empty for rules of one's own",
    ),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("category", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("expires_at", _TIME),
    sa.Column("updated_at", _TIME, nullable=False),
    sa.Column("updated_by", sa.Text, nullable=False),
)
containment_table = sa.Table(
    "containment",
    metadata,
    sa.Column("containment_id", sa.Uuid, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("target_kind", sa.Text, nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("owner_team", sa.Text, nullable=False),
    sa.Column("created_at", _TIME, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("expires_at", _TIME),
    sa.Column("lifted_at", _TIME),
    sa.Column("lifted_by", sa.Text),
    sa.Column("team", sa.Text, comment="whose traffic it holds for; null everybody's, empty what belongs to no team"),
    sa.Index(
        "containment_in_force_for",
        "target_kind",
        "target",
        "team",
        unique=True,
        postgresql_where=sa.text("lifted_at IS NULL"),
        postgresql_nulls_not_distinct=True,
    ),
)
alert_table = sa.Table(
    "alert",
    metadata,
    sa.Column("alert_id", sa.Uuid, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("change", sa.BigInteger, nullable=False),
    sa.Column("fold_key", sa.Text, nullable=False),
    sa.Column("folding", sa.Boolean, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("category", sa.Text, nullable=False),
    sa.Column("severity", sa.Text, nullable=False),
    sa.Column("verdict", sa.Text, nullable=False),
    sa.Column("decision", sa.Text, nullable=False),
    sa.Column("score", sa.Double, nullable=False),
    sa.Column("rule_id", sa.Text, nullable=False),
    sa.Column("rule_version", sa.Integer, nullable=False),
    sa.Column("owasp", ARRAY(sa.Text), nullable=False),
    sa.Column("atlas", ARRAY(sa.Text), nullable=False),
    sa.Column("asset_id", sa.Uuid),
    sa.Column("owner_team", sa.Text, nullable=False),
    sa.Column("session_id", sa.Text),
    sa.Column("actor", sa.Text),
    sa.Column("model", sa.Text),
    sa.Column("direction", sa.Text, nullable=False),
    sa.Column("excerpt", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("inspection_id", sa.Uuid, nullable=False),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("first_seen", _TIME, nullable=False),
    sa.Column("last_seen", _TIME, nullable=False),
    sa.Column("disposition", sa.Text),
    sa.Column("disposed_by", sa.Text),
    sa.Column("comment", sa.Text, nullable=False),
    sa.Column("reported_by", sa.Text, nullable=False, server_default=""),
    sa.Index("alert_fold", "fold_key", unique=True, postgresql_where=sa.text("folding")),
    sa.Index("alert_by_time", "first_seen", "alert_id"),
    sa.Index("alert_by_asset", "asset_id", "first_seen", "alert_id"),
    sa.Index("alert_by_team", "owner_team", "first_seen", "alert_id"),
    sa.Index("alert_by_session", "session_id", "first_seen", "alert_id"),
    sa.Index("alert_by_actor", "actor", "first_seen", "alert_id"),
    sa.Index("alert_by_change", "change"),
)
asset_copy_table = sa.Table(
    "asset_copy",
    metadata,
    sa.Column("asset_id", sa.Uuid, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("owner_team", sa.Text, nullable=False),
    sa.Column("asset_type", sa.Text, nullable=False),
    sa.Column("data_classification", sa.Text, nullable=False),
    sa.Column("lifecycle", sa.Text, nullable=False),
    sa.Column("authorized_tools", sa.Text, nullable=False, comment="a JSON array of names"),
)
asset_watch_table = sa.Table(
    "asset_watch",
    metadata,
    sa.Column("asset_id", sa.Uuid, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("mode", sa.Text, nullable=False),
    sa.Column(
        "fragments",
        JSONB,
        nullable=False,
        comment="keyed word hashes of registered prompts; the prompts are not kept",
    ),
    sa.Column("updated_at", _TIME, nullable=False),
    sa.Column("updated_by", sa.Text, nullable=False),
)
activity_amount_table = sa.Table(
    "activity_amount",
    metadata,
    sa.Column("subject_by", sa.Text, primary_key=True),
    sa.Column("subject_key", sa.Text, primary_key=True),
    sa.Column("metric", sa.Text, primary_key=True),
    sa.Column("slice", sa.BigInteger, primary_key=True),
    sa.Column("amount", sa.Double, nullable=False),
)
activity_baseline_table = sa.Table(
    "activity_baseline",
    metadata,
    sa.Column("subject_by", sa.Text, primary_key=True),
    sa.Column("subject_key", sa.Text, primary_key=True),
    sa.Column("samples", sa.Double, nullable=False),
    sa.Column("entropy_sum", sa.Double, nullable=False),
    sa.Column("entropy_squares", sa.Double, nullable=False),
    sa.Column("length_sum", sa.Double, nullable=False),
    sa.Column("updated_at", _TIME, nullable=False),
    sa.Index("activity_baseline_age", "updated_at"),
)
generation_table = sa.Table(
    "generation",
    metadata,
    sa.Column("singleton", sa.Boolean, sa.CheckConstraint("singleton"), primary_key=True, server_default=sa.true()),
    sa.Column("rules", sa.BigInteger, nullable=False),
    sa.Column("containments", sa.BigInteger, nullable=False),
)

_CHANGE = sa.Sequence("alert_change")


# -- what replicas keep in memory --------------------------------------------------------------------------------


async def generation(tx: Tx) -> tuple[int, int]:
    """How often rules and containments have changed."""
    row = (await tx.execute(sa.select(generation_table))).one()
    return row.rules, row.containments


async def move(tx: Tx, what: str) -> None:
    """Tell every replica that `rules` or `containments` changed, when the transaction commits."""
    await tx.execute(generation_table.update().values({what: generation_table.c[what] + 1}))


# -- rules -------------------------------------------------------------------------------------------------------


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


async def rules_in_force(tx: Tx) -> tuple[list[Loaded], list[str]]:
    """The rules that run, and the ids of those that cannot be read: a later release may have written them."""
    in_force = sa.select(rule_table).where(rule_table.c.status != Status.DEPRECATED.value)
    loaded: list[Loaded] = []
    unreadable: list[str] = []
    for row in await tx.execute(in_force):
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


async def rule(tx: Tx, caller: Caller, rule_id: str, *, lock: bool = False) -> StoredRule | None:
    """A rule that the caller may read."""
    query = sa.select(rule_table).filter_by(rule_id=rule_id).where(_readable(caller))
    row = (await tx.execute(query.with_for_update() if lock else query)).first()
    return None if row is None else _stored(row)


async def rules_page(
    tx: Tx, caller: Caller, filters: Mapping[str, str], after: str | None, limit: int
) -> list[StoredRule]:
    """Rules that the caller may read in the order of their ids, one more than `limit` when there are more."""
    query = sa.select(rule_table).filter_by(**filters).where(_readable(caller))
    query = query.order_by(rule_table.c.rule_id).limit(limit + 1)
    if after is not None:
        query = query.where(rule_table.c.rule_id > after)
    return [_stored(row) for row in await tx.execute(query)]


async def digests(tx: Tx) -> dict[str, tuple[int, str, str]]:
    """Rule -> (version, origin, digest) of every rule."""
    columns = (rule_table.c.rule_id, rule_table.c.version, rule_table.c.origin, rule_table.c.digest)
    return {row.rule_id: (row.version, row.origin, row.digest) for row in await tx.execute(sa.select(*columns))}


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


async def add_rule(tx: Tx, stored: StoredRule) -> bool:
    """Add it; False when there is one of its id."""
    new = insert(rule_table).values(_values(stored)).on_conflict_do_nothing(index_elements=["rule_id"])
    return await tx.scalar(new.returning(rule_table.c.rule_id)) is not None


async def put_rule(tx: Tx, stored: StoredRule) -> None:
    values = _values(stored)
    changed = {name: value for name, value in values.items() if name != "rule_id"}
    await tx.execute(insert(rule_table).values(values).on_conflict_do_update(index_elements=["rule_id"], set_=changed))


async def expired_rules(tx: Tx, now: datetime) -> list[StoredRule]:
    due = sa.select(rule_table).where(rule_table.c.expires_at <= now, rule_table.c.status != Status.DEPRECATED.value)
    return [_stored(row) for row in await tx.execute(due.with_for_update())]


# -- containments ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Containment:
    """A block of a session, an actor or an asset, in force until it is lifted.

    Sessions and actors are named by whoever sends traffic, so a team's block holds for its own traffic only: `team`
    None is everybody's, "" what belongs to no team. Of an asset it is None.
    """

    containment_id: UUID
    version: int
    target_kind: str
    target: str
    reason: str
    owner_team: str
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    lifted_at: datetime | None = None
    lifted_by: str | None = None
    team: str | None = None


def _containment(row: Any) -> Containment:
    return Containment(**row._mapping)


async def containments_in_force(tx: Tx) -> list[Containment]:
    query = sa.select(containment_table).where(containment_table.c.lifted_at.is_(None))
    return [_containment(row) for row in await tx.execute(query)]


async def containment(tx: Tx, containment_id: UUID, *, lock: bool = False) -> Containment | None:
    query = sa.select(containment_table).filter_by(containment_id=containment_id)
    row = (await tx.execute(query.with_for_update() if lock else query)).first()
    return None if row is None else _containment(row)


async def add_containment(tx: Tx, new: Containment) -> Containment | None:
    """Add it; None when its target is contained already for the same team."""
    values = {name: getattr(new, name) for name in Containment.__slots__}
    stmt = (
        insert(containment_table)
        .values(values)
        .on_conflict_do_nothing(
            index_elements=["target_kind", "target", "team"], index_where=containment_table.c.lifted_at.is_(None)
        )
    )
    row = (await tx.execute(stmt.returning(containment_table))).first()
    return None if row is None else _containment(row)


async def containment_of(tx: Tx, target_kind: str, target: str, team: str | None) -> Containment | None:
    """The one in force on a target for a team, locked."""
    query = sa.select(containment_table).filter_by(target_kind=target_kind, target=target, team=team, lifted_at=None)
    row = (await tx.execute(query.with_for_update())).first()
    return None if row is None else _containment(row)


async def save_containment(tx: Tx, changed: Containment) -> None:
    values = {name: getattr(changed, name) for name in Containment.__slots__ if name != "containment_id"}
    await tx.execute(containment_table.update().filter_by(containment_id=changed.containment_id).values(values))


async def expired_containments(tx: Tx, now: datetime) -> list[Containment]:
    due = sa.select(containment_table).where(
        containment_table.c.lifted_at.is_(None), containment_table.c.expires_at <= now
    )
    return [_containment(row) for row in await tx.execute(due.limit(500).with_for_update(skip_locked=True))]


async def containments_page(
    tx: Tx, caller: Caller, filters: Mapping[str, Any], in_force: bool | None, after: Sequence[Any] | None, limit: int
) -> list[Containment]:
    """Newest first, one more than `limit` when there are more."""
    table = containment_table
    query = sa.select(table).filter_by(**filters).where(visible(caller, table.c.owner_team))
    if in_force is not None:
        query = query.where(table.c.lifted_at.is_(None) if in_force else table.c.lifted_at.is_not(None))
    if after is not None:
        edge = sa.tuple_(sa.literal(datetime.fromisoformat(after[0]), _TIME), sa.literal(UUID(after[1]), sa.Uuid))
        query = query.where(sa.tuple_(table.c.created_at, table.c.containment_id) < edge)
    query = query.order_by(table.c.created_at.desc(), table.c.containment_id.desc()).limit(limit + 1)
    return [_containment(row) for row in await tx.execute(query)]


# -- alerts ------------------------------------------------------------------------------------------------------

_ALERT_LOCK = "SELECT pg_advisory_xact_lock(hashtext('alerts'))"
_ALERT_COLUMNS = tuple(name for name in AlertSnapshot.model_fields if name not in ("version", "disposition"))
_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's dialects carry no annotations
_ALERT_TYPES = {column.name: column.type.compile(dialect=_DIALECT) for column in alert_table.columns}
_FOLD = f"""
    INSERT INTO alert ({", ".join(_ALERT_COLUMNS)}, version, change, fold_key, folding, status, comment)
    SELECT {", ".join(_ALERT_COLUMNS)}, 1, nextval('alert_change'), fold_key, true, 'open', ''
    FROM jsonb_to_recordset($1::text::jsonb)
        AS new ({", ".join(f"{name} {_ALERT_TYPES[name]}" for name in (*_ALERT_COLUMNS, "fold_key"))})
    ORDER BY fold_key
    ON CONFLICT (fold_key) WHERE folding DO UPDATE SET
        count = alert.count + excluded.count,
        version = alert.version + 1,
        change = nextval('alert_change'),
        last_seen = greatest(alert.last_seen, excluded.last_seen)
    WHERE alert.last_seen >= $2
    RETURNING *
"""  # noqa: S608  # column names and types of our own table
_UNFOLD = "UPDATE alert SET folding = false WHERE fold_key = ANY($1::text[]) AND folding AND last_seen < $2"


async def lock_alerts(tx: Tx) -> None:
    """Let no other transaction change alerts until this one ends.

    So changes become visible in the order of their numbers, and a reader of the stream misses none.
    """
    await (await driver(tx)).execute(_ALERT_LOCK)


async def fold(tx: Tx, new: Mapping[str, AlertSnapshot], folds_after: datetime) -> dict[str, Any]:
    """Raise each alert, or count it in the one it is identical to; the rows by fold key. Take `lock_alerts` first.

    Args:
        new: by fold key; `count` is how often it was seen.
        folds_after: an alert last seen before this no longer takes in new findings.
    """
    connection = await driver(tx)
    found: dict[str, Any] = {}
    missing = dict(new)
    for _ in range(2):
        rows = [alert.model_dump(mode="json") | {"fold_key": key} for key, alert in missing.items()]
        for row in await connection.fetch(_FOLD, orjson.dumps(rows).decode(), folds_after):
            found[row["fold_key"]] = _Row(row)
            del missing[row["fold_key"]]
        if not missing:
            break
        # What is left stands in an alert of long ago, which makes room for a new one.
        await connection.execute(_UNFOLD, list(missing), folds_after)
    return found


class _Row:
    """A row of asyncpg's with its columns as attributes, as SQLAlchemy's have them."""

    def __init__(self, record: Any) -> None:
        self.__dict__.update(record.items())


def snapshot(row: Any) -> AlertSnapshot:
    return AlertSnapshot.model_validate({name: getattr(row, name) for name in AlertSnapshot.model_fields})


async def alert(tx: Tx, caller: Caller, alert_id: UUID, *, lock: bool = False) -> Any | None:
    """The row of an alert that the caller may see."""
    query = sa.select(alert_table).filter_by(alert_id=alert_id).where(visible(caller, alert_table.c.owner_team))
    return (await tx.execute(query.with_for_update() if lock else query)).first()


async def dispose(tx: Tx, alert_id: UUID, disposition: str | None, by: str, comment: str) -> Any:
    """Record what a person found; a disposed alert takes in no more findings."""
    return (
        await tx.execute(
            alert_table.update()
            .filter_by(alert_id=alert_id)
            .values(
                disposition=disposition,
                disposed_by=by,
                comment=comment,
                status="open" if disposition is None else "disposed",
                folding=False,
                version=alert_table.c.version + 1,
                change=_CHANGE.next_value(),
            )
            .returning(alert_table)
        )
    ).one()


async def alerts_page(
    tx: Tx,
    caller: Caller,
    filters: Mapping[str, Any],
    since: datetime | None,
    until: datetime | None,
    after: Sequence[Any] | None,
    limit: int,
) -> list[Any]:
    """Newest first by first_seen, one more than `limit` when there are more."""
    table = alert_table
    query = sa.select(table).filter_by(**filters).where(visible(caller, table.c.owner_team))
    if since is not None:
        query = query.where(table.c.last_seen >= since)
    if until is not None:
        query = query.where(table.c.first_seen < until)
    if after is not None:
        edge = sa.tuple_(sa.literal(datetime.fromisoformat(after[0]), _TIME), sa.literal(UUID(after[1]), sa.Uuid))
        query = query.where(sa.tuple_(table.c.first_seen, table.c.alert_id) < edge)
    query = query.order_by(table.c.first_seen.desc(), table.c.alert_id.desc()).limit(limit + 1)
    return list((await tx.execute(query)).all())


async def newest_change(tx: Tx) -> int:
    return int(await tx.scalar(sa.select(sa.func.coalesce(sa.func.max(alert_table.c.change), 0))) or 0)


async def changed_alerts(tx: Tx, caller: Caller, after: int, limit: int = 500) -> list[Any]:
    """Alerts in the order in which they changed, after a change."""
    query = sa.select(alert_table).where(alert_table.c.change > after, visible(caller, alert_table.c.owner_team))
    return list((await tx.execute(query.order_by(alert_table.c.change).limit(limit))).all())


# -- assets ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Watched:
    """An asset as inspections need it: the copy of its record, its mode, its registered prompt fragments."""

    asset: Asset
    mode: Mode
    fragments: tuple[Fragment, ...]
    version: int


async def put_assets(tx: Tx, assets: Iterable[AssetSnapshot]) -> None:
    newest = {asset.asset_id: asset for asset in sorted(assets, key=lambda asset: asset.version)}
    rows = [
        {
            "asset_id": asset.asset_id,
            "version": asset.version,
            "name": asset.name,
            "owner_team": asset.owner_team,
            "asset_type": asset.asset_type.value,
            "data_classification": asset.data_classification.value,
            "lifecycle": asset.lifecycle.value,
            "authorized_tools": orjson.dumps(asset.authorized_tools).decode(),
        }
        for asset in sorted(newest.values(), key=lambda asset: asset.asset_id)
    ]
    await upsert_newer(tx, asset_copy_table, rows)


_FOLLOW_OWNER = """
    UPDATE {table} SET owner_team = owner.team
    FROM unnest($1::uuid[], $2::text[]) AS owner (asset_id, team)
    WHERE {table}.{column} = owner.asset_id{cast} AND {table}.owner_team <> owner.team
"""
_FOLLOW_OWNERS = (
    _FOLLOW_OWNER.format(table="alert", column="asset_id", cast=""),
    _FOLLOW_OWNER.format(table="containment", column="target", cast="::text AND target_kind = 'asset'"),
)


async def follow_owners(tx: Tx, assets: Iterable[AssetSnapshot]) -> None:
    """Alerts and containments of an asset belong to whoever owns it now, also those older than we knew of it."""
    newest = {asset.asset_id: asset.owner_team for asset in sorted(assets, key=lambda asset: asset.version)}
    owners = sorted(newest.items())
    connection = await driver(tx)
    for statement in _FOLLOW_OWNERS:
        await connection.execute(statement, [asset_id for asset_id, _ in owners], [team for _, team in owners])


async def watched(tx: Tx, asset_id: UUID) -> Watched | None:
    """An asset and how it is watched; None when it is not known here."""
    watch = asset_watch_table
    query = sa.select(
        asset_copy_table,
        watch.c.mode,
        watch.c.fragments,
        sa.func.coalesce(watch.c.version, 0).label("watch_version"),
    ).select_from(asset_copy_table.outerjoin(watch, watch.c.asset_id == asset_copy_table.c.asset_id))
    row = (await tx.execute(query.where(asset_copy_table.c.asset_id == asset_id))).first()
    if row is None:
        return None
    asset = Asset(
        asset_id=row.asset_id,
        version=row.version,
        name=row.name,
        owner_team=row.owner_team,
        asset_type=AssetType(row.asset_type),
        data_classification=DataClassification(row.data_classification),
        lifecycle=Lifecycle(row.lifecycle),
        authorized_tools=frozenset(orjson.loads(row.authorized_tools)),
    )
    mode = Mode(row.mode) if row.mode else Mode.ENFORCE
    return Watched(asset, mode, tuple(tuple(one) for one in row.fragments or ()), row.watch_version)


async def hidden_assets(tx: Tx, caller: Caller, asset_ids: Collection[UUID]) -> set[UUID]:
    """Those of the assets that the caller may not know of, among them those that nobody knows here."""
    copy = asset_copy_table.c
    query = sa.select(copy.asset_id).where(copy.asset_id.in_(asset_ids), visible(caller, copy.owner_team))
    return set(asset_ids) - set((await tx.execute(query)).scalars())


async def lock_asset(tx: Tx, asset_id: UUID) -> None:
    """Let nobody else change how an asset is watched until the transaction ends."""
    await tx.execute(sa.select(asset_copy_table.c.asset_id).filter_by(asset_id=asset_id).with_for_update())


async def put_watch(
    tx: Tx, asset_id: UUID, version: int, mode: Mode, fragments: Sequence[Fragment], at: datetime, by: str
) -> None:
    values: dict[str, Any] = {"version": version, "mode": mode.value, "updated_at": at, "updated_by": by}
    values["fragments"] = [list(fragment) for fragment in fragments]
    new = insert(asset_watch_table).values(asset_id=asset_id, **values)
    await tx.execute(new.on_conflict_do_update(index_elements=["asset_id"], set_=values))


# -- activity ----------------------------------------------------------------------------------------------------

_ADD_AMOUNTS = """
    INSERT INTO activity_amount (subject_by, subject_key, metric, slice, amount)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::float8[])
    ON CONFLICT (subject_by, subject_key, metric, slice)
    DO UPDATE SET amount = activity_amount.amount + excluded.amount
"""
_ADD_BASELINES = """
    INSERT INTO activity_baseline
    SELECT *, now() FROM unnest($1::text[], $2::text[], $3::float8[], $4::float8[], $5::float8[], $6::float8[])
    ON CONFLICT (subject_by, subject_key) DO UPDATE SET
        samples = activity_baseline.samples + excluded.samples,
        entropy_sum = activity_baseline.entropy_sum + excluded.entropy_sum,
        entropy_squares = activity_baseline.entropy_squares + excluded.entropy_squares,
        length_sum = activity_baseline.length_sum + excluded.length_sum,
        updated_at = now()
"""


async def share_activity(tx: Tx, unshared: Mapping[Subject, Activity]) -> None:
    """Add a replica's part of the sums to the shared ones."""
    # Sorted, so that two replicas take the rows' locks in one order.
    amounts = sorted(
        (subject.by, subject.key, metric.value, at, amount)
        for subject, activity in unshared.items()
        for (metric, at), amount in activity.amounts.items()
    )
    baselines = sorted(
        (subject.by, subject.key, one.samples, one.entropy_sum, one.entropy_squares, one.length_sum)
        for subject, activity in unshared.items()
        if (one := activity.baseline).samples
    )
    connection = await driver(tx)
    if amounts:
        await connection.execute(_ADD_AMOUNTS, *(list(column) for column in zip(*amounts, strict=True)))
    if baselines:
        await connection.execute(_ADD_BASELINES, *(list(column) for column in zip(*baselines, strict=True)))


async def activity_of(tx: Tx, subjects: Sequence[Subject]) -> dict[Subject, Activity]:
    """The shared sums of subjects; an empty Activity for one that nobody has seen."""
    found = {subject: Activity() for subject in subjects}
    connection = await driver(tx)
    keys = [subject.by for subject in subjects], [subject.key for subject in subjects]
    wanted = "(subject_by, subject_key) IN (SELECT * FROM unnest($1::text[], $2::text[]))"
    for row in await connection.fetch(f"SELECT * FROM activity_amount WHERE {wanted}", *keys):  # noqa: S608
        amounts = found[Subject(row["subject_by"], row["subject_key"])].amounts
        amounts[Metric(row["metric"]), row["slice"]] = row["amount"]
    for row in await connection.fetch(f"SELECT * FROM activity_baseline WHERE {wanted}", *keys):  # noqa: S608
        found[Subject(row["subject_by"], row["subject_key"])].baseline = Baseline(
            row["samples"], row["entropy_sum"], row["entropy_squares"], row["length_sum"]
        )
    return found


async def forget_activity(tx: Tx, now: float) -> None:
    """Drop what no window reaches any more, and baselines of sessions that ended a day ago."""
    for metric in Metric:
        if metric.window_seconds is not None:
            oldest = int(now * SLICES / metric.window_seconds) - 2 * SLICES
            old = activity_amount_table.delete().filter_by(metric=metric.value)
            await tx.execute(old.where(activity_amount_table.c.slice < oldest))
    age = sa.func.now() - sa.text("interval '1 day'")
    await tx.execute(activity_baseline_table.delete().where(activity_baseline_table.c.updated_at < age))
