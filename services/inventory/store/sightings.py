"""What each source says of what it sees, which asset that is, by which names it is known, and what it is linked to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, insert

from services.inventory.domain.claims import Found, Link
from services.inventory.domain.discovery import SightingNotFound, Source
from services.inventory.domain.evidence import SightingState, Testimony, found_of
from services.inventory.domain.relations import Edge
from services.inventory.store.schema import (
    LIVING,
    among,
    asset_table,
    link_table,
    name_table,
    scope_table,
    sighting_table,
)
from shared.auth import Caller, visible
from shared.contracts.inventory import AssetType, Relation
from shared.database import Tx

_sighting = sighting_table.c
_link = link_table.c

_INTAKE_LOCK = sa.text("SELECT pg_advisory_xact_lock(hashtext('discovery.intake'))")


async def lock_intake(tx: Tx) -> None:
    """One transaction at a time takes in: two runs that see one thing would else make two assets of it."""
    await tx.execute(_INTAKE_LOCK)


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one source says of one entry in one scope, and the asset that it is.

    Attributes:
        matched_by: why it is this asset.
        pinned: a person said so; no run changes it.
        living: its asset is not retired.
    """

    sighting_id: UUID
    source: Source
    scope: str
    found: Found
    asset_id: UUID
    fingerprint: bytes
    matched_by: str
    pinned: bool
    first_seen: datetime
    changed_at: datetime
    missing_since: datetime | None
    gone_at: datetime | None
    read_at: datetime | None
    stale_since: datetime | None
    living: bool

    @property
    def state(self) -> SightingState:
        """new and changed are of the scope's last complete reading."""
        if self.gone_at is not None:
            return SightingState.GONE
        if self.missing_since is not None:
            return SightingState.MISSING
        if self.read_at is None or self.first_seen >= self.read_at:
            return SightingState.NEW
        return SightingState.SEEN

    @property
    def testimonies(self) -> list[Testimony]:
        """What it claims; nothing when it is gone."""
        if self.gone_at is not None:
            return []
        return [Testimony(self.source, claim, self.sighting_id) for claim in self.found.claims]

    @property
    def last_seen(self) -> datetime:
        """Last complete reading of its scope that showed it, or the change that one brought since."""
        if self.missing_since is not None or self.read_at is None:
            return self.changed_at
        return max(self.read_at, self.changed_at)


_SIGHTINGS = sa.select(
    sighting_table, scope_table.c.read_at, scope_table.c.stale_since, asset_table.c.lifecycle, asset_table.c.owner_team
).select_from(
    sighting_table.outerjoin(
        scope_table, sa.and_(scope_table.c.source == _sighting.source, scope_table.c.scope == _sighting.scope)
    ).outerjoin(asset_table, asset_table.c.asset_id == _sighting.asset_id)
)


def _sighting_of(row: Any) -> Sighting:
    return Sighting(
        sighting_id=row.sighting_id,
        source=Source(row.source),
        scope=row.scope,
        found=found_of(row.locator, row.document),
        asset_id=row.asset_id,
        fingerprint=bytes(row.fingerprint),
        matched_by=row.matched_by,
        pinned=row.pinned,
        first_seen=row.first_seen,
        changed_at=row.changed_at,
        missing_since=row.missing_since,
        gone_at=row.gone_at,
        read_at=row.read_at,
        stale_since=row.stale_since,
        living=row.lifecycle is not None and row.lifecycle != "retired",
    )


@dataclass(frozen=True, slots=True)
class Mark:
    """Of a sighting what tells whether there is anything to do about it."""

    sighting_id: UUID
    asset_id: UUID
    fingerprint: bytes
    missing: bool
    gone: bool
    pinned: bool
    living: bool


async def marks(tx: Tx, source: Source, scope: str, locators: Collection[str]) -> dict[str, Mark]:
    """Locator -> mark of those entries that the scope has shown before."""
    stmt = (
        sa.select(
            _sighting.locator,
            _sighting.sighting_id,
            _sighting.asset_id,
            _sighting.fingerprint,
            _sighting.missing_since,
            _sighting.gone_at,
            _sighting.pinned,
            asset_table.c.lifecycle,
        )
        .select_from(sighting_table.outerjoin(asset_table, asset_table.c.asset_id == _sighting.asset_id))
        .where(_sighting.source == source, _sighting.scope == scope, _sighting.locator == _any_text(locators))
    )
    return {
        row.locator: Mark(
            sighting_id=row.sighting_id,
            asset_id=row.asset_id,
            fingerprint=bytes(row.fingerprint),
            missing=row.missing_since is not None,
            gone=row.gone_at is not None,
            pinned=row.pinned,
            living=row.lifecycle is not None and row.lifecycle != "retired",
        )
        for row in await tx.execute(stmt)
    }


async def put_sightings(tx: Tx, source: Source, scope: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Keep what was seen: rows of sighting_id, locator, asset_id, document, fingerprint, observed, matched_by, seen."""
    if not rows:
        return
    stmt = insert(sighting_table)
    renewed = {
        name: stmt.excluded[name] for name in ("asset_id", "document", "fingerprint", "observed", "changed_at")
    } | {
        "missing_since": None,
        "gone_at": None,
        "matched_by": sa.case(
            (_sighting.asset_id == stmt.excluded.asset_id, _sighting.matched_by), else_=stmt.excluded.matched_by
        ),
    }
    await tx.execute(
        stmt.on_conflict_do_update(index_elements=["source", "scope", "locator"], set_=renewed),
        [
            {
                "source": source,
                "scope": scope,
                "locator": row["locator"],
                "sighting_id": row["sighting_id"],
                "asset_id": row["asset_id"],
                "document": row["document"],
                "fingerprint": row["fingerprint"],
                "observed": row["observed"],
                "matched_by": row["matched_by"],
                "pinned": False,
                "first_seen": row["seen"],
                "changed_at": row["seen"],
            }
            for row in rows
        ],
    )


async def locators_in(tx: Tx, source: Source, scope: str) -> list[Any]:
    """(locator, sighting_id, changed_at, missing_since) of what the scope has shown and is not gone."""
    stmt = sa.select(_sighting.locator, _sighting.sighting_id, _sighting.changed_at, _sighting.missing_since).where(
        _sighting.source == source, _sighting.scope == scope, _sighting.gone_at.is_(None)
    )
    return list(await tx.execute(stmt))


async def look_again(tx: Tx, asset_ids: Collection[UUID]) -> None:
    """Let what is said of these assets count as different at the next look, since it could not be taken over."""
    if asset_ids:
        await tx.execute(sighting_table.update().where(among(_sighting.asset_id, asset_ids)).values(fingerprint=b""))


async def set_missing(tx: Tx, sighting_ids: Collection[UUID], at: datetime) -> None:
    if sighting_ids:
        await tx.execute(
            sighting_table.update().where(among(_sighting.sighting_id, sighting_ids)).values(missing_since=at)
        )


async def set_gone(tx: Tx, sighting_ids: Collection[UUID], at: datetime) -> None:
    if sighting_ids:
        await tx.execute(
            sighting_table.update()
            .where(among(_sighting.sighting_id, sighting_ids))
            .values(gone_at=at, missing_since=sa.func.coalesce(_sighting.missing_since, at))
        )


async def sightings_of(tx: Tx, asset_ids: Collection[UUID]) -> dict[UUID, list[Sighting]]:
    """Everything that sources say of these assets, also what is missing or gone, the oldest first."""
    found: dict[UUID, list[Sighting]] = {asset_id: [] for asset_id in asset_ids}
    stmt = _SIGHTINGS.where(among(_sighting.asset_id, asset_ids)).order_by(_sighting.first_seen, _sighting.sighting_id)
    for row in await tx.execute(stmt):
        found[row.asset_id].append(_sighting_of(row))
    return found


async def get_sighting(tx: Tx, caller: Caller, sighting_id: UUID) -> Sighting:
    """One sighting.

    Raises:
        SightingNotFound: there is none, or its asset is not the caller's to see.
    """
    stmt = _SIGHTINGS.where(_sighting.sighting_id == sighting_id)
    row = (await tx.execute(stmt.where(visible(caller, asset_table.c.owner_team)))).first()
    if row is None:
        raise SightingNotFound(f"there is no sighting {sighting_id}")
    return _sighting_of(row)


async def sightings(
    tx: Tx,
    caller: Caller,
    *,
    source: Source | None,
    state: SightingState | None,
    observed: str | None,
    locator: str | None,
    after: UUID | None,
    limit: int,
) -> list[Sighting]:
    """Sightings of assets that the caller may see, in the order in which they were first seen."""
    stmt = _SIGHTINGS.where(visible(caller, asset_table.c.owner_team))
    if source is not None:
        stmt = stmt.where(_sighting.source == source)
    if locator is not None:
        stmt = stmt.where(_sighting.locator.startswith(locator, autoescape=True))
    if observed is not None:
        stmt = stmt.where(_sighting.observed.contains([observed]), sa.text("observed <> '{}'::text[]"))
    if state is SightingState.GONE:
        stmt = stmt.where(_sighting.gone_at.is_not(None))
    elif state is SightingState.MISSING:
        stmt = stmt.where(_sighting.missing_since.is_not(None), _sighting.gone_at.is_(None))
    elif state is SightingState.NEW:
        fresh = sa.or_(scope_table.c.read_at.is_(None), _sighting.first_seen >= scope_table.c.read_at)
        stmt = stmt.where(_sighting.missing_since.is_(None), fresh)
    elif state is not None:
        stmt = stmt.where(_sighting.missing_since.is_(None), _sighting.first_seen < scope_table.c.read_at)
    if after is not None:
        stmt = stmt.where(_sighting.sighting_id > after)
    return [_sighting_of(row) for row in await tx.execute(stmt.order_by(_sighting.sighting_id).limit(limit))]


async def assign(tx: Tx, sighting_id: UUID, asset_id: UUID, matched_by: str) -> None:
    """Let a sighting be another asset, because a person says so."""
    await tx.execute(
        sighting_table.update()
        .where(_sighting.sighting_id == sighting_id)
        .values(asset_id=asset_id, matched_by=matched_by, pinned=True)
    )


# -- names and links --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bearer:
    """The living asset that bears a name, and in which sighting ("source locator")."""

    asset_id: UUID
    asset_type: AssetType
    sighting: str


async def assets_by_name(tx: Tx, names: Collection[str]) -> dict[str, Bearer]:
    """Who bears each of the names that something bears."""
    if not names:
        return {}
    stmt = (
        sa.select(name_table.c.name, _sighting.asset_id, _sighting.source, _sighting.locator, asset_table.c.asset_type)
        .select_from(
            name_table.join(sighting_table, _sighting.sighting_id == name_table.c.sighting_id).join(
                asset_table, asset_table.c.asset_id == _sighting.asset_id
            )
        )
        .where(name_table.c.name == _any_text(names), _sighting.gone_at.is_(None), LIVING)
        # Should a person have parted two that share a name, it means the older.
        .order_by(_sighting.first_seen.desc(), _sighting.sighting_id.desc())
    )
    return {
        row.name: Bearer(row.asset_id, AssetType(row.asset_type), f"{row.source} {row.locator}")
        for row in await tx.execute(stmt)
    }


async def put_names(tx: Tx, names: Mapping[UUID, Collection[str]]) -> None:
    """Let each of these sightings bear those names and no others."""
    await tx.execute(name_table.delete().where(among(name_table.c.sighting_id, names)))
    rows = [
        {"name": name, "sighting_id": sighting_id} for sighting_id, own in names.items() for name in sorted(set(own))
    ]
    if rows:
        await tx.execute(name_table.insert(), rows)


async def drop_links(tx: Tx, sighting_ids: Collection[UUID]) -> set[Edge]:
    """Forget the links of these sightings; the edges that they had made."""
    stmt = link_table.delete().where(among(_link.sighting_id, sighting_ids))
    source = sa.select(_sighting.source).where(_sighting.sighting_id == _link.sighting_id).scalar_subquery()
    returned = stmt.returning(_link.own_id, _link.other_id, _link.relation, _link.reverse, _link.at_locator, source)
    return {_edge(row) for row in await tx.execute(returned) if row.other_id is not None}


@dataclass(frozen=True, slots=True)
class KeptLink:
    """A link of a sighting, and the asset that its target turned out to be; None until something has that name."""

    sighting_id: UUID
    source: Source
    own_id: UUID
    other_id: UUID | None
    link: Link

    @property
    def edge(self) -> Edge | None:
        """The edge that it makes, once its target is known."""
        if self.other_id is None:
            return None
        start, end = (self.other_id, self.own_id) if self.link.reverse else (self.own_id, self.other_id)
        return Edge(start, end, self.link.relation, self.source.value, self.link.locator)


async def add_links(tx: Tx, links: Sequence[KeptLink]) -> None:
    """Keep links; the first of those that say the same at several places."""
    rows = [
        {
            "sighting_id": kept.sighting_id,
            "relation": kept.link.relation,
            "target": kept.link.target,
            "reverse": kept.link.reverse,
            "at_locator": kept.link.locator,
            "own_id": kept.own_id,
            "other_id": kept.other_id,
        }
        for kept in links
    ]
    if rows:
        await tx.execute(insert(link_table).on_conflict_do_nothing(), rows)


async def names_of(tx: Tx, sighting_ids: Collection[UUID]) -> set[str]:
    """The names that these sightings bear."""
    stmt = sa.select(name_table.c.name).where(among(name_table.c.sighting_id, sighting_ids))
    return set(await tx.scalars(stmt))


async def resolve_links(tx: Tx, names: Collection[str]) -> tuple[set[Edge], set[Edge]]:
    """Let links to these names end at the asset that bears each now, at none where none does; the edges that this ends,
    and those that it begins."""
    if not names:
        return set(), set()
    stmt = sa.select(link_table, _sighting.source.label("source")).select_from(
        link_table.join(sighting_table, _sighting.sighting_id == _link.sighting_id)
    )
    rows = list(await tx.execute(stmt.where(_link.target == _any_text(names))))
    if not rows:
        return set(), set()
    bearers = await assets_by_name(tx, {row.target for row in rows})
    ended, begun, changes = set(), set(), []
    for row in rows:
        bearer = bearers.get(row.target)
        # An asset has no edge to itself.
        now = bearer.asset_id if bearer is not None and bearer.asset_id != row.own_id else None
        if now == row.other_id:
            continue
        ends = (row.relation, row.reverse, row.at_locator, row.source)
        if row.other_id is not None:
            ended.add(_edge((row.own_id, row.other_id, *ends)))
        if now is not None:
            begun.add(_edge((row.own_id, now, *ends)))
        changes.append(
            {"b_sighting": row.sighting_id, "b_relation": row.relation, "b_target": row.target, "b_now": now,
             "b_reverse": row.reverse}
        )  # fmt: skip
    if changes:
        await tx.execute(
            link_table.update()
            .where(
                _link.sighting_id == sa.bindparam("b_sighting"),
                _link.relation == sa.bindparam("b_relation"),
                _link.target == sa.bindparam("b_target"),
                _link.reverse == sa.bindparam("b_reverse"),
            )
            .values(other_id=sa.bindparam("b_now")),
            changes,
        )
    return ended, begun


async def still_stated(tx: Tx, edges: Collection[Edge]) -> set[Edge]:
    """Those of the edges that another sighting of the same source states too."""
    if not edges:
        return set()
    ends = {edge.from_id for edge in edges} | {edge.to_id for edge in edges}
    stmt = sa.select(
        _link.own_id, _link.other_id, _link.relation, _link.reverse, _link.at_locator, _sighting.source
    ).select_from(link_table.join(sighting_table, _sighting.sighting_id == _link.sighting_id))
    stated = {
        _key(_edge(row)) for row in await tx.execute(stmt.where(among(_link.own_id, ends), _link.other_id.is_not(None)))
    }
    return {edge for edge in edges if _key(edge) in stated}


def _key(edge: Edge) -> tuple[UUID, UUID, Relation, str]:
    return edge.from_id, edge.to_id, edge.relation, edge.source


def _edge(row: Any) -> Edge:
    own, other, relation, reverse, locator, source = row
    start, end = (other, own) if reverse else (own, other)
    return Edge(start, end, Relation(relation), source, locator)


def _any_text(values: Collection[str]) -> sa.ColumnElement[Any]:
    return sa.any_(sa.literal(list(values), ARRAY(sa.Text)))
