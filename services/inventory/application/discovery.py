"""Discovery runs: asked for, and what they bring home taken in."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import uuid_utils.compat as uuid_utils

from services.inventory.application.assets import amend_asset, register_asset, retire_asset
from services.inventory.application.cards import renew_card
from services.inventory.application.imports import register_assets
from services.inventory.connectors.harvest import PROBLEMS_LIMIT
from services.inventory.domain.asset import WrongState, register
from services.inventory.domain.claims import Found
from services.inventory.domain.discovery import AlreadyItself, Counts, Problem, RunStatus, Source, status_of
from services.inventory.domain.evidence import (
    Testimony,
    declared_of,
    document_of,
    fingerprint,
    is_gone,
    settled,
)
from services.inventory.domain.relations import Edge
from services.inventory.store import assets as assets_store
from services.inventory.store import discovery as store
from services.inventory.store import graph as graph_store
from services.inventory.store import sightings as sightings_store
from services.inventory.store.discovery import Run
from services.inventory.store.sightings import KeptLink, Mark, Sighting
from shared import audit, tasks
from shared.auth import Caller
from shared.contracts.inventory import AssetType, Lifecycle
from shared.database import Database, Tx
from shared.errors import DomainError

TASK = "discovery.run"


async def request_run(tx: Tx, caller: Caller, run: Run) -> None:
    """Record the run and owe its doing."""
    await store.add_run(tx, run)
    await tasks.add(tx, kind=TASK, key=str(run.run_id), payload={})
    await audit.record(
        tx,
        caller,
        action="discovery.requested",
        target=str(run.run_id),
        detail={"source": run.source.value, "options": dict(run.options)},
        owner_team=run.owner_team,
    )


@dataclass(slots=True)
class _Seen:
    """One entry of a batch on its way in."""

    found: Found
    document: dict[str, Any]
    fingerprint: bytes
    mark: Mark | None
    sighting_id: UUID
    asset_id: UUID | None = None
    matched_by: str = ""
    created: bool = False


class Intake:
    """Where a run's harvest goes (connectors.harvest.Sink): entries become sightings, sightings become assets.

    What is not different from what is stored is not written. Everything of one call is one transaction, so a run that
    dies has taken in whole batches, and its next try finds them unchanged.
    """

    def __init__(self, db: Database, run: Run, grace: timedelta) -> None:
        self.run = run
        self._db = db
        self._grace = grace
        self._caller = Caller(run.requested_by, "service")
        self._seen: dict[str, int] = {}

    def resume(self, entries: Mapping[str, int]) -> None:
        """Count what an earlier try of this run has read: entries by scope."""
        self._seen.update(entries)

    async def take(self, scope: str, found: Sequence[Found]) -> None:
        """Take in some entries of a scope."""
        at = datetime.now(UTC)
        async with self._db.begin() as tx:
            await sightings_store.lock_intake(tx)
            counts, problems = replace(self.run.counts), list(self.run.problems)
            entries = await self._told_apart(tx, scope, found)
            differing = [entry for entry in entries if not _is_as_it_was(entry)]
            if differing:
                await self._take_in(tx, scope, differing, counts, problems, at)
            seen = self._seen.get(scope, 0) + len(found)
            counts.seen = sum(self._seen.values()) - self._seen.get(scope, 0) + seen
            await self._note(tx, counts, problems)
        self._seen[scope] = seen
        self.run = replace(self.run, counts=counts, problems=problems)

    async def complete(self, scope: str, locators: Collection[str], seconds: float) -> None:
        """Close a scope that was read to its end: what it no longer shows is missing, and gone after the grace
        period."""
        at = datetime.now(UTC)
        async with self._db.begin() as tx:
            await sightings_store.lock_intake(tx)
            counts = replace(self.run.counts)
            # What another run has seen since this reading began is not missing because this one was earlier.
            began = at - timedelta(seconds=seconds)
            absent = [
                row
                for row in await sightings_store.locators_in(tx, self.run.source, scope)
                if row.locator not in locators and row.changed_at < began
            ]
            missing = [row for row in absent if row.missing_since is None]
            gone = [row for row in absent if is_gone(row.missing_since or at, at, self._grace)]
            counts.missing += len(missing)
            counts.gone += len(gone)
            await sightings_store.set_missing(tx, [row.sighting_id for row in missing], at)
            if gone:
                over = [row.sighting_id for row in gone]
                await sightings_store.set_gone(tx, over, at)
                ended = await sightings_store.drop_links(tx, over)
                elsewhere, begun = await sightings_store.resolve_links(tx, await sightings_store.names_of(tx, over))
                await _change_edges(tx, ended | elsewhere, begun, at)
            await store.put_scope(
                tx, self.run.source, scope, self.run.run_id, entries=len(locators), seconds=seconds, reason="", at=at
            )
            await self._note(tx, counts, self.run.problems)
        self.run = replace(self.run, counts=counts)

    async def stale(self, scope: str, reason: str, seconds: float) -> None:
        """Note that a scope was not read to its end; nothing that is known of it changes."""
        at = datetime.now(UTC)
        async with self._db.begin() as tx:
            await store.put_scope(
                tx, self.run.source, scope, self.run.run_id, entries=None, seconds=seconds, reason=reason, at=at
            )

    async def finish(self, problems: Sequence[Problem], untold: int, *, complete: bool) -> Run:
        """Close the run."""
        told = [*self.run.problems, *problems]
        if untold:
            told.append(Problem("run", f"{untold} more problems are not told one by one"))
        status = status_of(problems=bool(told), complete=complete, found=self.run.counts.seen > 0)
        at = datetime.now(UTC)
        async with self._db.begin() as tx:
            await store.update_run(
                tx, self.run.run_id, status=status, counts=self.run.counts, problems=told, finished_at=at
            )
        self.run = replace(self.run, status=status, problems=told, finished_at=at)
        return self.run

    async def _note(self, tx: Tx, counts: Counts, problems: Sequence[Problem]) -> None:
        await store.update_run(
            tx, self.run.run_id, status=RunStatus.RUNNING, counts=counts, problems=problems, finished_at=None
        )

    async def _told_apart(self, tx: Tx, scope: str, found: Sequence[Found]) -> list[_Seen]:
        known = await sightings_store.marks(tx, self.run.source, scope, [item.locator for item in found])
        entries = []
        for item in found:
            document = document_of(item)
            mark = known.get(item.locator)
            sighting_id = mark.sighting_id if mark else uuid_utils.uuid7()
            entries.append(_Seen(item, document, fingerprint(document), mark, sighting_id))
        return entries

    async def _take_in(
        self, tx: Tx, scope: str, entries: Sequence[_Seen], counts: Counts, problems: list[Problem], at: datetime
    ) -> None:
        for entry in entries:
            if entry.mark is not None and entry.mark.living:
                entry.asset_id, entry.matched_by = entry.mark.asset_id, "its locator"
        await self._match(tx, [entry for entry in entries if entry.asset_id is None], counts, problems, at)
        admitted = [entry for entry in entries if entry.asset_id is not None]
        await sightings_store.put_sightings(
            tx,
            self.run.source,
            scope,
            [
                {
                    "sighting_id": entry.sighting_id,
                    "locator": entry.found.locator,
                    "asset_id": entry.asset_id,
                    "document": entry.document,
                    "fingerprint": entry.fingerprint,
                    "observed": sorted({one.kind.value for one in entry.found.observations}),
                    "matched_by": entry.matched_by,
                    "seen": at,
                }
                for entry in admitted
            ],
        )
        changed = await self._settle(tx, {entry.asset_id for entry in admitted if not entry.created}, problems, at)
        # An entry is changed when it says something else than before, or makes a known asset another.
        counts.changed += sum(
            not entry.created
            and (entry.asset_id in changed or (entry.mark is not None and entry.mark.fingerprint != entry.fingerprint))
            for entry in admitted
        )
        for entry in admitted:
            # A card that is no longer there is taken back; an entry that never had one says nothing of it.
            if entry.asset_id is not None and (entry.found.card or entry.mark is not None):
                await renew_card(tx, entry.asset_id, entry.found.card or {}, entry.found.locator, at)
        linked = {entry.sighting_id: (entry.asset_id, entry.found) for entry in admitted if entry.asset_id is not None}
        await relink(tx, self.run.source, linked, at)

    async def _match(
        self, tx: Tx, entries: Sequence[_Seen], counts: Counts, problems: list[Problem], at: datetime
    ) -> None:
        """Find out which assets new entries are: one that shares a name with them, one with the same registration key,
        else a new one."""
        known = await sightings_store.assets_by_name(tx, {name for entry in entries for name in _names(entry.found)})
        first: dict[str, _Seen] = {}
        fresh: list[_Seen] = []
        followers: list[tuple[_Seen, _Seen, str]] = []
        for entry in entries:
            names = _names(entry.found)
            bearers = ((name, known[name]) for name in names if name in known)
            if (match := next((one for one in bearers if _alike(entry.found, one[1].asset_type)), None)) is not None:
                name, bearer = match
                entry.asset_id, entry.matched_by = bearer.asset_id, f"shares {name} with {bearer.sighting}"
                counts.merged += 1
            elif (
                name := next(
                    (
                        name
                        for name in names
                        if name in first and _alike(entry.found, first[name].found.value("asset_type"))
                    ),
                    "",
                )
            ) != "":
                followers.append((entry, first[name], name))
            else:
                fresh.append(entry)
            for name in names:
                first.setdefault(name, entry)
        declared = [{"owner_team": self.run.owner_team, **declared_of(self.run.source, entry.found)} for entry in fresh]
        assets = []
        registering = []
        for entry, values in zip(fresh, declared, strict=True):
            try:
                assets.append(register(uuid_utils.uuid7(), values, by=self.run.requested_by, at=at))
                registering.append(entry)
            except DomainError as refusal:
                _add(problems, entry.found.locator, refusal.detail)
        results = await register_assets(tx, self._caller, assets, at) if assets else []
        for entry, result in zip(registering, results, strict=True):
            if isinstance(result, DomainError):
                _add(problems, entry.found.locator, result.detail)
                continue
            entry.asset_id, entry.created = result
            entry.matched_by = "new" if entry.created else "has the same registration key"
            counts.new += entry.created
            counts.merged += not entry.created
        for entry, leader, name in followers:
            if leader.asset_id is not None:
                entry.asset_id = leader.asset_id
                entry.matched_by = f"shares {name} with {self.run.source} {leader.found.locator}"
                counts.merged += 1
            else:
                _add(problems, entry.found.locator, f"is the same as {leader.found.locator}, which was refused")

    async def _settle(
        self, tx: Tx, asset_ids: Iterable[UUID | None], problems: list[Problem], at: datetime
    ) -> set[UUID]:
        """Let assets be what all their sources say; those that this changed."""
        ids = {asset_id for asset_id in asset_ids if asset_id is not None}
        if not ids:
            return set()
        known = {item.asset.asset_id: item.asset for item in await assets_store.get_many(tx, self._caller, ids)}
        said = await sightings_store.sightings_of(tx, ids)
        changed: set[UUID] = set()
        refused: set[UUID] = set()
        # In the order of ids, as everybody who locks several assets does.
        for asset_id, sightings in sorted(said.items()):
            changes = settled(known[asset_id], _testimonies(sightings)) if asset_id in known else {}
            if not changes:
                continue
            try:
                async with tx.begin_nested():
                    await amend_asset(tx, self._caller, asset_id, None, changes, at)
            except DomainError as refusal:
                _add(problems, str(asset_id), refusal.detail)
                refused.add(asset_id)
            else:
                if changes.keys() - {"sources"}:
                    changed.add(asset_id)
        await sightings_store.look_again(tx, refused)
        return changed


def _add(problems: list[Problem], where: str, words: str) -> None:
    problem = Problem(where[:300], words)
    if len(problems) < PROBLEMS_LIMIT and problem not in problems:
        problems.append(problem)


_MODELS = frozenset({AssetType.FOUNDATION_MODEL, AssetType.FINE_TUNED_MODEL, AssetType.EMBEDDING_MODEL})


def _alike(found: Found, asset_type: AssetType) -> bool:
    """Whether an entry may be an asset of that type; what kind of model one is, sources say differently."""
    own = found.value("asset_type")
    return own is asset_type or {own, asset_type} <= _MODELS


def _names(found: Found) -> list[str]:
    return list(dict.fromkeys((*found.identities, found.locator)))


def _is_as_it_was(entry: _Seen) -> bool:
    mark = entry.mark
    return mark is not None and mark.living and not mark.missing and mark.fingerprint == entry.fingerprint


def _testimonies(sightings: Sequence[Sighting]) -> list[Testimony]:
    return [testimony for sighting in sightings for testimony in sighting.testimonies]


async def _change_edges(tx: Tx, ended: set[Edge], begun: set[Edge], at: datetime) -> None:
    """End edges that no sighting states any longer, and begin others."""
    ended = ended - begun
    ended -= await sightings_store.still_stated(tx, ended)
    for change, edges in ((graph_store.unlink, ended), (graph_store.link, begun)):
        # In one order, so that two transactions that change the same edges wait for one another.
        await change(tx, sorted(edges, key=lambda one: (one.from_id, one.to_id, one.relation, one.source)), at)


async def relink(tx: Tx, source: Source, entries: Mapping[UUID, tuple[UUID, Found]], at: datetime) -> None:
    """Let sightings bear their names and links: end edges that they say no longer, begin those that they say now, and
    those of others that waited for one of their names.

    Args:
        entries: sighting id -> (its asset, what it says).
    """
    names = await sightings_store.names_of(tx, entries)
    await sightings_store.put_names(tx, {sighting_id: _names(found) for sighting_id, (_, found) in entries.items()})
    names.update(name for _, found in entries.values() for name in _names(found))
    before = await sightings_store.drop_links(tx, entries)
    targets = {link.target for _, found in entries.values() for link in found.links}
    known = {name: bearer.asset_id for name, bearer in (await sightings_store.assets_by_name(tx, targets)).items()}
    kept = [
        # An entry may be merged with what it links to; an asset has no edge to itself.
        KeptLink(sighting_id, source, asset_id, other if (other := known.get(link.target)) != asset_id else None, link)
        for sighting_id, (asset_id, found) in entries.items()
        for link in found.links
    ]
    await sightings_store.add_links(tx, kept)
    after = {edge for one in kept if (edge := one.edge) is not None}
    ended, begun = await sightings_store.resolve_links(tx, names)
    await _change_edges(tx, (before | ended) - after, after | begun, at)


# -- merging and parting ----------------------------------------------------------------------------------------------


async def assign_sighting(
    tx: Tx, caller: Caller, sighting_id: UUID, asset_id: UUID | None, reason: str, at: datetime
) -> Sighting:
    """Say which asset a sighting is: another one (None: one of its own). No later run undoes it, another call does.

    What is said of both assets is settled anew. An asset that discovery had registered and of which no sighting is left
    is retired, its history saying why.

    Raises:
        SightingNotFound, AssetNotFound: it is not there, or not this caller's to see.
        AlreadyItself: the sighting is that asset, or alone on its own.
        WrongState: that asset is retired.
        KeyTaken: an asset of its own would have the registration key of one that exists.
    """
    await sightings_store.lock_intake(tx)
    sighting = await sightings_store.get_sighting(tx, caller, sighting_id)
    before = sighting.asset_id
    if asset_id == before:
        raise AlreadyItself(f"sighting {sighting_id} is asset {asset_id} already")
    if asset_id is None:
        if len((await sightings_store.sightings_of(tx, [before]))[before]) == 1:
            raise AlreadyItself(f"nothing else is asset {before}")
        old = (await assets_store.get(tx, caller, before)).asset
        declared = {"owner_team": old.owner_team, **declared_of(sighting.source, sighting.found)}
        known, created = await register_asset(
            tx, caller, register(uuid_utils.uuid7(), declared, by=caller.subject, at=at)
        )
        if not created:
            raise AlreadyItself(
                f"it has the same registration key as asset {known.asset.asset_id}; give that another name, endpoint "
                "or environment first"
            )
        target = known.asset.asset_id
        why = f"parted from {before} by {caller.subject}: {reason}"
    else:
        if (await assets_store.get(tx, caller, asset_id)).asset.lifecycle is Lifecycle.RETIRED:
            raise WrongState(f"asset {asset_id} is retired")
        target = asset_id
        why = f"merged from {before} by {caller.subject}: {reason}"
    await sightings_store.assign(tx, sighting_id, target, why)
    await relink(tx, sighting.source, {sighting_id: (target, sighting.found)}, at)
    left = await sightings_store.sightings_of(tx, [before, target])
    for each in (before, target):
        current = (await assets_store.get(tx, caller, each)).asset
        changes = settled(current, _testimonies(left[each])) if left[each] else {}
        if changes:
            await amend_asset(tx, caller, each, None, changes, at)
    if not left[before]:
        abandoned = (await assets_store.get(tx, caller, before)).asset
        if abandoned.lifecycle is not Lifecycle.RETIRED and any(one.source for one in abandoned.sources):
            await retire_asset(tx, caller, before, f"merged into {target}: {reason}", at)
    await audit.record(
        tx,
        caller,
        action="discovery.assigned",
        target=str(sighting_id),
        detail={"from": str(before), "to": str(target), "reason": reason},
    )
    return await sightings_store.get_sighting(tx, caller, sighting_id)
