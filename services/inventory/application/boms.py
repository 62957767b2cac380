"""Keeping bills of materials that somebody supplied, and making assets of what they list."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import uuid_utils.compat as uuid_utils

from services.inventory.application import bom_changes
from services.inventory.application.assets import amend_asset, register_asset
from services.inventory.application.cards import renew_card
from services.inventory.domain import bom
from services.inventory.domain.asset import Asset, KeyTaken, WrongState, as_json, register
from services.inventory.domain.bom.components import needs
from services.inventory.domain.bom.reading import Reading
from services.inventory.store import artifacts
from services.inventory.store import assets as assets_store
from services.inventory.store import boms as store
from services.inventory.store.boms import Kept, StoredBom
from shared import audit
from shared.auth import Caller
from shared.contracts.inventory import Lifecycle, Relation
from shared.database import Tx


async def store_bom(
    tx: Tx, caller: Caller, asset_id: UUID, document: dict[str, Any], as_sent: bytes, at: datetime
) -> tuple[StoredBom, bool]:
    """Keep a valid document, in place of any before, and let the asset say that it has one; True when it is the first.

    Raises:
        AssetNotFound, WrongState.
    """
    current = await assets_store.get(tx, caller, asset_id, lock=True)
    if current.asset.lifecycle is Lifecycle.RETIRED:
        raise WrongState("a retired asset gets no new bill of materials")
    stored = StoredBom(
        asset_id=asset_id,
        document=as_sent,
        digest=hashlib.sha256(as_sent).hexdigest(),
        spec_version=str(document["specVersion"]),
        components=len(document.get("components", [])),
        stored_at=at,
        stored_by=caller.subject,
    )
    before = await store.get(tx, asset_id)
    first = await store.put(tx, stored)
    if before is None or before.digest != stored.digest:
        newest = await store.newest(tx, asset_id)
        await bom_changes.keep(
            tx,
            current.asset,
            0 if newest is None else newest.number,
            None if newest is None else newest.parts,
            "supplied",
            bom.parts_of(document),
            at,
            caller.subject,
            document=as_sent,
            spec_version=stored.spec_version,
        )
        await assets_store.touch(tx, [asset_id], at)
        listed = [found for _, _, entry in bom.walk(document) for found in bom.hashes(entry)]
        await artifacts.put_bill(tx, asset_id, "bom", listed)
    await amend_asset(tx, caller, asset_id, None, {"sbom_available": True}, at)
    await audit.record(
        tx,
        caller,
        action="asset.bom_stored",
        target=str(asset_id),
        detail={"sha256": stored.digest, "components": stored.components},
        owner_team=current.asset.owner_team,
    )
    return stored, first


class Outcome(StrEnum):
    """What became of a component that is an asset."""

    CREATED = "created"
    MERGED = "merged"
    UNCHANGED = "unchanged"
    RESTRICTED = "restricted"


@dataclass(slots=True)
class Taken:
    """One component as an asset.

    Attributes:
        filled: attributes that were empty and have a value now, `upstream_assets` where dependencies were added.
        conflicts: attributes of which the document says something else; they stay as they were.
    """

    ref: str
    pointer: str
    name: str
    asset_type: str
    outcome: Outcome
    asset_id: UUID | None = None
    filled: list[str] = field(default_factory=list)
    conflicts: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did."""

    bom_id: UUID
    sha256: str
    spec_version: str
    components: int
    asset_id: UUID | None
    taken: list[Taken]
    dependencies: int
    unattributed: int


_EMPTY = (None, "", (), False)
_NOT_MERGED = frozenset({"name", "asset_type", "sources", "data_classification", "deployment_env", "network_exposure"})


async def import_bom(
    tx: Tx,
    caller: Caller,
    document: Mapping[str, Any],
    as_sent: bytes,
    reading: Reading,
    declared: Mapping[str, Mapping[str, Any]],
    owner_team: str,
    at: datetime,
) -> Imported:
    """Make assets of the components that are some, with their dependencies, and keep the document.

    An asset that exists gets what it lacked; what the document says otherwise is told and changes nothing. Another
    team's asset is neither changed nor shown.

    Args:
        declared: of each of the reading's parts what domain.asset.register takes.
        owner_team: of a document that is of no asset.

    Raises:
        OwnerOutsideTeams, ReviewInFuture, SecretInRecord: of a component.
    """
    digest = hashlib.sha256(as_sent).hexdigest()
    taken: dict[str, Taken] = {}
    targets: dict[str, set[str]] = {key: set() for key in reading.parts}
    for subject, relation, target in reading.edges:
        dependent, needed = needs((subject, relation, target))
        targets[dependent].add(needed)
    for key in _needed_first(targets):
        taken[key] = await _take(tx, caller, reading, key, declared[key], _ids(targets[key], taken), at)
    # What came before the thing that it depends on: circles.
    for key, one in taken.items():
        if one.asset_id is not None:
            await _depend(tx, caller, one, _ids(targets[key], taken), at)
    for key, part in reading.parts.items():
        asset_id = taken[key].asset_id
        if asset_id is None:
            continue
        if part.facts and await renew_card(
            tx, asset_id, part.facts, f"bom:{digest[:16]}#{part.pointer}", at, by=caller.subject
        ):
            _filled(taken[key], "model_card")
        if key != reading.root:
            source = document.get("serialNumber", digest)
            await artifacts.put_bill(tx, asset_id, f"bom:{source}", reading.digests[key])
    root = taken[reading.root].asset_id if reading.root is not None else None
    bom_id = await _keep_document(tx, caller, document, as_sent, digest, root, owner_team, at)
    edges = sum(len(_ids(wanted, taken)) for key, wanted in targets.items() if taken[key].asset_id is not None)
    return Imported(
        bom_id=bom_id,
        sha256=digest,
        spec_version=str(document["specVersion"]),
        components=reading.components,
        asset_id=root,
        taken=[taken[key] for key in reading.parts],
        dependencies=edges,
        unattributed=reading.unattributed,
    )


async def _keep_document(
    tx: Tx,
    caller: Caller,
    document: Mapping[str, Any],
    as_sent: bytes,
    digest: str,
    root: UUID | None,
    owner_team: str,
    at: datetime,
) -> UUID:
    if root is not None:
        await store_bom(tx, caller, root, dict(document), as_sent, at)
        newest = await store.newest(tx, root)
        assert newest is not None
        return newest.bom_id
    parts = bom.parts_of(document)
    bill = Kept(
        bom_id=uuid_utils.uuid7(),
        asset_id=None,
        number=1,
        origin="supplied",
        owner_team=owner_team,
        digest=digest,
        spec_version=str(document["specVersion"]),
        components=len(parts) - ("root" in parts),
        document=as_sent,
        parts=parts,
        stored_at=at,
        stored_by=caller.subject,
    )
    await store.keep(tx, bill)
    await audit.record(
        tx,
        caller,
        action="bom.imported",
        target=str(bill.bom_id),
        detail={"sha256": digest, "components": bill.components},
        owner_team=owner_team,
    )
    return bill.bom_id


def _needed_first(targets: Mapping[str, set[str]]) -> list[str]:
    """The keys so that what is needed comes before what needs it, as far as there are no circles."""
    order: list[str] = []
    state: dict[str, int] = {}
    for start in targets:
        stack = [(start, False)]
        while stack:
            key, done = stack.pop()
            if done:
                order.append(key)
            elif key not in state:
                state[key] = 1
                stack.append((key, True))
                stack.extend((one, False) for one in sorted(targets[key]) if one not in state)
    return order


def _ids(keys: set[str], taken: Mapping[str, Taken]) -> list[UUID]:
    return sorted({found for key in keys if key in taken and (found := taken[key].asset_id) is not None})


async def _take(
    tx: Tx,
    caller: Caller,
    reading: Reading,
    key: str,
    declared: Mapping[str, Any],
    upstream: Sequence[UUID],
    at: datetime,
) -> Taken:
    part = reading.parts[key]
    asset = register(uuid_utils.uuid7(), {**declared, "upstream_assets": tuple(upstream)}, by=caller.subject, at=at)
    one = Taken(key, part.pointer, asset.name, part.asset_type.value, Outcome.CREATED)
    try:
        known, created = await register_asset(tx, caller, asset)
    except KeyTaken:
        one.outcome = Outcome.RESTRICTED
        return one
    one.asset_id = known.asset.asset_id
    if not created:
        one.outcome = Outcome.UNCHANGED
        await _merge(tx, caller, known.asset, asset, declared, one, at)
    return one


async def _merge(
    tx: Tx, caller: Caller, standing: Asset, told: Asset, declared: Mapping[str, Any], one: Taken, at: datetime
) -> None:
    changes: dict[str, Any] = {}
    for name in declared:
        old, new = getattr(standing, name), getattr(told, name)
        if old == new or new in _EMPTY or name in ("upstream_assets", "downstream_assets"):
            continue
        if old in _EMPTY and name not in _NOT_MERGED:
            changes[name] = new
        elif name != "sources":
            one.conflicts.append({"attribute": name, "standing": as_json(old), "document": as_json(new)})
    if changes:
        await amend_asset(tx, caller, standing.asset_id, None, changes, at)
        for name in changes:
            _filled(one, name)


async def _depend(tx: Tx, caller: Caller, one: Taken, upstream: Sequence[UUID], at: datetime) -> None:
    assert one.asset_id is not None
    edges = await store.edges(tx, [one.asset_id])
    there = {target for _, relation, target in edges if relation is Relation.DEPENDS_ON}
    missing = [target for target in upstream if target not in there and target != one.asset_id]
    if missing:
        asset = (await assets_store.get(tx, caller, one.asset_id, lock=True)).asset
        after = tuple(dict.fromkeys((*asset.upstream_assets, *missing)))
        await amend_asset(tx, caller, one.asset_id, None, {"upstream_assets": after}, at)
        _filled(one, "upstream_assets")


def _filled(one: Taken, name: str) -> None:
    if one.outcome is Outcome.UNCHANGED:
        one.outcome = Outcome.MERGED
    if one.outcome is Outcome.MERGED:
        one.filled.append(name)
